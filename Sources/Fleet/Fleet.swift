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
  private let configuration: FleetConfiguration
  private let jailer: Jailer
  private let pool: SandboxPool
  private let store: SnapshotStore
  private let runtimes: RuntimeLibrary
  private let group: MultiThreadedEventLoopGroup
  private let logger: Logger

  private var isOpen = true
  private var active = 0
  private var idle: [String: [Environment]] = [:]
  private var busy: [ObjectIdentifier: Environment] = [:]
  private var discarded: Set<String> = []
  private var logs: [String: FunctionLog] = [:]
  private var templates: [String: TemplateEntry] = [:]
  private var preparing: [String: Task<Result<Void, FleetError>, Never>] = [:]
  private var environmentNumber = 0
  private var drained: [CheckedContinuation<Void, Never>] = []

  private struct TemplateEntry {
    var task: Task<Result<Template, RestoreError>, Never>
    var specification: SandboxSpecification
    var lastUse = ContinuousClock.now
    var restores = 0
    var lastRestore: FleetStatus.RestoreRecord?
  }

  /// A fleet on these parts.
  public init(
    configuration: FleetConfiguration, jailer: Jailer, pool: SandboxPool, store: SnapshotStore,
    runtimes: RuntimeLibrary, group: MultiThreadedEventLoopGroup, logger: Logger
  ) {
    self.configuration = configuration
    self.jailer = jailer
    self.pool = pool
    self.store = store
    self.runtimes = runtimes
    self.group = group
    self.logger = logger
  }

  // MARK: FunctionHost

  public func prepareRuntime(_ runtime: String) async throws(FleetError) {
    _ = try await bundle(runtime)
  }

  public func prepare(_ function: FunctionSpecification) async throws(FleetError) {
    let revision = function.revision
    if await store.find(id: revision) != nil, (try? await template(function)) != nil { return }
    guard isOpen else { throw FleetError.shuttingDown }
    discarded.remove(revision)
    let task =
      preparing[revision]
      ?? Task {
        do throws(FleetError) {
          return .success(try await self.takeSnapshot(function))
        } catch {
          return .failure(error)
        }
      }
    preparing[revision] = task
    let result = await task.value
    preparing[revision] = nil
    try result.get()
  }

  public func invoke(
    _ function: FunctionSpecification, _ invocation: Invocation
  ) async throws(FleetError) -> InvocationResult {
    guard isOpen else { throw FleetError.shuttingDown }
    guard active < configuration.concurrencyLimit else {
      throw FleetError(code: .throttled(reason: "ConcurrentInvocationLimitExceeded"), message: "Rate Exceeded.")
    }
    active += 1
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
    discarded.insert(revision)
    let entry = templates.removeValue(forKey: revision)
    let environments = idle.removeValue(forKey: revision) ?? []
    for environment in environments { await environment.end() }
    if let entry {
      if case .success(let template) = await entry.task.value { await template.close() }
      await pool.forget(entry.specification)
    }
    do { try await store.remove(id: revision) } catch {
      logger.warning("the snapshot \(revision) could not be deleted: \(error)")
    }
  }

  // MARK: Life

  /// Retires what has been without work for long. Called every few seconds.
  public func retireIdle() async {
    let now = ContinuousClock.now
    for (revision, environments) in idle {
      let old = environments.filter { now - $0.idleSince > configuration.idleTimeout }
      guard !old.isEmpty else { continue }
      idle[revision] = environments.filter { now - $0.idleSince <= configuration.idleTimeout }
      for environment in old { await environment.end() }
    }
    for (revision, entry) in templates where now - entry.lastUse > configuration.templateIdleTimeout {
      templates[revision] = nil
      if case .success(let template) = await entry.task.value { await template.close() }
      await pool.forget(entry.specification)
    }
  }

  /// Takes no more invocations, lets those under way finish within `grace`, and ends everything.
  public func shutdown(grace: Duration = .seconds(5)) async {
    isOpen = false
    let timer = Task {
      try? await Task.sleep(for: grace)
      await self.endBusy()
    }
    while active > 0 {
      await withCheckedContinuation { drained.append($0) }
    }
    timer.cancel()
    for task in preparing.values { task.cancel() }
    await endBusy()
    for task in preparing.values { _ = await task.value }
    let environments = idle.values.flatMap { $0 }
    idle = [:]
    for environment in environments { await environment.end() }
    let entries = templates.values
    templates = [:]
    for entry in entries {
      if case .success(let template) = await entry.task.value { await template.close() }
    }
    await pool.shutdown()
  }

  private func endBusy() async {
    for environment in busy.values { await environment.end() }
  }

  private func invocationEnded() {
    active -= 1
    if active == 0 {
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
        restores: 0, warnings: [])
      if let template = templates[entry.id] {
        snapshot.lastRestore = template.lastRestore
        snapshot.restores = template.restores
        if case .success(let value) = await template.task.value { describe(value.manifest, &snapshot) }
      } else if let manifest = try? SnapshotManifest(
        decoding: ProcessFiles.bytes(entry.directory.appending("manifest").string))
      {
        describe(manifest, &snapshot)
      }
      snapshots.append(snapshot)
    }
    return FleetStatus(idle: idle.values.reduce(0) { $0 + $1.count }, active: active, snapshots: snapshots)
  }

  private func describe(_ manifest: SnapshotManifest, _ snapshot: inout FleetStatus.Snapshot) {
    snapshot.pages = manifest.pageCount
    snapshot.threads = manifest.threadCount
    snapshot.warnings = manifest.warnings
  }

  // MARK: Environments

  private enum Started {
    case ready(Environment)
    /// Init failed: the error is the invocation's answer.
    case failed(InvocationResult)
  }

  private func takeIdle(_ revision: String) -> Environment? {
    while let environment = idle[revision]?.popLast() {
      if environment.exit == nil {
        busy[ObjectIdentifier(environment)] = environment
        return environment
      }
      Task { await environment.end() }
    }
    return nil
  }

  private func keep(_ environment: Environment) {
    busy[ObjectIdentifier(environment)] = nil
    let waiting = idle.values.reduce(0) { $0 + $1.count }
    // A timeout that fired just when the answer came has ended the session.
    guard isOpen, environment.exit == nil, !environment.session.isEnded,
      !discarded.contains(environment.function.revision),
      waiting < configuration.idleLimit
    else {
      // The reply does not wait for that.
      Task { await environment.end() }
      return
    }
    environment.idleSince = ContinuousClock.now
    idle[environment.function.revision, default: []].append(environment)
  }

  private func giveUp(_ environment: Environment) async {
    busy[ObjectIdentifier(environment)] = nil
    await environment.end()
  }

  private func start(_ function: FunctionSpecification) async throws(FleetError) -> Started {
    guard function.snapStart else { return try await startCold(function) }
    let template: Template
    do throws(RestoreError) {
      template = try await self.template(function)
    } catch {
      switch error.code {
      case .corrupt, .incompatible:
        logger.warning(
          "the snapshot of \(function.name):\(function.version) cannot be used, it is served by cold starts until a new one is there: \(error.message)"
        )
        await rebuild(function)
      case .templateGone, .failed:
        logger.error("the snapshot of \(function.name):\(function.version) could not be brought back: \(error.message)")
      }
      return try await startCold(function)
    }
    do {
      return try await restore(function, template)
    } catch let error as FleetError {
      throw error
    } catch let error as RestoreError {
      // A template that has gone is built anew by the next invocation.
      if error.code == .templateGone { templates[function.revision] = nil }
      logger.error("a restore of \(function.name):\(function.version) failed: \(error.message)")
      return try await startCold(function)
    } catch {
      throw FleetError(code: .service, message: "\(error)")
    }
  }

  private func newLog(_ function: FunctionSpecification) -> EnvironmentLog {
    let key = "\(function.name)/\(function.version)"
    let log =
      logs[key]
      ?? FunctionLog(directory: configuration.logDirectory, function: function.name, version: function.version)
    logs[key] = log
    environmentNumber += 1
    return EnvironmentLog(log: log, environment: "env-\(environmentNumber)")
  }

  private func specification(
    _ function: FunctionSpecification, _ bundle: RuntimeBundle, seed: FilePath? = nil
  ) -> SandboxSpecification {
    SandboxSpecification(
      mounts: bundle.mounts.map { SandboxSpecification.Mount(source: $0.source, target: $0.target) }
        + [SandboxSpecification.Mount(source: function.codeDirectory, target: "/var/task")],
      temporarySeed: seed,
      temporaryBytes: function.ephemeralStorageMegabytes << 20,
      memoryBytes: function.memoryMegabytes << 20,
      cpus: Double(function.memoryMegabytes) / 1769)
  }

  private func bundle(_ runtime: String) async throws(FleetError) -> RuntimeBundle {
    do throws(RuntimeBundleError) {
      return try await runtimes.bundle(runtime)
    } catch {
      throw FleetError(code: .runtimeUnavailable, message: error.message)
    }
  }

  // MARK: Cold starts

  private enum InitializationType: String { case onDemand = "on-demand", snapStart = "snap-start" }

  private enum Launched {
    case running(Environment)
    /// The runtime knows before it runs anything that the code cannot be started.
    case impossible(RuntimeLaunchError)
  }

  /// A sandbox in which the runtime has been started.
  private func launch(_ function: FunctionSpecification) async throws(FleetError) -> Launched {
    let bundle = try await bundle(function.runtime)
    let log = newLog(function)
    let start: RuntimeLaunch
    do throws(RuntimeLaunchError) {
      start = try bundle.launch(
        RuntimeFunction(
          handler: function.handler, codeDirectory: function.codeDirectory, environment: function.environment,
          memoryMegabytes: function.memoryMegabytes))
    } catch {
      log.write("INIT_REPORT Init Duration: 0.00 ms\tPhase: init\tStatus: error\tError Type: \(error.type)")
      log.write("Error: \(error.message)\n\(error.type)")
      return .impossible(error)
    }
    do {
      let sandbox = try await pool.acquire(specification(function, bundle))
      let environment: Environment
      do {
        environment = try await Environment(
          function: function, sandbox: sandbox, session: RuntimeSession(snapStart: function.snapStart), log: log,
          group: group)
      } catch {
        await sandbox.terminate()
        throw error
      }
      busy[ObjectIdentifier(environment)] = environment
      log.write("INIT_START Runtime Version: \(bundle.identifier)")
      do {
        _ = try await sandbox.start(
          arguments: start.arguments,
          environment: variables(function, start).map { "\($0.key)=\($0.value)" }, workingDirectory: "/var/task")
      } catch {
        await giveUp(environment)
        throw error
      }
      return .running(environment)
    } catch {
      throw FleetError(code: .service, message: "no execution environment could be made: \(error)")
    }
  }

  private func variables(_ function: FunctionSpecification, _ start: RuntimeLaunch) -> [String: String] {
    let type: InitializationType = function.snapStart ? .snapStart : .onDemand
    var variables = [
      "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
      "LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
      "LANG": "C.UTF-8", "TZ": ":UTC", "HOME": "/tmp",
      "_HANDLER": function.handler, "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime",
      "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "AWS_LAMBDA_FUNCTION_NAME": function.name,
      "AWS_LAMBDA_FUNCTION_VERSION": function.version,
      "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "\(function.memoryMegabytes)",
      "AWS_LAMBDA_INITIALIZATION_TYPE": type.rawValue,
      "AWS_REGION": configuration.region, "AWS_DEFAULT_REGION": configuration.region,
    ]
    if type == .onDemand {
      variables["AWS_LAMBDA_LOG_GROUP_NAME"] = "/aws/lambda/\(function.name)"
      variables["AWS_LAMBDA_LOG_STREAM_NAME"] =
        "\(LogTime.now().prefix(10).replacing("-", with: "/"))/[\(function.version)]\(environmentNumber)"
    }
    return variables.merging(start.environment) { $1 }
  }

  private func startCold(_ function: FunctionSpecification) async throws(FleetError) -> Started {
    let clock = ContinuousClock()
    let begin = clock.now
    let environment: Environment
    switch try await launch(function) {
    case .running(let running): environment = running
    case .impossible(let error):
      return .failed(
        InvocationResult(
          payload: errorObject(type: error.type, message: "Error: \(error.message)"), functionError: "Unhandled",
          logTail: []))
    }
    environment.session.allowRestore()
    // Init has 10 s on demand, as on AWS; a slow one may go on within the function's own time after that.
    let limit = max(Duration.seconds(10), function.timeout)
    let timer = after(limit) { environment.session.end() }
    let outcome = await environment.session.initialized()
    timer.cancel()
    let duration = clock.now - begin
    switch outcome {
    case .ready, .waitingForRestore:
      environment.limitCPU()
      environment.log.write("INIT_REPORT Init Duration: \(duration.milliseconds) ms\tPhase: init\tStatus: success")
      environment.setOrigin(.cold(initialization: duration))
      return .ready(environment)
    case .failed(let error):
      environment.log.write(
        "INIT_REPORT Init Duration: \(duration.milliseconds) ms\tPhase: init\tStatus: error\tError Type: \(error.type)")
      await giveUp(environment)
      return .failed(
        InvocationResult(payload: Array(error.body.readableBytesView), functionError: "Unhandled", logTail: []))
    case .ended:
      environment.drainOutput()
      let ended = reason(environment, limit: limit)
      environment.log.write(
        "INIT_REPORT Init Duration: \(duration.milliseconds) ms\tPhase: init\tStatus: error\tError Type: \(ended.type)")
      await giveUp(environment)
      return .failed(
        InvocationResult(
          payload: errorObject(type: ended.type, message: "Error: \(ended.text)"), functionError: "Unhandled",
          logTail: []))
    }
  }

  // MARK: Snapshots

  private func takeSnapshot(_ function: FunctionSpecification) async throws(FleetError) {
    let environment: Environment
    switch try await launch(function) {
    case .running(let running): environment = running
    case .impossible(let error):
      throw FleetError(
        code: .initialization(reasonCode: reasonCode(error.type)), message: "\(error.type): \(error.message)")
    }
    // Init under SnapStart may take 130 s or the function's timeout, whichever is longer.
    let limit = max(Duration.seconds(130), function.timeout)
    let timer = after(limit) { environment.session.end() }
    let clock = ContinuousClock()
    let begin = clock.now
    let outcome = await environment.session.initialized()
    timer.cancel()
    environment.drainOutput()
    environment.log.write("INIT_REPORT Init Duration: \((clock.now - begin).milliseconds) ms\tPhase: snapshot")
    do throws(FleetError) {
      switch outcome {
      case .waitingForRestore(let port): try await freeze(environment, port: port)
      case .ready:
        throw FleetError(
          code: .initialization(reasonCode: "FunctionError"),
          message: "The runtime did not call restore/next: it does not support SnapStart.")
      case .failed(let error):
        throw FleetError(
          code: .initialization(reasonCode: reasonCode(error.type)), message: RuntimeErrorText(error.body).description)
      case .ended:
        guard isOpen else { throw FleetError.shuttingDown }
        let ended = reason(environment, limit: limit)
        let timedOut = environment.exit == nil
        throw FleetError(
          code: .initialization(reasonCode: timedOut ? "FunctionError.InitTimeout" : "FunctionError.RuntimeInitError"),
          message: "Error: \(ended.text)")
      }
    } catch {
      await giveUp(environment)
      throw error
    }
    await giveUp(environment)
    if discarded.contains(function.revision) {
      try? await store.remove(id: function.revision)
      return
    }
    // The first restore should not have to wait for its template.
    _ = try? await template(function)
  }

  private func reasonCode(_ type: String) -> String {
    switch type {
    // The second is what AWS's client for Java says.
    case "Runtime.BeforeSnapshotError", "Runtime.BeforeCheckpointError": "FunctionError"
    case "Runtime.InvalidEntrypoint": "FunctionError.InvalidEntryPoint"
    default: "FunctionError.RuntimeInitError"
    }
  }

  private func freeze(_ environment: Environment, port: UInt16) async throws(FleetError) {
    let sandbox = environment.sandbox
    let revision = environment.function.revision
    guard let processID = childOf(sandbox.initProcessID) else {
      throw FleetError(
        code: .initialization(reasonCode: "FunctionError"), message: "The runtime ended before its snapshot was taken.")
    }
    do {
      let directory = try await store.begin(id: revision)
      let (manifest, timings) = try await Checkpoint.take(
        processID: processID, initProcessID: sandbox.initProcessID,
        supplied: [
          SuppliedDescriptor(role: .output, identity: .pipe(inode: try FileStatus(sandbox.output).inode)),
          SuppliedDescriptor(role: .connection, identity: .tcp(localPort: port)),
        ], directory: directory)
      _ = try await store.commit(id: revision)
      logger.info(
        "snapshot of \(environment.function.name):\(environment.function.version) taken",
        metadata: [
          "bytes": "\(manifest.imageBytes)", "threads": "\(manifest.threadCount)", "frozen": "\(timings.frozen)",
          "total": "\(timings.total)",
        ])
      for warning in manifest.warnings { environment.log.write("SNAPSHOT WARNING: \(warning)") }
    } catch {
      await store.abandon(id: revision)
      if let error = error as? CheckpointError {
        throw FleetError(
          code: .initialization(reasonCode: "FunctionError"), message: "The snapshot was refused: \(error.message)")
      }
      throw FleetError(code: .service, message: "The snapshot could not be stored: \(error)")
    }
  }

  private func childOf(_ process: Int32) -> Int32? {
    let text = try? ProcessFiles.text("/proc/\(process)/task/\(process)/children")
    return text?.split(separator: " ").first.flatMap { Int32($0) }
  }

  private func template(_ function: FunctionSpecification) async throws(RestoreError) -> Template {
    let revision = function.revision
    if let entry = templates[revision] { return try await entry.task.value.get() }
    guard let directory = await store.find(id: revision) else {
      throw RestoreError(code: .corrupt, message: "there is no snapshot")
    }
    // While we looked, another invocation may have begun to build it.
    if let entry = templates[revision] { return try await entry.task.value.get() }
    let bundle: RuntimeBundle
    do { bundle = try await self.bundle(function.runtime) } catch {
      throw RestoreError(code: .incompatible, message: error.message)
    }
    if let entry = templates[revision] { return try await entry.task.value.get() }
    let seed = directory.appending("tmp")
    let hasSeed = (try? FileStatus(path: seed.string)) != nil
    let specification = specification(function, bundle, seed: hasSeed ? seed : nil)
    let (jailer, restorer, logger) = (jailer, configuration.restorer, logger)
    let task = Task {
      do throws(RestoreError) {
        return Result<Template, RestoreError>.success(
          try await Template.build(
            directory: directory, jailer: jailer, specification: specification, restorer: restorer, logger: logger))
      } catch {
        return .failure(error)
      }
    }
    templates[revision] = TemplateEntry(task: task, specification: specification)
    do throws(RestoreError) {
      let template = try await task.value.get()
      await pool.warm(specification)
      return template
    } catch {
      templates[revision] = nil
      throw error
    }
  }

  /// Builds a new snapshot from code in the background, once.
  private func rebuild(_ function: FunctionSpecification) async {
    guard preparing[function.revision] == nil, isOpen else { return }
    let logger = logger
    let task: Task<Result<Void, FleetError>, Never> = Task {
      do throws(FleetError) {
        try await self.takeSnapshot(function)
        logger.info("a new snapshot of \(function.name):\(function.version) is there")
        self.rebuilt(function.revision)
        return .success(())
      } catch {
        logger.error("no new snapshot of \(function.name):\(function.version) could be taken: \(error.message)")
        self.rebuilt(function.revision)
        return .failure(error)
      }
    }
    preparing[function.revision] = task
  }

  private func rebuilt(_ revision: String) { preparing[revision] = nil }

  // MARK: Restores

  private func restore(_ function: FunctionSpecification, _ template: Template) async throws -> Started {
    let clock = ContinuousClock()
    let ordered = clock.now
    guard let specification = templates[function.revision]?.specification else {
      throw RestoreError(code: .templateGone, message: "the version was discarded")
    }
    let sandbox: Sandbox
    let environment: Environment
    do {
      sandbox = try await pool.acquire(specification)
    } catch { throw RestoreError(code: .failed, message: "\(error)") }
    do {
      environment = try await Environment(
        function: function, sandbox: sandbox, session: RuntimeSession(restoredOnPort: sandbox.connectionPort),
        log: newLog(function), group: group)
    } catch {
      await sandbox.terminate()
      throw RestoreError(code: .failed, message: "\(error)")
    }
    busy[ObjectIdentifier(environment)] = environment
    environment.log.write("RESTORE_START Runtime Version: \(function.runtime)")
    let process: RestoredProcess
    do throws(RestoreError) {
      process = try await template.restore(into: sandbox)
    } catch {
      await giveUp(environment)
      throw error
    }
    // After-restore hooks have 10 s (Lambda's limit).
    let limit = Duration.seconds(10)
    let timer = after(limit) { environment.session.end() }
    let outcome = await environment.session.restored()
    timer.cancel()
    switch outcome {
    case .ready:
      let ready = environment.session.firstNext ?? clock.now
      let total = ready - ordered
      let billed = max(.zero, total - process.timings.done)
      environment.setOrigin(.restored(total: total, billed: billed))
      environment.setImage(bytes: template.manifest.imageBytes)
      environment.setRestore(ordered: ordered, process, firstNext: ready)
      environment.limitCPU()
      environment.log.write("RESTORE_REPORT Restore Duration: \(total.milliseconds) ms")
      templates[function.revision]?.lastUse = clock.now
      return .ready(environment)
    case .failed(let error):
      environment.drainOutput()
      environment.log.write(
        "RESTORE_REPORT Restore Duration: \((clock.now - ordered).milliseconds) ms\tStatus: error\tError Type: \(error.type)"
      )
      await giveUp(environment)
      throw FleetError(
        code: .snapStart, message: "After-restore code failed: \(RuntimeErrorText(error.body).description)")
    case .ended:
      environment.drainOutput()
      let ended = reason(environment, limit: limit)
      let status = environment.exit == nil ? "timeout" : "error"
      environment.log.write(
        "RESTORE_REPORT Restore Duration: \((clock.now - ordered).milliseconds) ms\tStatus: \(status)\tError Type: \(ended.type)"
      )
      let timedOut = environment.exit == nil
      await giveUp(environment)
      throw FleetError(
        code: timedOut ? .snapStartTimeout : .snapStart,
        message: timedOut
          ? "After-restore code did not finish within 10 seconds." : "After-restore code failed: \(ended.text)")
    }
  }

  // MARK: Invocations

  private nonisolated func run(_ environment: Environment, _ invocation: Invocation) async -> InvocationResult {
    let function = environment.function
    let clock = ContinuousClock()
    environment.log.beginInvocation()
    environment.log.write(InvocationReport.start(requestID: invocation.requestID, version: function.version))
    let origin = environment.takeOrigin()
    let begin = clock.now
    let timer = after(function.timeout) { environment.session.end() }
    let outcome = await environment.session.invoke(
      InvocationEvent(
        requestID: invocation.requestID,
        deadlineMilliseconds: wallClockMilliseconds() + function.timeout.roundedUpMilliseconds,
        invokedARN: invocation.invokedARN, traceID: invocation.traceID, clientContext: invocation.clientContext,
        payload: ByteBuffer(bytes: invocation.payload)))
    let end = clock.now
    timer.cancel()
    environment.drainOutput()
    let payload: [UInt8]
    var functionError: String? = "Unhandled"
    var status: String?
    var usable = true
    switch outcome {
    case .response(let body):
      payload = Array(body.readableBytesView)
      functionError = nil
    case .failed(let error): payload = Array(error.body.readableBytesView)
    case .tooLarge:
      // Runtimes take the refusal of their response for the end of the world: awslambdaric exits.
      usable = false
      payload = errorObject(
        type: "Function.ResponseSizeTooLarge",
        message: "Response payload size exceeded maximum allowed payload size (6291556 bytes).")
    case .ended:
      let ended = reason(environment, limit: function.timeout)
      status = environment.exit == nil ? "timeout" : "error"
      usable = false
      environment.log.write(
        environment.exit == nil
          ? "\(LogTime.now()) \(invocation.requestID) \(ended.text)"
          : "RequestId: \(invocation.requestID) Error: \(ended.text)")
      payload = errorObject(
        type: ended.type, message: "RequestId: \(invocation.requestID) Error: \(ended.text)")
    }
    var report = InvocationReport(
      requestID: invocation.requestID, version: function.version, duration: end - begin,
      memoryMegabytes: function.memoryMegabytes, usedMegabytes: environment.usedMegabytes, status: status)
    switch origin {
    case .cold(let initialization): report.initialization = function.snapStart ? nil : initialization
    case .restored(let total, let billed): report.restore = (total, billed)
    case nil: break
    }
    environment.log.write(report.end, report.report)
    let tail = environment.log.endInvocation()
    await finished(environment, usable: usable, replied: end)
    return InvocationResult(payload: payload, functionError: functionError, logTail: tail)
  }

  private func finished(_ environment: Environment, usable: Bool, replied: ContinuousClock.Instant) async {
    if let record = environment.takeRestoreRecord(replied: replied) {
      templates[environment.function.revision]?.lastRestore = record
      templates[environment.function.revision]?.restores += 1
    }
    if usable {
      keep(environment)
    } else {
      await giveUp(environment)
    }
  }

  /// Why an environment ended: its time was over, or its process ended.
  private nonisolated func reason(_ environment: Environment, limit: Duration) -> (type: String, text: String) {
    switch environment.exit {
    case nil:
      return ("Sandbox.Timedout", "Task timed out after \((limit / 1000).milliseconds) seconds")
    case .code(0): return ("Runtime.ExitError", "Runtime exited without providing a reason")
    case .code(let code): return ("Runtime.ExitError", "Runtime exited with error: exit status \(code)")
    case .signal(let number):
      let names: [Int32: String] = [
        4: "illegal instruction", 6: "aborted", 7: "bus error", 8: "floating point exception", 9: "killed",
        11: "segmentation fault", 13: "broken pipe", 15: "terminated",
      ]
      let name = names[number] ?? "signal \(number)"
      let outOfMemory = environment.sandbox.usage().outOfMemoryKills > 0
      return (outOfMemory ? "Runtime.OutOfMemory" : "Runtime.ExitError", "Runtime exited with error: signal: \(name)")
    }
  }

  private nonisolated func after(_ time: Duration, _ action: @escaping @Sendable () -> Void) -> Scheduled<Void> {
    group.next().scheduleTask(in: TimeAmount(time)) { action() }
  }

  private nonisolated func wallClockMilliseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
  }
}

extension FleetError {
  static let shuttingDown = FleetError(code: .shuttingDown, message: "The daemon is going down.")
}

/// Lambda's error object.
func errorObject(type: String, message: String) -> [UInt8] {
  Array(#"{"errorType":"\#(type)","errorMessage":\#(quoted(message))}"#.utf8)
}

/// A JSON string.
private func quoted(_ text: String) -> String {
  var result = "\""
  for scalar in text.unicodeScalars {
    switch scalar {
    case "\"": result += "\\\""
    case "\\": result += "\\\\"
    case "\n": result += "\\n"
    case _ where scalar.value < 0x20:
      let digits = String(scalar.value, radix: 16)
      result += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
    default: result.unicodeScalars.append(scalar)
    }
  }
  return result + "\""
}
