public import Catalog
public import Fleet
internal import Foundation
public import Logging
internal import Synchronization

/// Brings versions from Pending to Active or Failed, in the background, and ends what was deleted or replaced.
public actor VersionLifecycle {
  private let catalog: Catalog
  private let code: CodeStore
  private let host: any FunctionHost
  private let names: FunctionNames
  private let logger: Logger
  private var tasks: [Int: Task<Void, Never>] = [:]
  private var nextTask = 0
  private let inactiveAfter: Duration
  /// When versions with a snapshot were last invoked, by deployment: seconds since 1970.
  private let uses: Mutex<[String: Double]>

  /// A life cycle over these parts.
  ///
  /// - Parameter inactiveAfter: a version with a snapshot that was not invoked for so long becomes Inactive, and the
  ///   snapshot is deleted (Lambda: 14 days).
  public init(
    catalog: Catalog, code: CodeStore, host: any FunctionHost, names: FunctionNames, logger: Logger,
    inactiveAfter: Duration = .seconds(14 * 86400)
  ) {
    self.catalog = catalog
    self.code = code
    self.host = host
    self.names = names
    self.logger = logger
    self.inactiveAfter = inactiveAfter
    var known: [String: Double] = [:]
    do { known = try catalog.lastUses() } catch {
      logger.warning("when versions were last invoked is not known: \(error)")
    }
    uses = Mutex(known)
  }

  /// Takes up what a daemon that died has left Pending or InProgress, and collects code that nobody uses.
  public func resume() {
    for version in catalog.list(allVersions: true) {
      if version.state == .pending || version.updateStatus == .inProgress { begin(version) }
    }
    collectCode()
  }

  /// A new version, or new code or configuration of `$LATEST`: makes it ready in the background.
  public func begin(_ version: FunctionVersion, replacing old: FunctionVersion? = nil) {
    run {
      let failure = await self.makeReady(version)
      do {
        try self.catalog.setProgress(of: version) { current in
          current.settle(failure: failure)
        }
      } catch {
        self.logger.error("the state of \(version.name):\(version.version) could not be stored: \(error)")
      }
      if let failure {
        self.logger.warning("\(version.name):\(version.version) failed: \(failure.message)")
      }
      if let old { await self.host.discard(revision: old.deploymentID) }
      await self.collectCode()
    }
  }

  /// Versions that were deleted.
  public func end(_ versions: [FunctionVersion]) {
    run {
      for version in versions { await self.host.discard(revision: version.deploymentID) }
      await self.collectCode()
    }
  }

  /// A version is invoked now.
  public nonisolated func noteUse(of version: FunctionVersion) {
    guard version.startsFromSnapshot else { return }
    let now = Date().timeIntervalSince1970
    uses.withLock { $0[version.deploymentID] = now }
  }

  /// Versions with a snapshot that were not invoked for long become Inactive and lose it; when versions were last
  /// invoked is stored. Called every few minutes.
  public func deactivateUnused() {
    let now = Date().timeIntervalSince1970
    let limit = inactiveAfter / .seconds(1)
    let versions = catalog.list(allVersions: true).filter(\.startsFromSnapshot)
    let known = uses.withLock { uses in
      // One that was never invoked counts from the first look at it.
      uses = Dictionary(uniqueKeysWithValues: versions.map { ($0.deploymentID, uses[$0.deploymentID] ?? now) })
      return uses
    }
    for version in versions where version.state == .active && now - (known[version.deploymentID] ?? now) >= limit {
      settleState(of: version, .inactive, "The function is idle.", "Idle")
      logger.info("\(version.name):\(version.version) is Inactive: it was not invoked for \(inactiveAfter)")
      run { await self.host.discard(revision: version.deploymentID) }
    }
    storeUses()
  }

  private func storeUses() {
    do { try catalog.storeLastUses(uses.withLock { $0 }) } catch {
      logger.warning("when versions were last invoked could not be stored: \(error)")
    }
  }

  /// An Inactive version was invoked: it gets a new snapshot, in the background.
  public func reactivate(_ version: FunctionVersion) {
    // Many may ask at once; the first one's change of state is the one that counts.
    guard (try? catalog.resolve(version.name, qualifier: version.version))?.state == .inactive else { return }
    settleState(of: version, .pending, "The function is restoring.", "Restoring")
    begin(version)
  }

  private func settleState(
    of version: FunctionVersion, _ state: FunctionVersion.State, _ reason: String, _ code: String
  ) {
    do {
      try catalog.setProgress(of: version) { current in
        current.state = state
        current.stateReason = reason
        current.stateReasonCode = code
        current.isOptimized = false
      }
    } catch {
      logger.error("the state of \(version.name):\(version.version) could not be stored: \(error)")
    }
  }

  /// Waits until nothing is under way; what has not ended stays Pending and is resumed at the next start.
  public func shutdown() async {
    storeUses()
    for task in tasks.values { task.cancel() }
    for task in tasks.values { await task.value }
  }

  private func run(_ work: @escaping @Sendable () async -> Void) {
    nextTask += 1
    let number = nextTask
    tasks[number] = Task {
      await work()
      self.ended(number)
    }
  }

  private func ended(_ number: Int) { tasks[number] = nil }

  private func makeReady(_ version: FunctionVersion) async -> FleetError? {
    do throws(FleetError) {
      if version.startsFromSnapshot {
        try await host.prepare(version.specification(code: code, names: names))
      } else {
        try await host.prepareRuntime(version.runtime)
      }
      return nil
    } catch {
      return error
    }
  }

  private func collectCode() {
    do { try code.collect { catalog.codeInUse } } catch {
      logger.warning("unused code could not be deleted: \(error)")
    }
  }
}

extension FunctionVersion {
  /// Writes how making it ready ended.
  fileprivate mutating func settle(failure: FleetError?) {
    if case .shuttingDown = failure?.code { return }
    let reasonCode: String? =
      switch failure?.code {
      case nil: nil
      case .initialization(let code): code
      case .runtimeUnavailable: "InvalidRuntime"
      default: "InternalError"
      }
    if state == .pending {
      state = failure == nil ? .active : .failed
      stateReason = failure?.message
      stateReasonCode = reasonCode
      isOptimized = failure == nil && startsFromSnapshot
    }
    if updateStatus == .inProgress {
      updateStatus = failure == nil ? .successful : .failed
      updateStatusReason = failure?.message
      updateStatusReasonCode = reasonCode
      if failure == nil {
        state = .active
        stateReason = nil
        stateReasonCode = nil
      }
    }
  }

  /// What the fleet needs to know of this version.
  func specification(code: CodeStore, names: FunctionNames) -> FunctionSpecification {
    FunctionSpecification(
      name: name, version: version, arn: names.arn(name), revision: deploymentID, runtime: runtime, handler: handler,
      codeDirectory: code.directory(of: codeID), environment: environment, memoryMegabytes: memorySize,
      timeout: .seconds(timeout), ephemeralStorageMegabytes: ephemeralStorage, snapStart: startsFromSnapshot)
  }
}

/// The account and region that functions live in.
public struct FunctionNames: Sendable, Equatable {
  /// Twelve digits.
  public var account: String
  /// Such as `us-east-1`.
  public var region: String

  /// Names in an account and region.
  public init(account: String = "000000000000", region: String = "us-east-1") {
    self.account = account
    self.region = region
  }

  /// The ARN of a function, or of `name:qualifier`.
  public func arn(_ name: String) -> String { "arn:aws:lambda:\(region):\(account):function:\(name)" }
}
