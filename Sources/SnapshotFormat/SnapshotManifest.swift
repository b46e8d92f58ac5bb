/// What a snapshot is, apart from the bytes of its memory: pure values, which can be printed, compared and compiled
/// to a restore program.
///
/// On disk it is the file `manifest` (see ``encode()``) beside the file `image`, whose length and checksum it holds.
public struct SnapshotManifest: Sendable, Equatable {
  /// What the machine must be for this snapshot to be usable.
  public var compatibility: Compatibility
  /// The processes: the runtime, and what it has started; parents before their children.
  public var processes: [ProcessState]
  /// Processes that have ended and that nobody has waited for.
  public var zombies: [Zombie] = []
  /// Memory and files that mappings and descriptors share.
  public var objects: [SharedObject] = []
  /// What the clocks said when it was frozen.
  public var clocks: ClockReadings
  /// Length of the image, in bytes; a multiple of the page size.
  public var imageBytes: UInt64
  /// ``ImageChecksum`` of the image.
  public var imageDigest: [UInt8]
  /// Things that come back changed, such as connections that come back closed; for the user.
  public var warnings: [String]

  /// A manifest of these parts.
  public init(
    compatibility: Compatibility, processes: [ProcessState], clocks: ClockReadings, imageBytes: UInt64,
    imageDigest: [UInt8], warnings: [String]
  ) {
    self.compatibility = compatibility
    self.processes = processes
    self.clocks = clocks
    self.imageBytes = imageBytes
    self.imageDigest = imageDigest
    self.warnings = warnings
  }

  /// The first process, the runtime.
  public var process: ProcessState {
    get { processes[0] }
    set { processes[0] = newValue }
  }
  /// Number of threads of all processes.
  public var threadCount: Int { processes.reduce(0) { $0 + $1.threads.count } }
  /// Number of mappings of all processes.
  public var mappingCount: Int { processes.reduce(0) { $0 + $1.mappings.count } }
  /// Number of pages in the image.
  public var pageCount: Int { Int(imageBytes / SnapshotManifest.pageSize) }
  /// Bytes of a page, x86-64.
  public static let pageSize: UInt64 = 4096
}

/// What the clocks that count from a start said, in nanoseconds: every clone's go on from there.
public struct ClockReadings: Sendable, Equatable {
  /// CLOCK_MONOTONIC.
  public var monotonic: UInt64
  /// CLOCK_BOOTTIME, which also counts while the machine is suspended.
  public var boottime: UInt64

  /// Readings.
  public init(monotonic: UInt64, boottime: UInt64) {
    self.monotonic = monotonic
    self.boottime = boottime
  }
}

/// What must be the same on the machine that restores as on the one that took the snapshot.
public struct Compatibility: Sendable, Equatable {
  /// A file that is mapped: it must be the same file still.
  public struct File: Sendable, Equatable {
    /// Its path inside the sandbox.
    public var path: String
    /// Its size, in bytes.
    public var size: UInt64
    /// When it was last modified, in nanoseconds since 1970.
    public var modified: Int64

    /// A file's identity.
    public init(path: String, size: UInt64, modified: Int64) {
      self.path = path
      self.size = size
      self.modified = modified
    }
  }
  /// `uname -r`: signal frames, vDSO and restart conventions are the kernel's.
  public var kernelRelease: String
  /// XCR0: the vector state that the saved registers hold.
  public var vectorFeatures: UInt64
  /// SHA-256 of the vDSO's pages.
  public var vdsoDigest: [UInt8]
  /// The mapped files, by their place in this list (``Mapping/Backing/file(index:offset:)``).
  public var files: [File]

  /// A key of these parts.
  public init(kernelRelease: String, vectorFeatures: UInt64, vdsoDigest: [UInt8], files: [File]) {
    self.kernelRelease = kernelRelease
    self.vectorFeatures = vectorFeatures
    self.vdsoDigest = vdsoDigest
    self.files = files
  }
}

/// The part a supplied descriptor plays.
public enum SuppliedRole: UInt8, Sendable, Hashable, CaseIterable {
  /// Standard output and standard error: the writing end of the sandbox's pipe.
  case output = 0
  /// The connection on which the process waits to be restored.
  case connection = 1
}
