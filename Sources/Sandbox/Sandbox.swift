public import SystemPackage

/// How a process ended.
public enum ProcessExit: Sendable, Hashable {
  /// It called `exit` with this code.
  case code(Int32)
  /// This signal ended it.
  case signal(Int32)
}

/// What a sandbox has used so far.
public struct SandboxUsage: Sendable, Hashable {
  /// The most memory it ever held, in bytes.
  public var peakMemoryBytes: Int
  /// How often the kernel killed a process of it for want of memory.
  public var outOfMemoryKills: Int
}

/// One blank sandbox: a pid 1 that waits in its own pid, mount, network, IPC and UTS namespaces, with a Runtime API socket that already listens.
///
/// It is used once: `start` runs a program in it, or `Template.restore` brings a snapshot back in it. `terminate` ends everything inside.
public final class Sandbox: Sendable {
  /// Unique within this daemon.
  public let id: UInt64
  /// What it was made from.
  public let specification: SandboxSpecification
  /// The process id of the sandbox's pid 1, as this daemon sees it.
  public let initProcessID: Int32
  /// A pidfd of pid 1: `setns(2)` takes it to enter the namespaces. Owned by the sandbox.
  public let initDescriptor: FileDescriptor
  /// The Runtime API's listening socket (127.0.0.1:9001 inside). Owned by the sandbox; a server duplicates it (`dup`) before it takes it over.
  public let listener: FileDescriptor
  /// The client's end of a TCP connection made inside to that socket: what a restored process gets in place of the connection it waited on. Owned by the sandbox.
  public let connection: FileDescriptor
  /// The local port of `connection`: by it the Runtime API server knows which accepted connection this is.
  public let connectionPort: UInt16
  /// The reading end (non-blocking) of the pipe that is standard output and standard error inside. Owned by the sandbox.
  public let output: FileDescriptor
  /// The writing end of that pipe. Owned by the sandbox.
  public let outputWriter: FileDescriptor
  /// Files of the sandbox's cgroups: a thread that writes "0" to each has joined. Owned by the sandbox.
  public let cgroupTasks: [FileDescriptor]

  init() { fatalError("the jailer's client makes these") }

  /// Starts the sandbox's first program as its unprivileged user, standard output and error into `output`, and answers its process id as this daemon sees it.
  public func start(arguments: [String], environment: [String], workingDirectory: FilePath) async throws -> Int32 {
    fatalError("not built yet")
  }

  /// Tells the sandbox that a process (a restored one) belongs to it, so that its end is reported through `waitForExit`.
  public func adopt(processID: Int32) {}

  /// Waits until the first program (started or adopted) has ended. Returns at once if it has.
  public func waitForExit() async -> ProcessExit { fatalError("not built yet") }

  /// What has been used so far.
  public func usage() throws -> SandboxUsage { fatalError("not built yet") }

  /// Kills everything inside and waits until nothing is left: processes, mounts, cgroups, descriptors. May be called again.
  public func terminate() async {}
}
