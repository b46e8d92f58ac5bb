internal import Glibc
internal import Synchronization
public import SystemPackage

/// How a process ended.
public enum ProcessExit: Sendable, Hashable {
  /// It called `exit` with this code.
  case code(Int32)
  /// This signal ended it.
  case signal(Int32)

  /// Reads a status of `wait(2)`.
  init(status: Int32) {
    self = status & 0x7f == 0 ? .code((status >> 8) & 0xff) : .signal(status & 0x7f)
  }
}

/// What a sandbox has used so far.
public struct SandboxUsage: Sendable, Hashable {
  /// The most memory it ever held, in bytes.
  public var peakMemoryBytes: Int
  /// How often the kernel killed a process of it for want of memory.
  public var outOfMemoryKills: Int
}

/// One blank sandbox: a pid 1 that waits in its own pid, mount, network, IPC and UTS namespaces, with a Runtime API
/// socket that already listens.
///
/// It is used once: `start` runs a program in it, or `Template.restore` brings a snapshot back in it. `terminate`
/// ends everything inside.
public final class Sandbox: Sendable {
  /// Unique within this daemon.
  public let id: UInt64
  /// What it was made from.
  public let specification: SandboxSpecification
  /// The process id of the sandbox's pid 1, as this daemon sees it.
  public let initProcessID: Int32
  /// A pidfd of pid 1: `setns(2)` takes it to enter the namespaces. Owned by the sandbox.
  public let initDescriptor: FileDescriptor
  /// The Runtime API's listening socket (127.0.0.1:9001 inside). Owned by the sandbox; a server duplicates it
  /// (`dup`) before it takes it over.
  public let listener: FileDescriptor
  /// The client's end of a TCP connection made inside to that socket: what a restored process gets in place of the
  /// connection it waited on. Owned by the sandbox.
  public let connection: FileDescriptor
  /// The local port of `connection`: by it the Runtime API server knows which accepted connection this is.
  public let connectionPort: UInt16
  /// The reading end (non-blocking) of the pipe that is standard output and standard error inside. Owned by the
  /// sandbox.
  public let output: FileDescriptor
  /// The writing end of that pipe. Owned by the sandbox.
  public let outputWriter: FileDescriptor
  /// Files of the sandbox's cgroups: a thread that writes "0" to each has joined. Owned by the sandbox.
  public let cgroupTasks: [FileDescriptor]

  /// Peak memory and out-of-memory kills; empty where the host has no memory cgroup.
  private let measures: [FileDescriptor]
  /// Takes the CPU limit; nil where the host has no CPU cgroup.
  private let quota: FileDescriptor?
  private let jailer: Jailer
  private struct State: Sendable {
    var isOpen = true
    var exit: ProcessExit?
    var waiting: [CheckedContinuation<ProcessExit, Never>] = []
  }
  private let state = Mutex(State())

  init(reply: Jailer.Reply, specification: SandboxSpecification, jailer: Jailer) {
    id = reply.sandbox
    self.specification = specification
    self.jailer = jailer
    initProcessID = reply.process
    connectionPort = reply.port
    let descriptors = reply.descriptors
    initDescriptor = descriptors[0]
    listener = descriptors[1]
    connection = descriptors[2]
    output = descriptors[3]
    outputWriter = descriptors[4]
    cgroupTasks = Array(descriptors[5..<5 + reply.cgroups])
    let rest = descriptors[(5 + reply.cgroups)...]
    measures = reply.hasMemory ? Array(rest.prefix(2)) : []
    quota = reply.hasCPU ? rest.last : nil
  }

  deinit { closeDescriptors() }

  /// Starts the sandbox's first program as its unprivileged user, standard output and error into `output`, and
  /// answers its process id as this daemon sees it.
  public func start(arguments: [String], environment: [String], workingDirectory: FilePath) async throws -> Int32 {
    try await jailer.start(
      sandbox: id, arguments: arguments, environment: environment, workingDirectory: workingDirectory)
  }

  /// Tells the sandbox that a process (a restored one) belongs to it, so that its end is reported through
  /// `waitForExit`.
  public func adopt(processID: Int32) {
    jailer.adopt(processID, by: self)
  }

  /// Waits until the first program (started or adopted) has ended. Returns at once if it has.
  public func waitForExit() async -> ProcessExit {
    await withCheckedContinuation { continuation in
      let exit: ProcessExit? = state.withLock { state in
        if state.exit == nil { state.waiting.append(continuation) }
        return state.exit
      }
      if let exit { continuation.resume(returning: exit) }
    }
  }

  /// The first end that is reported counts: the program's, or, if that came first, pid 1's.
  func ended(status: Int32) {
    let exit = ProcessExit(status: status)
    let waiting = state.withLock { state -> [CheckedContinuation<ProcessExit, Never>] in
      guard state.exit == nil else { return [] }
      state.exit = exit
      defer { state.waiting = [] }
      return state.waiting
    }
    for continuation in waiting { continuation.resume(returning: exit) }
  }

  /// What has been used so far; zeros where the host has no memory cgroup.
  public func usage() -> SandboxUsage {
    let texts = state.withLock { state in state.isOpen ? measures.map(Sandbox.text) : [] }
    guard texts.count == 2 else { return SandboxUsage(peakMemoryBytes: 0, outOfMemoryKills: 0) }
    let kills = texts[1].split(separator: "\n").first { $0.hasPrefix("oom_kill ") }?.split(separator: " ").last
    return SandboxUsage(
      peakMemoryBytes: Int(texts[0].prefix { $0 != "\n" }) ?? 0, outOfMemoryKills: kills.flatMap { Int($0) } ?? 0)
  }

  /// Puts the specification's CPU limit in force; until then the sandbox has whole CPUs.
  public func limitCPU() {
    let microseconds = max(1000, Int(specification.cpus * 100_000))
    state.withLock { state in
      guard state.isOpen, let quota else { return }
      // cpu.max (v2) takes the period beside the quota; cpu.cfs_quota_us (v1) refuses two numbers.
      let written = try? quota.writeAll(Array("\(microseconds) 100000".utf8))
      if written == nil { _ = try? quota.writeAll(Array("\(microseconds)".utf8)) }
    }
  }

  private static func text(_ file: FileDescriptor) -> String {
    var buffer = [UInt8](repeating: 0, count: 512)
    let count = (try? buffer.withUnsafeMutableBytes { try file.read(fromAbsoluteOffset: 0, into: $0) }) ?? 0
    return String(decoding: buffer[..<count], as: UTF8.self)
  }

  /// Kills everything inside and waits until nothing is left: processes, mounts, cgroups, descriptors. May be
  /// called again.
  public func terminate() async {
    await jailer.terminate(sandbox: id)
    ended(status: 9)
    closeDescriptors()
  }

  private func closeDescriptors() {
    let close = state.withLock { state in
      defer { state.isOpen = false }
      return state.isOpen
    }
    guard close else { return }
    for descriptor in [initDescriptor, listener, connection, output, outputWriter] + cgroupTasks + measures
      + [quota].compactMap({ $0 })
    {
      try? descriptor.close()
    }
  }
}
