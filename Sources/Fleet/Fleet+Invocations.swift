internal import Glibc
internal import Logging
internal import Metering
internal import NIOCore
internal import NIOPosix
internal import Restore
internal import RuntimeAPI
internal import Sandbox
internal import SnapshotFormat

extension Fleet {
  nonisolated func run(_ environment: Environment, _ invocation: Invocation) async -> InvocationResult {
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

  func finished(_ environment: Environment, usable: Bool, replied: ContinuousClock.Instant) async {
    if let (record, template) = environment.takeRestoreRecord(replied: replied) {
      templates[environment.function.revision]?.lastRestore = record
      templates[environment.function.revision]?.restores += 1
      if usable {
        await recordWorkingSet(environment.function.revision, of: record.processID, from: template)
      }
    }
    if usable {
      keep(environment)
    } else {
      await giveUp(environment)
    }
    refillArmed(environment.function)
  }

  /// Why an environment ended: its time was over, or its process ended.
  nonisolated func reason(_ environment: Environment, limit: Duration) -> (type: String, text: String) {
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

  nonisolated func after(_ time: Duration, _ action: @escaping @Sendable () -> Void) -> Scheduled<Void> {
    group.next().scheduleTask(in: TimeAmount(time)) { action() }
  }

  nonisolated func wallClockMilliseconds() -> Int64 {
    var time = timespec()
    clock_gettime(CLOCK_REALTIME, &time)
    return Int64(time.tv_sec) * 1000 + Int64(time.tv_nsec) / 1_000_000
  }
}
