internal import Glibc
internal import Synchronization
public import SystemPackage

/// The log of one version of a function: the file `logs/NAME/VERSION.log`, to which all its environments write
/// whole lines.
public final class FunctionLog: Sendable {
  /// At this size, in bytes, the file becomes `VERSION.log.1` and a new one is begun.
  public static let rotationBytes = 16 << 20

  /// The file.
  public let path: FilePath
  private struct State: Sendable {
    var file: FileDescriptor?
    var bytes = 0
  }
  private let state = Mutex(State())

  /// The file of a version's log below `directory`.
  public static func path(directory: FilePath, function: String, version: String) -> FilePath {
    directory.appending(function).appending("\(version == "$LATEST" ? "LATEST" : version).log")
  }

  /// A log in `directory`, whose file is made with the first line.
  public init(directory: FilePath, function: String, version: String) {
    path = FunctionLog.path(directory: directory, function: function, version: version)
  }

  deinit { state.withLock { try? $0.file?.close() } }

  /// Appends lines, each with the time before it. A disk that is full loses lines, not invocations.
  func append(_ lines: [ArraySlice<UInt8>], environment: String) {
    guard !lines.isEmpty else { return }
    let stamp = Array("\(LogTime.now()) \(environment) ".utf8)
    var bytes: [UInt8] = []
    for line in lines {
      bytes += stamp
      bytes += line
      bytes.append(10)
    }
    state.withLock { state in
      if state.file == nil || state.bytes > FunctionLog.rotationBytes { reopen(&state) }
      guard let file = state.file else { return }
      _ = try? file.writeAll(bytes)
      state.bytes += bytes.count
    }
  }

  private func reopen(_ state: inout State) {
    try? state.file?.close()
    state.file = nil
    if state.bytes > FunctionLog.rotationBytes { rename(path.string, path.string + ".1") }
    let directory = path.removingLastComponent()
    mkdir(directory.removingLastComponent().string, 0o755)
    mkdir(directory.string, 0o755)
    state.file = try? FileDescriptor.open(
      path, .writeOnly, options: [.create, .append, .closeOnExec],
      permissions: [.ownerReadWrite, .groupRead, .otherRead])
    state.bytes = Int((try? state.file?.seek(offset: 0, from: .end)) ?? 0)
  }
}

/// Times as logs show them.
public enum LogTime {
  /// Now in UTC with milliseconds, `2026-11-24T12:00:00.000Z`.
  public static func now() -> String {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    var parts = tm()
    gmtime_r(&time.tv_sec, &parts)
    func pad(_ value: some BinaryInteger, _ width: Int = 2) -> String {
      let text = String(value)
      return String(repeating: "0", count: max(0, width - text.utf8.count)) + text
    }
    return "\(pad(parts.tm_year + 1900, 4))-\(pad(parts.tm_mon + 1))-\(pad(parts.tm_mday))T"
      + "\(pad(parts.tm_hour)):\(pad(parts.tm_min)):\(pad(parts.tm_sec)).\(pad(time.tv_nsec / 1_000_000, 3))Z"
  }
}

/// What one execution environment prints and what the platform says about it.
public final class EnvironmentLog: Sendable {
  /// The longest line that is kept whole, in bytes.
  public static let longestLine = 256 << 10
  /// How much of an invocation's log goes back to the client: 4 KB (Lambda's `LogType=Tail`).
  public static let tailBytes = 4096

  private struct State: Sendable {
    var partial: [UInt8] = []
    var tail: [UInt8]?
  }
  private let state = Mutex(State())
  private let log: FunctionLog
  private let environment: String

  /// A log of the environment named `environment` in its version's file.
  public init(log: FunctionLog, environment: String) {
    self.log = log
    self.environment = environment
  }

  /// Takes what the function printed.
  public func append(_ bytes: some Collection<UInt8>) {
    let lines = state.withLock { state -> [ArraySlice<UInt8>] in
      state.partial.append(contentsOf: bytes)
      var lines: [ArraySlice<UInt8>] = []
      var start = 0
      while let end = state.partial[start...].firstIndex(of: 10) {
        lines.append(state.partial[start..<end])
        start = end + 1
      }
      if start == 0, state.partial.count > EnvironmentLog.longestLine {
        lines.append(state.partial[...])
        start = state.partial.count
      }
      state.partial.removeFirst(start)
      keep(lines, &state)
      return lines
    }
    log.append(lines, environment: environment)
  }

  /// Takes lines of the platform.
  public func write(_ lines: String...) {
    let slices = lines.map { Array($0.utf8)[...] }
    state.withLock { keep(slices, &$0) }
    log.append(slices, environment: environment)
  }

  /// From here on the tail is kept.
  public func beginInvocation() { state.withLock { $0.tail = [] } }

  /// The last 4 KB since ``beginInvocation()``.
  public func endInvocation() -> [UInt8] {
    let rest = state.withLock { state -> [ArraySlice<UInt8>] in
      guard !state.partial.isEmpty else { return [] }
      defer { state.partial = [] }
      let lines = [state.partial[...]]
      keep(lines, &state)
      return lines
    }
    log.append(rest, environment: environment)
    return state.withLock { state in
      defer { state.tail = nil }
      return state.tail ?? []
    }
  }

  private func keep(_ lines: [ArraySlice<UInt8>], _ state: inout State) {
    guard state.tail != nil else { return }
    for line in lines {
      state.tail?.append(contentsOf: line)
      state.tail?.append(10)
    }
    if let count = state.tail?.count, count > EnvironmentLog.tailBytes {
      state.tail?.removeFirst(count - EnvironmentLog.tailBytes)
    }
  }
}
