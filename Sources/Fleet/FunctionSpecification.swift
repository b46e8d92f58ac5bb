public import SystemPackage

/// What the fleet needs to know of one version of a function.
public struct FunctionSpecification: Sendable, Hashable {
  /// The name, without qualifier.
  public var name: String
  /// "$LATEST" or the number of a published version.
  public var version: String
  /// The ARN without qualifier.
  public var arn: String
  /// Changes whenever code or configuration change: environments of another revision are not reused. Also names the
  /// snapshot, so only [A-Za-z0-9._-].
  public var revision: String
  /// The runtime's identifier, such as `python3.12`.
  public var runtime: String
  /// The handler, such as `app.handler`.
  public var handler: String
  /// The unpacked code, shown at /var/task.
  public var codeDirectory: FilePath
  /// The user's environment variables.
  public var environment: [String: String]
  /// `MemorySize`, in MB.
  public var memoryMegabytes: Int
  /// `Timeout`.
  public var timeout: Duration
  /// `EphemeralStorage.Size`, in MB.
  public var ephemeralStorageMegabytes: Int
  /// Whether this version starts from a snapshot.
  public var snapStart: Bool

  /// Makes a specification.
  public init(
    name: String, version: String, arn: String, revision: String, runtime: String, handler: String,
    codeDirectory: FilePath, environment: [String: String], memoryMegabytes: Int, timeout: Duration,
    ephemeralStorageMegabytes: Int, snapStart: Bool
  ) {
    self.name = name
    self.version = version
    self.arn = arn
    self.revision = revision
    self.runtime = runtime
    self.handler = handler
    self.codeDirectory = codeDirectory
    self.environment = environment
    self.memoryMegabytes = memoryMegabytes
    self.timeout = timeout
    self.ephemeralStorageMegabytes = ephemeralStorageMegabytes
    self.snapStart = snapStart
  }
}
