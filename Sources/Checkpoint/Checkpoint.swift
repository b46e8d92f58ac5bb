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

/// Freezes the processes of a sandbox, and writes what is needed to make them again.
public enum Checkpoint {
  /// Waits until the processes are quiet, stops them, and writes `manifest`, `image` and (if /tmp was not empty) `tmp/`
  /// into `directory`, synced. They go on
  /// afterwards.
  ///
  /// - Parameters:
  ///   - processID: the sandbox's first program, as this daemon sees it. Whatever it has started is part of the
  ///     snapshot.
  ///   - initProcessID: the sandbox's pid 1, which is not part of the snapshot.
  ///   - supplied: descriptors that every restored process is given anew.
  ///   - directory: an existing, empty directory.
  ///   - quiescenceLimit: how long to wait until the processes are quiet; what is still busy then is frozen at its work.
  /// - Throws: a refusal that names the process, descriptor or mapping; or what failed.
  public static func take(
    processID: Int32, initProcessID: Int32, supplied: [SuppliedDescriptor], directory: FilePath,
    quiescenceLimit: Duration = .seconds(10)
  ) async throws(CheckpointError) -> (manifest: SnapshotManifest, timings: CheckpointTimings) {
    let clock = ContinuousClock()
    let start = clock.now
    // It is there by the time that the process has been seen to be quiet.
    let image = ConcurrentWork<Never, ImageWriter> { _ in
      let processes = FrozenTree.processIDs(runtime: processID, initProcessID: initProcessID)
      return try ImageWriter(
        path: directory.appending("image"), expecting: processes.reduce(0) { $0 + ProcessStatistics.ownMemory(of: $1) })
    }
    let busy: String?
    do {
      busy = try await Quiescence.wait(runtime: processID, initProcessID: initProcessID, limit: quiescenceLimit)
    } catch {
      // The directory is the caller's again.
      await withCheckedContinuation { continuation in
        DispatchQueue.global().async {
          image.abandon()
          continuation.resume()
        }
      }
      throw error
    }
    let quiet = clock.now
    // ptrace belongs to one thread: the whole of it happens in one block.
    let outcome: Result<(SnapshotManifest, Duration), CheckpointError> = await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        do {
          continuation.resume(
            returning: .success(
              try collect(
                processID: processID, initProcessID: initProcessID, supplied: supplied, into: image,
                directory: directory, warnings: [busy].compactMap(\.self))))
        } catch {
          continuation.resume(returning: .failure(CheckpointError(wrapping: error)))
        }
      }
    }
    let (manifest, frozen) = try outcome.get()
    return (manifest, CheckpointTimings(quiesce: quiet - start, frozen: frozen, total: clock.now - start))
  }

  private static func collect(
    processID: Int32, initProcessID: Int32, supplied: [SuppliedDescriptor],
    into image: ConcurrentWork<Never, ImageWriter>, directory: FilePath, warnings: [String]
  ) throws -> (SnapshotManifest, Duration) {
    let image = try image.value()
    let clock = ContinuousClock()
    let start = clock.now
    // The disk takes the pages while the rest is read.
    let pages = ConcurrentWork<[PageCollection], [[UInt64: PageCollection.Pages]]> { work in
      image.isAbandoned = { work.isAbandoned }
      return try work.input().map { try $0.collect(into: image) }
    }
    let tree: FrozenTree
    var collected: Collected
    let clocks: ClockReadings
    var synchronize = Durability.synchronize(_:)
    do {
      tree = try FrozenTree.freeze(runtime: processID, initProcessID: initProcessID)
    } catch {
      pages.abandon()
      throw error
    }
    do {
      if let object = try SystemVObjects.all(of: processID).first {
        throw CheckpointError.refused(
          "the sandbox of \(ProcessStatistics.title(of: processID)) has \(object), which cannot be brought back")
      }
      for process in tree.processes { try onOneProcessor(process) { try process.prepare() } }
      let sources = tree.processes.map { PageCollection($0) }
      // Without a page of their own, answers of system calls change the memory that is read.
      let isUntouched = tree.processes.allSatisfy { $0.scratch != 0 }
      if isUntouched { pages.begin(sources) }
      collected = try collect(tree, supplied: supplied, initProcessID: initProcessID)
      if !isUntouched { pages.begin(sources) }
      let temporary = "/proc/\(processID)/root/tmp"
      if try !DirectoryCopy.names(in: temporary).isEmpty {
        let copy = directory.appending("tmp")
        try makeDirectory(copy)
        try DirectoryCopy.copyContents(of: temporary, to: copy.string)
        synchronize = Durability.synchronizeFileSystem(of:)
      }
      clocks = try ClockReadings(ofProcess: processID)
    } catch {
      // Nothing reads what has been let go.
      pages.abandon()
      // What is gone looks like much that cannot be brought back.
      for process in tree.processes { try process.checkIsWhole() }
      throw error
    }
    for (index, pages) in try pages.value().enumerated() {
      collected.processes[index].mappings = collected.processes[index].mappings.map { $0.filled(with: pages[$0.start]) }
    }
    try collected.objects.write(to: image)
    for process in tree.processes { try process.checkIsWhole() }
    let vdsoDigest = Array(SHA256.hash(data: tree.processes[0].vdso))
    tree.letGo()
    let frozen = clock.now - start
    let (bytes, digest) = try image.end()
    var manifest = SnapshotManifest(
      compatibility: Compatibility(
        kernelRelease: try Kernel.release(), vectorFeatures: Kernel.vectorFeatures, vdsoDigest: vdsoDigest,
        files: collected.files),
      processes: collected.processes, clocks: clocks, imageBytes: bytes, imageDigest: digest,
      warnings: warnings + collected.warnings)
    manifest.zombies = collected.zombies
    manifest.objects = collected.objects.objects
    let path = directory.appending("manifest")
    let file = try FileDescriptor.open(
      path, .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: [.ownerReadWrite])
    try file.closeAfter { _ = try file.writeAll(manifest.encode()) }
    // A journal is written once for all that has been written by then.
    try image.wait()
    try Durability.synchronize(path)
    try image.synchronize()
    try synchronize(directory)
    return (manifest, frozen)
  }

  /// Has a process's threads make system calls where this one waits for them. No thread is made meanwhile, as it would
  /// stay here.
  private static func onOneProcessor<T>(_ process: FrozenProcess, _ body: () throws -> T) rethrows -> T {
    let everywhere = Affinity(of: 0)
    process.processor = Affinity.here
    process.processor?.apply(to: 0)
    defer {
      process.processor = nil
      everywhere?.apply(to: 0)
    }
    return try body()
  }

  /// What was read of a frozen tree, but for its pages.
  private struct Collected {
    var processes: [ProcessState] = []
    var zombies: [Zombie]
    var objects: SharedObjectCollection
    var files: [Compatibility.File] = []
    var warnings: [String] = []
  }

  private static func collect(
    _ tree: FrozenTree, supplied: [SuppliedDescriptor], initProcessID: Int32
  ) throws -> Collected {
    var result = Collected(
      zombies: tree.zombies, objects: try SharedObjectCollection(process: tree.processes[0].processID))
    var memory = MemoryCollection()
    var descriptions = OpenDescriptions()
    for (index, process) in tree.processes.enumerated() {
      let (mappings, library) = try memory.collect(process, objects: &result.objects)
      var descriptors = DescriptorCollection(process: process.processID, index: index, supplied: supplied)
      let open = try descriptors.collect(&result.objects, &descriptions)
      var state = try onOneProcessor(process) {
        try ProcessState(
          process, mappings: mappings, library: library, descriptors: open, initProcessID: initProcessID)
      }
      state.fileLocks = descriptors.locks
      result.processes.append(state)
      result.warnings += descriptors.warnings
    }
    try DescriptorCollection.checkEnds(
      zip(tree.processes, result.processes).map { ($0.processID, $1.descriptors) },
      processIDs: Set(result.processes.map(\.processID) + result.zombies.map(\.processID)))
    do {
      _ = try ProcessTree(processes: result.processes, zombies: result.zombies)
    } catch {
      throw CheckpointError.refused("the process tree cannot be made again: \(error)")
    }
    result.files = memory.files
    return result
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
