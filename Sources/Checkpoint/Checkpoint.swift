internal import Crypto
internal import Dispatch
internal import Glibc
internal import Linux
public import SnapshotFormat
public import SystemPackage

/// A descriptor that a restored process does not get back as it was but is given anew: the log pipe, the connection
/// on which it waits.
public struct SuppliedDescriptor: Sendable, Hashable {
  /// How it is found in the process.
  public enum Identity: Sendable, Hashable {
    /// A pipe with this inode (see `fstat(2)` of the other end).
    case pipe(inode: UInt64)
    /// A TCP socket with this local port.
    case tcp(localPort: UInt16)
  }
  /// What it is for.
  public var role: SuppliedRole
  /// How it is found.
  public var identity: Identity

  /// Says that the descriptor found by `identity` plays `role`.
  public init(role: SuppliedRole, identity: Identity) {
    self.role = role
    self.identity = identity
  }
}

/// What taking a snapshot cost.
public struct CheckpointTimings: Sendable {
  /// From the request until the process was quiet.
  public var quiesce: Duration
  /// How long the process was stopped.
  public var frozen: Duration
  /// From the request until everything was on the disk.
  public var total: Duration
}

/// Freezes a sandboxed process, and writes what is needed to make it again.
public enum Checkpoint {
  /// Waits until the process is quiet, stops it, and writes `manifest`, `image` and (if /tmp was not empty) `tmp/`
  /// into `directory`, synced. The process
  /// goes on afterwards.
  ///
  /// - Parameters:
  ///   - processID: the sandbox's first program, as this daemon sees it.
  ///   - initProcessID: the sandbox's pid 1, which is not part of the snapshot.
  ///   - supplied: descriptors that every restored process is given anew.
  ///   - directory: an existing, empty directory.
  /// - Throws: a refusal that names the process, descriptor or mapping; or what failed.
  public static func take(
    processID: Int32, initProcessID: Int32, supplied: [SuppliedDescriptor], directory: FilePath
  ) async throws(CheckpointError) -> (manifest: SnapshotManifest, timings: CheckpointTimings) {
    let clock = ContinuousClock()
    let start = clock.now
    try await Quiescence.wait(process: processID)
    let quiet = clock.now
    // ptrace belongs to one thread: the whole of it happens in one block.
    let outcome: Result<(SnapshotManifest, Duration), CheckpointError> = await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        do {
          continuation.resume(
            returning: .success(
              try collect(
                processID: processID, initProcessID: initProcessID, supplied: supplied, directory: directory)))
        } catch {
          continuation.resume(returning: .failure(CheckpointError(wrapping: error)))
        }
      }
    }
    let (manifest, frozen) = try outcome.get()
    return (manifest, CheckpointTimings(quiesce: quiet - start, frozen: frozen, total: clock.now - start))
  }

  private static func collect(
    processID: Int32, initProcessID: Int32, supplied: [SuppliedDescriptor], directory: FilePath
  ) throws -> (SnapshotManifest, Duration) {
    let clock = ContinuousClock()
    let start = clock.now
    let process = try FrozenProcess.freeze(processID: processID)
    try refuseCompany(processID: processID, initProcessID: initProcessID)
    if let object = try SystemVObjects.all(of: processID).first {
      throw CheckpointError.refused("the sandbox of process \(processID) has \(object), which cannot be brought back")
    }
    var descriptors = try DescriptorCollection(process: processID, supplied: supplied)
    var objects = try SharedObjectCollection(process: processID)
    let open = try descriptors.collect(&objects)
    let lowest = RestorerRegion.end
    var memory = MemoryCollection(
      image: try ImageWriter(path: directory.appending("image")), lowestAddress: lowest)
    try memory.collect(process, objects: &objects)
    try memory.collect(&objects)
    var state = try ProcessState(
      process, mappings: memory.mappings, library: memory.library, descriptors: open,
      initProcessID: initProcessID)
    state.objects = objects.objects
    state.fileLocks = descriptors.locks
    let files = memory.files
    let temporary = "/proc/\(processID)/root/tmp"
    if try !DirectoryCopy.names(in: temporary).isEmpty {
      let copy = directory.appending("tmp")
      try makeDirectory(copy)
      try DirectoryCopy.copyContents(of: temporary, to: copy.string)
    }
    let vdsoDigest = Array(SHA256.hash(data: process.vdso))
    let clocks = try ClockReadings(ofProcess: processID)
    _ = consume process
    let frozen = clock.now - start
    let (bytes, digest) = try memory.finish()
    let manifest = SnapshotManifest(
      compatibility: Compatibility(
        kernelRelease: try Kernel.release(), vectorFeatures: Kernel.vectorFeatures, vdsoDigest: vdsoDigest,
        files: files),
      process: state, clocks: clocks, imageBytes: bytes, imageDigest: digest, warnings: descriptors.warnings)
    let path = directory.appending("manifest")
    let file = try FileDescriptor.open(
      path, .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: [.ownerReadWrite])
    try file.closeAfter { _ = try file.writeAll(manifest.encode()) }
    try Durability.synchronize(path)
    try Durability.synchronize(directory)
    return (manifest, frozen)
  }

  /// Only one process is brought back yet: children, and processes beside it in the sandbox, are refused by name.
  private static func refuseCompany(processID: Int32, initProcessID: Int32) throws {
    func refuse(_ child: Substring, _ relation: String) -> CheckpointError {
      let name = (try? ProcessFiles.text("/proc/\(child)/comm"))?.split(separator: "\n").first ?? "?"
      return .refused("process \(child) (\(name)) \(relation): process trees are not brought back yet")
    }
    for thread in try ProcessFiles.numbers(in: "/proc/\(processID)/task") {
      let children = try ProcessFiles.text("/proc/\(processID)/task/\(thread)/children")
      if let child = children.split(separator: " ").first { throw refuse(child, "is a child of the runtime") }
    }
    let siblings = try ProcessFiles.text("/proc/\(initProcessID)/task/\(initProcessID)/children")
    for sibling in siblings.split(separator: " ") where sibling != "\(processID)" {
      throw refuse(sibling, "runs beside the runtime")
    }
  }

  private static func makeDirectory(_ path: FilePath) throws {
    guard mkdir(path.string, 0o755) == 0 else {
      throw SystemCallError(call: "mkdir", subject: path.string, errno: Errno(rawValue: errno))
    }
  }
}

/// Why no snapshot could be taken.
public struct CheckpointError: Error, Sendable, CustomStringConvertible {
  /// The kind of failure.
  public enum Code: Sendable, Hashable {
    /// The process holds something that cannot be brought back; the message names it.
    case refused
    /// The process did not become quiet in time.
    case notQuiet
    /// The process ended meanwhile.
    case processEnded
    /// A system call failed.
    case system
  }
  /// The kind of failure.
  public var code: Code
  /// What happened, for a person.
  public var message: String

  /// An error with its message.
  public init(code: Code, message: String) {
    self.code = code
    self.message = message
  }

  public var description: String { message }
}
