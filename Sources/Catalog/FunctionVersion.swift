/// One version of a function: the changing `$LATEST`, or a published one.
public struct FunctionVersion: Codable, Sendable, Equatable {
  /// `State` of Lambda's model.
  public enum State: String, Codable, Sendable {
    case pending = "Pending"
    case active = "Active"
    case inactive = "Inactive"
    case failed = "Failed"
  }
  /// `LastUpdateStatus` of Lambda's model.
  public enum UpdateStatus: String, Codable, Sendable {
    case successful = "Successful"
    case failed = "Failed"
    case inProgress = "InProgress"
  }

  /// The function's name.
  public var name: String
  /// "$LATEST" or a number.
  public var version: String
  /// Of the function: another one after it was deleted and made again.
  public var functionID: String
  public var runtime: String
  public var handler: String
  public var role: String
  public var description: String
  /// Seconds.
  public var timeout: Int
  /// MB.
  public var memorySize: Int
  /// MB.
  public var ephemeralStorage: Int
  public var environment: [String: String]
  public var architecture: String
  public var tracingMode: String
  public var tags: [String: String]
  /// Base64 of the zip's SHA-256.
  public var codeSHA256: String
  /// Hexadecimal of the same: the code's directory.
  public var codeID: String
  /// Bytes of the zip.
  public var codeSize: Int
  /// ISO 8601 with milliseconds.
  public var lastModified: String
  /// Changes with every change of the version.
  public var revisionID: String
  /// Changes with code and configuration only: names environments and the snapshot.
  public var deploymentID: String
  public var state: State
  public var stateReason: String?
  public var stateReasonCode: String?
  public var updateStatus: UpdateStatus
  public var updateStatusReason: String?
  public var updateStatusReasonCode: String?
  /// `SnapStart.ApplyOn` is `PublishedVersions`.
  public var appliesSnapStart: Bool
  /// `SnapStart.OptimizationStatus` is `On`.
  public var isOptimized: Bool

  /// A version; see the fields.
  public init(
    name: String, functionID: String, runtime: String, handler: String, role: String, description: String,
    timeout: Int, memorySize: Int, ephemeralStorage: Int, environment: [String: String], architecture: String,
    tracingMode: String, tags: [String: String], code: StoredCode, appliesSnapStart: Bool
  ) {
    self.name = name
    self.version = "$LATEST"
    self.functionID = functionID
    self.runtime = runtime
    self.handler = handler
    self.role = role
    self.description = description
    self.timeout = timeout
    self.memorySize = memorySize
    self.ephemeralStorage = ephemeralStorage
    self.environment = environment
    self.architecture = architecture
    self.tracingMode = tracingMode
    self.tags = tags
    self.codeSHA256 = code.sha256
    self.codeID = code.id
    self.codeSize = code.size
    self.lastModified = ""
    self.revisionID = ""
    self.deploymentID = ""
    self.state = .pending
    self.stateReason = "The function is being created."
    self.stateReasonCode = "Creating"
    self.updateStatus = .successful
    self.appliesSnapStart = appliesSnapStart
    self.isOptimized = false
  }

  /// Whether this version starts from a snapshot.
  public var startsFromSnapshot: Bool { appliesSnapStart && version != "$LATEST" }

  /// Whether code and configuration are the same, so that no new version is published.
  func isSameDeployment(_ other: FunctionVersion) -> Bool {
    codeSHA256 == other.codeSHA256 && runtime == other.runtime && handler == other.handler && role == other.role
      && timeout == other.timeout && memorySize == other.memorySize && ephemeralStorage == other.ephemeralStorage
      && environment == other.environment && appliesSnapStart == other.appliesSnapStart
      && tracingMode == other.tracingMode && architecture == other.architecture
  }
}

/// A name for a version, or for two with weights.
public struct FunctionAlias: Codable, Sendable, Equatable {
  /// The function's name.
  public var function: String
  /// The alias's name.
  public var name: String
  /// The version it names.
  public var version: String
  public var description: String
  /// Share of invocations, 0 to 1, that go to other versions: `RoutingConfig.AdditionalVersionWeights`.
  public var weights: [String: Double]
  public var revisionID: String

  /// An alias.
  public init(function: String, name: String, version: String, description: String, weights: [String: Double]) {
    self.function = function
    self.name = name
    self.version = version
    self.description = description
    self.weights = weights
    self.revisionID = ""
  }
}

/// Why the catalog did not do what was asked.
public enum CatalogError: Error, Sendable, Equatable {
  /// There is no such function, version or alias; the text names it.
  case notFound(String)
  /// It is there already, or is being changed.
  case conflict(String)
  /// The given RevisionId is not the current one.
  case revisionMismatch
  /// What was asked makes no sense.
  case invalid(String)
}
