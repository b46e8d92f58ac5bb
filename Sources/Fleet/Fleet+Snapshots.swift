internal import Checkpoint
internal import Logging
internal import Linux
internal import Metering
internal import NIOCore
internal import Restore
internal import RuntimeAPI
internal import Runtimes
internal import Sandbox
internal import SnapshotFormat
internal import SnapshotStore
internal import SystemPackage

/// Snapshots of versions, and the templates built from them.
extension Fleet {
  func takeSnapshot(_ function: FunctionSpecification) async throws(FleetError) {
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
    try await tryOut(function)
  }

  /// Brings the new snapshot back once, up to the first instruction of user code: a version whose snapshot does not
  /// come back is not to become active. The first restore does not have to wait for its template then.
  private func tryOut(_ function: FunctionSpecification) async throws(FleetError) {
    do throws(RestoreError) {
      let template = try await template(function)
      let environment: Environment
      do { environment = try await blankEnvironment(function) } catch {
        logger.warning("the snapshot of \(function.name):\(function.version) was not tried out: \(error.message)")
        return
      }
      _ = try await arm(template, in: environment)
      await environment.end()
    } catch {
      guard isOpen, !discarded.contains(function.revision), error.code != .templateGone else { return }
      await closeTemplate(function.revision)
      try? await store.remove(id: function.revision)
      throw FleetError(
        code: .initialization(reasonCode: "FunctionError"),
        message: "The snapshot was refused: it does not come back: \(error.message)")
    }
  }

  func reasonCode(_ type: String) -> String {
    switch type {
    // The second is what AWS's client for Java says.
    case "Runtime.BeforeSnapshotError", "Runtime.BeforeCheckpointError": "FunctionError"
    case "Runtime.InvalidEntrypoint": "FunctionError.InvalidEntryPoint"
    default: "FunctionError.RuntimeInitError"
    }
  }

  func freeze(_ environment: Environment, port: UInt16) async throws(FleetError) {
    let sandbox = environment.sandbox
    let revision = environment.function.revision
    do {
      let directory = try await store.begin(id: revision)
      let (manifest, timings) = try await Checkpoint.take(
        processID: environment.processID, initProcessID: sandbox.initProcessID,
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

  func template(_ function: FunctionSpecification) async throws(RestoreError) -> Template {
    let revision = function.revision
    if let entry = templates[revision] { return try await entry.task.value.get() }
    guard let directory = await store.find(id: revision) else {
      throw RestoreError(code: .corrupt, message: "there is no snapshot")
    }
    guard !discarded.contains(revision) else {
      throw RestoreError(code: .templateGone, message: "the version was discarded")
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
      if discarded.contains(revision) {
        await closeTemplate(revision, ifStill: template)
        throw RestoreError(code: .templateGone, message: "the version was discarded")
      }
      await pool.warm(specification)
      return template
    } catch {
      if templates[revision]?.task == task { templates[revision] = nil }
      throw error
    }
  }

  /// The version's template if it is built; nil if there is none, or it failed.
  func currentTemplate(_ revision: String) async -> Template? {
    guard let entry = templates[revision], case .success(let template) = await entry.task.value else { return nil }
    return templates[revision]?.task == entry.task ? template : nil
  }

  /// Ends a version's template with the armed environments cloned from it, and its blank sandboxes.
  ///
  /// - Parameter expected: does nothing if another template has taken this one's place.
  func closeTemplate(_ revision: String, ifStill expected: Template? = nil) async {
    guard let entry = templates[revision] else { return }
    let result = await entry.task.value
    guard templates[revision]?.task == entry.task else { return }
    if let expected, case .success(let template) = result, template !== expected { return }
    templates[revision] = nil
    await endArmed(revision)
    if case .success(let template) = result { await template.close() }
    await pool.forget(entry.specification)
  }

  /// Builds a new snapshot from code in the background, once.
  func rebuild(_ function: FunctionSpecification) async {
    guard preparing[function.revision] == nil, isOpen else { return }
    let logger = logger
    let task: Task<Result<Void, FleetError>, Never> = Task {
      defer { preparing[function.revision] = nil }
      do throws(FleetError) {
        try await self.takeSnapshot(function)
        logger.info("a new snapshot of \(function.name):\(function.version) is there")
        return .success(())
      } catch {
        logger.error("no new snapshot of \(function.name):\(function.version) could be taken: \(error.message)")
        return .failure(error)
      }
    }
    preparing[function.revision] = task
  }
}
