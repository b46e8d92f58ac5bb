public import SystemPackage

/// How a fleet works.
public struct FleetConfiguration: Sendable {
  /// `logs/` of the data directory.
  public var logDirectory: FilePath
  /// The restorer, `thaw-restorer`.
  public var restorer: FilePath
  /// The region that functions are told.
  public var region: String
  /// Most invocations at a time, over all functions (Lambda: 1000 per account).
  public var concurrencyLimit: Int
  /// How long an environment without work is kept.
  public var idleTimeout: Duration
  /// Most environments without work that are kept; 0: every invocation gets a fresh one.
  public var idleLimit: Int
  /// How long a template without restores is kept.
  public var templateIdleTimeout: Duration
  /// Most armed environments for one version; 0: none.
  public var armedLimit: Int
  /// Most bytes that all armed environments together may have copied ahead.
  public var armedMemoryBytes: UInt64

  /// A configuration; limits are Lambda's.
  public init(
    logDirectory: FilePath, restorer: FilePath, region: String, concurrencyLimit: Int = 1000,
    idleTimeout: Duration = .seconds(600), idleLimit: Int = 1000, templateIdleTimeout: Duration = .seconds(3600),
    armedLimit: Int = 2, armedMemoryBytes: UInt64 = 1 << 30
  ) {
    self.logDirectory = logDirectory
    self.restorer = restorer
    self.region = region
    self.concurrencyLimit = concurrencyLimit
    self.idleTimeout = idleTimeout
    self.idleLimit = idleLimit
    self.templateIdleTimeout = templateIdleTimeout
    self.armedLimit = armedLimit
    self.armedMemoryBytes = armedMemoryBytes
  }
}

/// What a fleet tells of itself.
public struct FleetStatus: Sendable {
  /// One snapshot in use or stored.
  public struct Snapshot: Sendable {
    /// The version's revision, which names it.
    public var revision: String
    /// Bytes on disk.
    public var bytes: Int
    /// Pages of memory in it.
    public var pages: Int
    /// Threads.
    public var threads: Int
    /// Seconds since 1970 when it was taken.
    public var created: Double
    /// The last restore, if there was one since the daemon started.
    public var lastRestore: RestoreRecord?
    /// Restores since the daemon started.
    public var restores: Int
    /// Environments that are wholly restored and wait for their first invocation.
    public var armed: Int
    /// What every clone copies ahead; 0: not recorded yet.
    public var workingSetBytes: Int
    /// What comes back changed.
    public var warnings: [String]
  }
  /// When the steps of one restore were done, in microseconds from the order.
  public struct RestoreRecord: Sendable {
    public var cloned: Double
    public var entered: Double
    public var mapped: Double
    public var instance: Double
    public var threads: Double
    public var done: Double
    /// The runtime asked for its first event.
    public var firstNext: Double
    /// The reply to it was there.
    public var reply: Double
    /// The process, as this host sees it.
    public var processID: Int32
    /// It had been armed before: the steps are counted from the order to run.
    public var wasArmed: Bool
  }
  /// Environments that wait for work.
  public var idle: Int
  /// Invocations under way.
  public var active: Int
  /// Snapshots.
  public var snapshots: [Snapshot]
}
