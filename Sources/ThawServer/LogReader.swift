internal import Foundation
internal import SystemPackage

/// Reads the logs of a function, also while they grow.
public enum LogReader {
  /// Prints the lines of all versions of a function, by time; with `follow` it goes on until it is ended.
  public static func read(_ data: DataDirectory, function: String, follow: Bool, _ print: (String) -> Void) async throws
  {
    let directory = data.logs.appending(function)
    func files() -> [String] {
      ((try? FileManager.default.contentsOfDirectory(atPath: directory.string)) ?? []).sorted()
    }
    guard !files().isEmpty || follow else {
      throw StartError("there are no logs of \(function) in \(data.logs): it has not run yet, or has another name")
    }
    var positions: [String: UInt64] = [:]
    repeat {
      var lines: [Substring] = []
      for name in files() where name.hasSuffix(".log") || !follow {
        guard let file = FileHandle(forReadingAtPath: directory.appending(name).string) else { continue }
        defer { try? file.close() }
        let size = try file.seekToEnd()
        // A smaller file is a new one.
        let start = positions[name].map { $0 <= size ? $0 : 0 } ?? 0
        try file.seek(toOffset: start)
        let new = try file.readToEnd() ?? Data()
        // Only whole lines; the rest is read when it is whole.
        let end = new.lastIndex(of: 10).map { $0 + 1 } ?? 0
        positions[name] = start + UInt64(end)
        lines += String(decoding: new.prefix(end), as: UTF8.self).split(separator: "\n")
      }
      for line in lines.sorted(by: { $0.prefix(24) < $1.prefix(24) }) { print(String(line)) }
      if follow { try await Task.sleep(for: .milliseconds(200)) }
    } while follow
  }
}
