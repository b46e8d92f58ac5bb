import Foundation
import Linux
import Logging
import Sandbox
import SystemPackage

struct SandboxBenchError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// A jailer, a directory for its root, and what tests do with sandboxes over and over.
final class SandboxBench: Sendable {
  let jailer: Jailer
  let directory: FilePath
  let instance: String
  let logger = Logger(label: "test")

  /// Where `make native` puts thaw-jailer: `$THAW_JAILER` names the program, `$THAW_BIN` its directory.
  static let executable: FilePath = {
    let environment = ProcessInfo.processInfo.environment
    let candidates = [
      environment["THAW_JAILER"], environment["THAW_BIN"].map { "\($0)/thaw-jailer" }, ".build/debug/thaw-jailer",
      ".build/release/thaw-jailer",
    ]
    return FilePath(
      candidates.compactMap { $0 }.first { FileManager.default.fileExists(atPath: $0) } ?? ".build/release/thaw-jailer")
  }()

  static var isPossible: Bool { getuid() == 0 && FileManager.default.fileExists(atPath: executable.string) }

  init(instance: String = "test-\(UUID().uuidString.prefix(8))") async throws {
    self.instance = instance
    directory = FilePath(FileManager.default.temporaryDirectory.path).appending("thaw-sandbox-\(UUID().uuidString)")
    try FileManager.default.createDirectory(
      atPath: directory.appending("root").string, withIntermediateDirectories: true)
    jailer = try await Jailer.launch(
      executable: SandboxBench.executable, rootDirectory: directory.appending("root"), instance: instance,
      logger: logger)
  }

  /// Runs `body` with a jailer that is gone afterwards, whatever happens.
  static func with(_ body: @Sendable (SandboxBench) async throws -> Void) async throws {
    let bench = try await SandboxBench()
    do { try await body(bench) } catch {
      await bench.end()
      throw error
    }
    await bench.end()
  }

  func end() async {
    await jailer.shutdown()
    try? FileManager.default.removeItem(atPath: directory.string)
  }

  /// Small limits, so that they are reached soon.
  static var small: SandboxSpecification {
    SandboxSpecification(mounts: [], temporaryBytes: 8 << 20, memoryBytes: 48 << 20, maximumTasks: 48)
  }

  /// Starts a Python program in a new sandbox.
  func python(_ script: String, _ specification: SandboxSpecification = small) async throws -> Sandbox {
    let sandbox = try await jailer.makeSandbox(specification)
    _ = try await SandboxBench.python(script, in: sandbox)
    return sandbox
  }

  static func python(_ script: String, in sandbox: Sandbox) async throws -> Int32 {
    try await sandbox.start(
      arguments: ["/usr/bin/python3", "-S", "-c", script], environment: ["PATH=/usr/bin:/bin", "LANG=C.UTF-8"],
      workingDirectory: "/tmp")
  }

  /// Runs a Python program to its end: how it ended and what it printed.
  func run(
    _ script: String, _ specification: SandboxSpecification = small
  ) async throws -> (exit: ProcessExit, output: String) {
    let sandbox = try await python(script, specification)
    let exit = await sandbox.waitForExit()
    let output = SandboxBench.output(sandbox)
    await sandbox.terminate()
    return (exit, output)
  }

  /// Lines of "name value" that a program printed.
  func facts(_ script: String, _ specification: SandboxSpecification = small) async throws -> [String: String] {
    let (exit, output) = try await run(script, specification)
    guard exit == .code(0) else { throw SandboxBenchError("it ended with \(exit): \(output)") }
    return SandboxBench.facts(output)
  }

  static func facts(_ output: String) -> [String: String] {
    var facts: [String: String] = [:]
    for line in output.split(separator: "\n") {
      let parts = line.split(separator: " ", maxSplits: 1)
      facts[String(parts[0])] = parts.count > 1 ? String(parts[1]) : ""
    }
    return facts
  }

  /// What waits in the output pipe (at most its 64 KB).
  static func output(_ sandbox: Sandbox) -> String {
    var buffer = [UInt8](repeating: 0, count: 65536)
    let count = (try? buffer.withUnsafeMutableBytes { try sandbox.output.read(into: $0) }) ?? 0
    return String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// Waits for a line of a program that goes on.
  static func line(_ sandbox: Sandbox) async throws -> String {
    try await blocking {
      var bytes: [UInt8] = []
      while bytes.last != 10 {
        var item = pollfd(fd: sandbox.output.rawValue, events: Int16(POLLIN), revents: 0)
        guard poll(&item, 1, 20000) == 1 else {
          throw SandboxBenchError("no line came: '\(String(decoding: bytes, as: UTF8.self))'")
        }
        var byte: [UInt8] = [0]
        _ = try byte.withUnsafeMutableBytes { try sandbox.output.read(into: $0) }
        bytes += byte
      }
      return String(decoding: bytes.dropLast(), as: UTF8.self)
    }
  }

  /// Accepts the next connection to a sandbox's listener.
  static func accept(_ sandbox: Sandbox) async throws -> (connection: FileDescriptor, port: UInt16) {
    try await blocking {
      var item = pollfd(fd: sandbox.listener.rawValue, events: Int16(POLLIN), revents: 0)
      guard poll(&item, 1, 20000) == 1 else { throw SandboxBenchError("nobody connected: \(output(sandbox))") }
      var address = sockaddr_in()
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      let connection = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.accept(sandbox.listener.rawValue, $0, &length) }
      }
      guard connection >= 0 else { throw SandboxBenchError("accept: errno \(errno)") }
      return (FileDescriptor(rawValue: connection), UInt16(bigEndian: address.sin_port))
    }
  }

  /// Directories of this instance in the cgroup file systems: its own, and one for each sandbox and controller.
  var cgroups: [String] {
    let found = ["/sys/fs/cgroup", "/sys/fs/cgroup/memory", "/sys/fs/cgroup/cpu", "/sys/fs/cgroup/pids"].flatMap {
      root in
      FileManager.default.enumerator(at: URL(fileURLWithPath: root), includingPropertiesForKeys: nil)?
        .compactMap { ($0 as? URL)?.path } ?? []
    }
    return Set(
      found.filter { path in
        var isDirectory: ObjCBool = false
        return path.contains("thaw-\(instance)")
          && FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory)
          && isDirectory.boolValue
      }
    ).sorted()
  }

  static func isAlive(_ process: Int32) -> Bool { kill(process, 0) == 0 }

  static func parent(of process: Int32) throws -> Int32 {
    let status = try String(contentsOfFile: "/proc/\(process)/status", encoding: .utf8)
    let line = status.split(separator: "\n").first { $0.hasPrefix("PPid:") }
    guard let parent = line?.split(separator: "\t").last.flatMap({ Int32($0) }) else {
      throw SandboxBenchError("/proc/\(process)/status has no parent")
    }
    return parent
  }

  /// What a process has open, by number.
  static func descriptors(of process: Int32) -> [String] {
    let directory = "/proc/\(process)/fd"
    return ((try? FileManager.default.contentsOfDirectory(atPath: directory)) ?? []).sorted().map {
      "\($0) \((try? FileManager.default.destinationOfSymbolicLink(atPath: "\(directory)/\($0)")) ?? "?")"
    }
  }

  /// Waits until a sandbox's pid 1 has ended, whoever reaps it.
  static func waitForEnd(_ sandbox: Sandbox) async throws {
    try await blocking {
      var item = pollfd(fd: sandbox.initDescriptor.rawValue, events: Int16(POLLIN), revents: 0)
      guard poll(&item, 1, 20000) == 1 else {
        throw SandboxBenchError("process \(sandbox.initProcessID) does not end")
      }
    }
  }
}

/// Runs something that blocks on a thread of its own.
func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    BlockingThread.start(name: "test") { continuation.resume(with: Result { try body() }) }
  }
}
