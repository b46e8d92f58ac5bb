internal import Logging
internal import Metering
internal import NIOCore
internal import Restore
internal import RuntimeAPI
internal import Sandbox
internal import SnapshotFormat
internal import SnapshotStore

/// Environments made from snapshots: cloned when an invocation comes, or armed ahead of it.
extension Fleet {
  func restore(_ function: FunctionSpecification, _ template: Template) async throws -> Started {
    let clock = ContinuousClock()
    let ordered = clock.now
    armedPolicy.started(function.revision, at: ordered)
    let (environment, process) = try await restoredEnvironment(function, template)
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

  /// An environment whose process is about to run user code: an armed one, else a new clone.
  private func restoredEnvironment(
    _ function: FunctionSpecification, _ template: Template
  ) async throws(RestoreError) -> (Environment, RestoredProcess) {
    if let ready = takeArmed(function.revision) {
      logRestoreStart(ready.environment)
      do throws(RestoreError) {
        return (ready.environment, try await ready.process.release())
      } catch {
        logger.warning(
          "an armed environment of \(function.name):\(function.version) was lost, another is cloned: \(error.message)")
        await giveUp(ready.environment)
      }
    }
    let environment = try await blankEnvironment(function)
    busy[ObjectIdentifier(environment)] = environment
    logRestoreStart(environment)
    do throws(RestoreError) {
      return (environment, try await template.restore(into: environment.sandbox))
    } catch {
      await giveUp(environment)
      throw error
    }
  }

  private func logRestoreStart(_ environment: Environment) {
    environment.log.write("RESTORE_START Runtime Version: \(environment.function.runtime)")
  }

  /// A blank sandbox whose session has answered the `restore/next` that the clone waits for.
  func blankEnvironment(_ function: FunctionSpecification) async throws(RestoreError) -> Environment {
    guard let specification = templates[function.revision]?.specification else {
      throw RestoreError(code: .templateGone, message: "the version was discarded")
    }
    do {
      let sandbox = try await pool.acquire(specification)
      do {
        return try await makeEnvironment(
          function, sandbox, session: RuntimeSession(restoredOnPort: sandbox.connectionPort))
      } catch {
        await sandbox.terminate()
        throw error
      }
    } catch { throw RestoreError(code: .failed, message: "\(error)") }
  }

  /// What the first clone wrote until its reply is copied ahead in those after it, and kept for the next daemon.
  func recordWorkingSet(_ revision: String, of processID: Int32) async {
    guard let template = await currentTemplate(revision), template.workingSet == nil else { return }
    do {
      let workingSet = try WorkingSet(usedBy: processID, of: template.manifest)
      template.use(workingSet)
      try await store.attach(
        workingSet.encode(imageDigest: template.manifest.imageDigest), as: WorkingSet.fileName, to: revision)
    } catch {
      logger.warning("the working set of snapshot \(revision) could not be recorded: \(error)")
    }
  }
}
