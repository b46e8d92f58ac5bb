internal import Checkpoint
internal import Glibc
internal import Linux
public import Logging
internal import Metering
internal import NIOCore
public import NIOPosix
internal import Restore
internal import RuntimeAPI
public import Runtimes
public import Sandbox
internal import SnapshotFormat
public import SnapshotStore
internal import SystemPackage

/// What LambdaAPI needs of the fleet; `Fleet` is it, and tests put a fake in its place.
public protocol FunctionHost: Sendable {
  /// Makes sure that the runtime's bundle is there, installing it if need be, with progress in the daemon's log.
  func prepareRuntime(_ runtime: String) async throws(FleetError)
  /// Initialises a version and takes its snapshot. Returns when the snapshot is durable; at once if there is a
  /// usable one.
  func prepare(_ function: FunctionSpecification) async throws(FleetError)
  /// Runs the function on one event.
  func invoke(_ function: FunctionSpecification, _ invocation: Invocation) async throws(FleetError) -> InvocationResult
  /// Ends the idle environments (busy ones when they are done) of this revision and deletes its snapshot: it was
  /// deleted or replaced.
  func discard(revision: String) async
}

/// Execution environments: an idle one for an invocation, else one restored from the version's snapshot, else one
/// that starts cold.
public actor Fleet: FunctionHost {
  let configuration: FleetConfiguration
  let jailer: Jailer
  let pool: SandboxPool
  let workload: Workload
  let store: SnapshotStore
  let runtimes: RuntimeLibrary
  let group: MultiThreadedEventLoopGroup
  let logger: Logger

  var isOpen = true
  var idle: [String: [Environment]] = [:]
  var busy: [ObjectIdentifier: Environment] = [:]
  var discarded: Set<String> = []
  var logs: [String: FunctionLog] = [:]
  var templates: [String: TemplateEntry] = [:]
  var preparing: [String: Task<Result<Void, FleetError>, Never>] = [:]
  var discarding: [String: Task<Void, Never>] = [:]
  var environmentNumber = 0
  var drained: [CheckedContinuation<Void, Never>] = []
  var armed: [String: [ArmedEnvironment]] = [:]
  var arming: [String: Task<Void, Never>] = [:]
  var armedPolicy: ArmedPolicy

  struct TemplateEntry {
    var task: Task<Result<Template, RestoreError>, Never>
    var specification: SandboxSpecification
    var lastUse = ContinuousClock.now
    var restores = 0
    var lastRestore: FleetStatus.RestoreRecord?
  }

  /// A fleet on these parts.
  public init(
    configuration: FleetConfiguration, jailer: Jailer, pool: SandboxPool, workload: Workload,
    store: SnapshotStore, runtimes: RuntimeLibrary, group: MultiThreadedEventLoopGroup, logger: Logger
  ) {
    self.configuration = configuration
    self.jailer = jailer
    self.pool = pool
    self.workload = workload
    self.store = store
    self.runtimes = runtimes
    self.group = group
    self.logger = logger
    armedPolicy = ArmedPolicy(
      limit: configuration.armedLimit, memoryBytes: configuration.armedMemoryBytes,
      idleTimeout: configuration.idleTimeout)
  }

  // MARK: FunctionHost

  public func prepareRuntime(_ runtime: String) async throws(FleetError) {
    _ = try await bundle(runtime)
  }

  public func prepare(_ function: FunctionSpecification) async throws(FleetError) {
    let revision = function.revision
    // One that became Inactive may be asked for again while it is still being discarded.
    await discarding[revision]?.value
    discarded.remove(revision)
    if await store.find(id: revision) != nil, (try? await template(function)) != nil { return }
    guard isOpen else { throw FleetError.shuttingDown }
    let task =
      preparing[revision]
      ?? Task {
        // With the task's end, in one step: a later call must not find one that is over.
        defer { preparing[revision] = nil }
        do throws(FleetError) {
          return .success(try await self.takeSnapshot(function))
        } catch {
          return .failure(error)
        }
      }
    preparing[revision] = task
    try await task.value.get()
  }

  public func invoke(
    _ function: FunctionSpecification, _ invocation: Invocation
  ) async throws(FleetError) -> InvocationResult {
    guard isOpen else { throw FleetError.shuttingDown }
    guard workload.begin(limit: configuration.concurrencyLimit) else {
      throw FleetError(code: .throttled(reason: "ConcurrentInvocationLimitExceeded"), message: "Rate Exceeded.")
    }
    defer { invocationEnded() }
    if let environment = takeIdle(function.revision) {
      return await run(environment, invocation)
    }
    switch try await start(function) {
    case .ready(let environment): return await run(environment, invocation)
    case .failed(let result): return result
    }
  }

  public func discard(revision: String) async {
    let task =
      discarding[revision]
      ?? Task {
        defer { discarding[revision] = nil }
        await self.end(revision)
      }
    discarding[revision] = task
    await task.value
  }

  private func end(_ revision: String) async {
    discarded.insert(revision)
    armedPolicy.forget(revision)
    let environments = idle.removeValue(forKey: revision) ?? []
    for environment in environments { await environment.end() }
    await closeTemplate(revision)
    do { try await store.remove(id: revision) } catch {
      logger.warning("the snapshot \(revision) could not be deleted: \(error)")
    }
  }

  // MARK: Life

  /// Retires what has been without work for long. Called every few seconds.
  public func retireIdle() async {
    let now = ContinuousClock.now
    // What is listed is looked at again after each wait: invocations come and go meanwhile.
    for revision in Array(idle.keys) {
      guard let environments = idle[revision] else { continue }
      let old = environments.filter { now - $0.idleSince > configuration.idleTimeout }
      guard !old.isEmpty else { continue }
      idle[revision] = environments.filter { now - $0.idleSince <= configuration.idleTimeout }
      for environment in old { await environment.end() }
    }
    for revision in Array(templates.keys) {
      guard let entry = templates[revision], now - entry.lastUse > configuration.templateIdleTimeout else { continue }
      await closeTemplate(revision)
    }
    await trimArmed()
  }

  /// Takes no more invocations, lets those under way finish within `grace`, and ends everything.
  public func shutdown(grace: Duration = .seconds(5)) async {
    isOpen = false
    // Again and again: an environment may become busy only then, from a template that took long to build.
    func ender(after time: Duration) -> Task<Void, Never> {
      Task {
        try? await Task.sleep(for: time)
        while !Task.isCancelled {
          await self.endBusy()
          try? await Task.sleep(for: .milliseconds(100))
        }
      }
    }
    let invocations = ender(after: grace)
    while workload.count > 0 {
      await withCheckedContinuation { drained.append($0) }
    }
    invocations.cancel()
    let preparations = ender(after: .zero)
    for task in preparing.values {
      task.cancel()
      _ = await task.value
    }
    preparations.cancel()
    for task in arming.values { await task.value }
    let environments = idle.values.flatMap { $0 }
    idle = [:]
    for environment in environments { await environment.end() }
    for revision in templates.keys { await closeTemplate(revision) }
    await pool.shutdown()
  }

  func endBusy() async {
    for environment in busy.values { await environment.end() }
  }

  func invocationEnded() {
    if workload.end() == 0 {
      for continuation in drained { continuation.resume() }
      drained = []
    }
  }

  /// What is going on.
  public func status() async -> FleetStatus {
    var snapshots: [FleetStatus.Snapshot] = []
    for entry in (try? await store.list()) ?? [] {
      var snapshot = FleetStatus.Snapshot(
        revision: entry.id, bytes: entry.bytes, pages: 0, threads: 0, created: entry.created, lastRestore: nil,
        restores: 0, armed: armed[entry.id]?.count ?? 0, workingSetBytes: 0, warnings: [])
      if let template = templates[entry.id] {
        snapshot.lastRestore = template.lastRestore
        snapshot.restores = template.restores
        if case .success(let value) = await template.task.value {
          describe(value.manifest, &snapshot)
          snapshot.workingSetBytes = Int(value.workingSet?.bytes ?? 0)
        }
      } else if let manifest = try? SnapshotManifest(
        decoding: ProcessFiles.bytes(entry.directory.appending("manifest").string))
      {
        describe(manifest, &snapshot)
      }
      snapshots.append(snapshot)
    }
    return FleetStatus(idle: idle.values.reduce(0) { $0 + $1.count }, active: workload.count, snapshots: snapshots)
  }

  func describe(_ manifest: SnapshotManifest, _ snapshot: inout FleetStatus.Snapshot) {
    snapshot.pages = manifest.pageCount
    snapshot.threads = manifest.threadCount
    snapshot.warnings = manifest.warnings
  }
}

extension FleetError {
  static let shuttingDown = FleetError(code: .shuttingDown, message: "The daemon is going down.")
}
