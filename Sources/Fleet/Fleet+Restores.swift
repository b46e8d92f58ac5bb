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
    if !discarded.contains(function.revision) { armedPolicy.started(function.revision, at: ordered) }
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
      environment.setRestore(ordered: ordered, process, firstNext: ready, template: template)
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

  /// What the first clone used until its reply is there ahead of need in those after it, and is kept for the next daemon.
  ///
  /// Only while the clone's own template lives: without it every page would seem to be the clone's alone.
  func recordWorkingSet(_ revision: String, of processID: Int32, from template: Template) async {
    guard await currentTemplate(revision) === template, template.isOpen, template.workingSet == nil else { return }
    do {
      let workingSet = try WorkingSet(usedBy: processID, of: template.manifest)
      guard template.use(workingSet) else { return }
      let bytes = workingSet.encode(imageDigest: template.manifest.imageDigest)
      // The reply does not wait for the disk.
      Task {
        do { try await store.attach(bytes, as: WorkingSet.fileName, to: revision) } catch {
          logger.warning("the working set of snapshot \(revision) could not be kept: \(error)")
        }
      }
    } catch {
      logger.warning("the working set of snapshot \(revision) could not be recorded: \(error)")
    }
  }
}
