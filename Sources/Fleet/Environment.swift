internal import Glibc
internal import Linux
internal import Metering
internal import NIOPosix
internal import Restore
internal import RuntimeAPI
internal import Sandbox
internal import Synchronization
internal import SystemPackage

/// One execution environment: a sandbox, the conversation with the runtime in it, and its log.
final class Environment: Sendable {
  let function: FunctionSpecification
  let sandbox: Sandbox
  let session: RuntimeSession
  let log: EnvironmentLog
  private let server: RuntimeAPIServer
  private let pump: OutputPump

  /// What the first invocation reports besides itself.
  enum Origin: Sendable {
    case cold(initialization: Duration)
    case restored(total: Duration, billed: Duration)
  }
  private struct State: Sendable {
    var origin: Origin?
    var exit: ProcessExit?
    var limited = false
    var restore:
      (
        ordered: ContinuousClock.Instant, process: RestoredProcess, firstNext: ContinuousClock.Instant,
        template: Template
      )?
    var imageMegabytes = 0
    var processID: Int32 = 0
    var idleSince = ContinuousClock.now
    var ended = false
  }
  private let state = Mutex(State())

  init(
    function: FunctionSpecification, sandbox: Sandbox, session: RuntimeSession, log: EnvironmentLog,
    group: MultiThreadedEventLoopGroup, onExit: @escaping @Sendable (Environment) async -> Void
  ) async throws {
    self.function = function
    self.sandbox = sandbox
    self.session = session
    self.log = log
    server = try await RuntimeAPIServer.start(
      socket: try sandbox.listener.duplicate().rawValue, session: session, group: group)
    pump = try OutputPump(try sandbox.output.duplicate(), log: log)
    // The end of the process ends whatever waits for its answer; only then is the environment let go of.
    Task { [self] in
      let exit = await sandbox.waitForExit()
      state.withLock { $0.exit = exit }
      session.end()
      await onExit(self)
    }
  }

  /// The runtime's process id as this daemon sees it, of one that was started in it; 0 before.
  var processID: Int32 {
    get { state.withLock { $0.processID } }
    set { state.withLock { $0.processID = newValue } }
  }

  /// How the process ended, if it did.
  var exit: ProcessExit? { state.withLock { $0.exit } }

  /// What the first invocation reports, once.
  func takeOrigin() -> Origin? {
    state.withLock { state in
      defer { state.origin = nil }
      return state.origin
    }
  }

  func setOrigin(_ origin: Origin) { state.withLock { $0.origin = origin } }

  /// Remembers how the environment was restored.
  func setRestore(
    ordered: ContinuousClock.Instant, _ process: RestoredProcess, firstNext: ContinuousClock.Instant, template: Template
  ) {
    state.withLock { $0.restore = (ordered, process, firstNext, template) }
  }

  /// The record of the restore, once, when the reply to the first event is there.
  func takeRestoreRecord(
    replied: ContinuousClock.Instant
  ) -> (record: FleetStatus.RestoreRecord, template: Template)? {
    let restore = state.withLock { state in
      defer { state.restore = nil }
      return state.restore
    }
    guard let (ordered, process, firstNext, template) = restore else { return nil }
    func microseconds(_ time: Duration) -> Double { time / .microseconds(1) }
    let timings = process.timings
    let record = FleetStatus.RestoreRecord(
      cloned: microseconds(timings.cloned), entered: microseconds(timings.entered),
      mapped: microseconds(timings.mapped),
      instance: microseconds(timings.instance), threads: microseconds(timings.threads),
      done: microseconds(timings.done), firstNext: microseconds(firstNext - ordered),
      reply: microseconds(replied - ordered), processID: process.processID, wasArmed: timings.wasArmed)
    return (record, template)
  }

  /// The most memory used, in MB. A restored environment's own cgroup counts what it wrote besides what its template's
  /// spare has copied for it; the snapshot's pages are added.
  var usedMegabytes: Int {
    let shared = state.withLock { $0.imageMegabytes }
    return min(function.memoryMegabytes, (sandbox.usage().peakMemoryBytes >> 20) + shared)
  }

  func setImage(bytes: UInt64) { state.withLock { $0.imageMegabytes = Int(bytes >> 20) } }

  /// Puts the CPU limit in force, once.
  func limitCPU() {
    let first = state.withLock { state in
      defer { state.limited = true }
      return !state.limited
    }
    if first { sandbox.limitCPU() }
  }

  var idleSince: ContinuousClock.Instant {
    get { state.withLock { $0.idleSince } }
    set { state.withLock { $0.idleSince = newValue } }
  }

  /// Takes in everything that was printed so far.
  func drainOutput() { pump.drain() }

  /// Ends the environment: nothing is left of it afterwards.
  func end() async {
    let first = state.withLock { state in
      defer { state.ended = true }
      return !state.ended
    }
    guard first else { return }
    session.end()
    await sandbox.terminate()
    pump.close()
    server.close()
  }
}

/// Reads what an environment's processes print, when it comes and on demand.
final class OutputPump: Sendable {
  private struct State: Sendable {
    var isOpen = true
    var watch: UInt64?
  }
  /// Held while reading, so that a drain and the watch do not mix up the order of lines.
  private let state = Mutex(State())
  private let descriptor: FileDescriptor
  private let log: EnvironmentLog

  /// Takes over a non-blocking descriptor.
  init(_ descriptor: FileDescriptor, log: EnvironmentLog) throws {
    self.descriptor = descriptor
    self.log = log
    do {
      // Under the lock: a handler that is called at once waits until the watch is known.
      try state.withLock { state in
        state.watch = try DescriptorWatch.shared.add(descriptor) { [weak self] in self?.readable() ?? false }
      }
    } catch {
      try? descriptor.close()
      throw error
    }
  }

  deinit { close() }

  private func readable() -> Bool {
    state.withLock { state in
      guard state.isOpen else { return false }
      if read() { return true }
      close(&state)
      return false
    }
  }

  /// Takes in everything that was printed so far.
  func drain() {
    state.withLock { state in
      if state.isOpen { _ = read() }
    }
  }

  /// Reads what is there and answers whether more may come. At most 1 MB at a time, so that a function that prints
  /// without end does not hold the thread.
  private func read() -> Bool {
    withUnsafeTemporaryAllocation(byteCount: 65536, alignment: 16) { buffer in
      for _ in 0..<16 {
        let count = Glibc.read(descriptor.rawValue, buffer.baseAddress, buffer.count)
        if count == 0 { return false }
        if count < 0 { return errno == EAGAIN || errno == EINTR }
        log.append(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
      }
      return true
    }
  }

  /// Reads the rest and closes the descriptor.
  func close() {
    state.withLock { state in
      guard state.isOpen else { return }
      _ = read()
      close(&state)
    }
  }

  private func close(_ state: inout State) {
    state.isOpen = false
    if let watch = state.watch { DescriptorWatch.shared.remove(watch, descriptor) }
    try? descriptor.close()
  }
}
