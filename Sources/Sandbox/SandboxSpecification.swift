public import SystemPackage

/// What a blank sandbox is made of. Two sandboxes with equal specifications are interchangeable, which is what the
/// pool relies on.
public struct SandboxSpecification: Sendable, Hashable {
  /// A host directory or file shown read-only inside.
  public struct Mount: Sendable, Hashable {
    /// The path on the host.
    public var source: FilePath
    /// The absolute path inside the sandbox; its parents are made.
    public var target: FilePath

    /// Shows `source` of the host at `target` inside.
    public init(source: FilePath, target: FilePath) {
      self.source = source
      self.target = target
    }
  }

  /// Read-only mounts, in order, over the host's /usr, /lib, /lib64, /bin, /sbin and a few files of /etc.
  public var mounts: [Mount]
  /// A host directory whose contents are copied into /tmp when the sandbox is made; nil leaves /tmp empty.
  public var temporarySeed: FilePath?
  /// Size of the private /tmp, in bytes.
  public var temporaryBytes: Int
  /// Memory limit, in bytes.
  public var memoryBytes: Int
  /// CPU limit, in CPUs (1.0 is one whole CPU).
  public var cpus: Double
  /// Limit of processes and threads.
  public var maximumTasks: Int
  /// The port at 127.0.0.1 inside on which the Runtime API listens.
  public var runtimeAPIPort: UInt16
  /// The user and group id that the sandbox's processes run as.
  public var userID: UInt32

  /// Makes a specification; every limit has Lambda's default.
  public init(
    mounts: [Mount],
    temporarySeed: FilePath? = nil,
    temporaryBytes: Int = 512 << 20,
    memoryBytes: Int = 128 << 20,
    cpus: Double = 1,
    maximumTasks: Int = 1024,
    runtimeAPIPort: UInt16 = 9001,
    userID: UInt32 = 993
  ) {
    self.mounts = mounts
    self.temporarySeed = temporarySeed
    self.temporaryBytes = temporaryBytes
    self.memoryBytes = memoryBytes
    self.cpus = cpus
    self.maximumTasks = maximumTasks
    self.runtimeAPIPort = runtimeAPIPort
    self.userID = userID
  }
}
