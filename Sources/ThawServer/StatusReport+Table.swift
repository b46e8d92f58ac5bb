internal import Foundation

extension StatusReport {
  /// The snapshots as lines of a table, warnings below.
  public func table() -> [String] {
    let now = Date()
    guard !snapshots.isEmpty else {
      return ["no snapshots yet: publish a version of a function with SnapStart ApplyOn=PublishedVersions"]
    }
    var lines = [
      "FUNCTION             VERSION  SIZE       PAGES    THREADS  AGE      COPIED AHEAD  ARMED  RESTORES  LAST RESTORE"
    ]
    for snapshot in snapshots.sorted(by: { ($0.function, $0.version) < ($1.function, $1.version) }) {
      let last =
        snapshot.lastRestore.flatMap { last in
          last["firstNext"].map { String(format: "%.2f ms", $0 / 1000) + (last["armed"] == 1 ? " (armed)" : "") }
        } ?? "-"
      let ahead = snapshot.workingSetBytes > 0 ? String(format: "%.1f MB", Double(snapshot.workingSetBytes) / 1e6) : "-"
      lines.append(
        snapshot.function.padded(21) + snapshot.version.padded(9)
          + String(format: "%.1f MB", Double(snapshot.bytes) / 1e6).padded(11) + "\(snapshot.pages)".padded(9)
          + "\(snapshot.threads)".padded(9) + StatusReport.age(now.timeIntervalSince1970 - snapshot.created).padded(9)
          + ahead.padded(14) + "\(snapshot.armed)".padded(7) + "\(snapshot.restores)".padded(10) + last)
      lines += snapshot.warnings.map { "  warning: \($0)" }
    }
    return lines
  }

  private static func age(_ seconds: Double) -> String {
    switch seconds {
    case ..<120: "\(Int(max(0, seconds))) s"
    case ..<7200: "\(Int(seconds / 60)) min"
    case ..<172_800: "\(Int(seconds / 3600)) h"
    default: "\(Int(seconds / 86400)) d"
    }
  }
}
