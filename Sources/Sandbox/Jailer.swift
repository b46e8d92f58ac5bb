internal import CJailerProtocol
internal import Glibc
internal import Linux
public import Logging
internal import Synchronization
public import SystemPackage

/// What went wrong with a sandbox, the jailer or a limit.
public struct SandboxError: Error, Sendable, CustomStringConvertible {
  /// The kernel's reason, if it was the kernel's.
  public var errno: Errno?
  /// What happened, for a person.
  public var message: String

  /// An error with its message.
  public init(_ message: String, errno: Errno? = nil) {
    self.message = message
    self.errno = errno
  }

  public var description: String { errno.map { "\(message): \($0)" } ?? message }
}

/// The client of the jailer process, which is the only part with privileges over namespaces, mounts and cgroups.
public final class Jailer: Sendable {
  private struct State: Sendable {
    var isOpen = true
    var nextRequest: UInt32 = 1
    var pending: [UInt32: CheckedContinuation<Result<Reply, SandboxError>, Never>] = [:]
    var sandboxes: [UInt64: Sandbox] = [:]
    var adopted: [Int32: Sandbox] = [:]
    /// Ends of processes that nobody has claimed yet: a restored process may end before its template has said its id.
    var unclaimed: [Int32: Unclaimed] = [:]
    /// Templates that have not ended yet, with those who wait for it.
    var templates: [Int32: [CheckedContinuation<Void, Never>]] = [:]
    var onLoss: (@Sendable () -> Void)?
  }
  private struct Unclaimed: Sendable {
    var status: Int32
    var since: ContinuousClock.Instant
    /// Process ids come round again: what nobody has claimed after a while is not of the process that has the id now.
    func isCurrent(at now: ContinuousClock.Instant) -> Bool { since.duration(to: now) < .seconds(30) }
  }
  /// The jailer's answer to a request.
  struct Reply: Sendable {
    var process: Int32
    var sandbox: UInt64
    var port: UInt16
    var cgroups: Int
    var measures: Int32
    var descriptors: [FileDescriptor]
    var hasMemory: Bool { measures & JAILER_HAS_MEMORY != 0 }
    var hasCPU: Bool { measures & JAILER_HAS_CPU != 0 }
  }

  private let socket: SeqpacketSocket
  private let state = Mutex(State())
  private let logger: Logger
  private let processID: Int32

  private init(socket: SeqpacketSocket, processID: Int32, logger: Logger) {
    self.socket = socket
    self.processID = processID
    self.logger = logger
  }

  /// Starts the jailer and waits for its greeting.
  ///
  /// Every sandbox holds about a dozen descriptors of this process: its limit of open files is raised as far as it may be.
  ///
  /// - Parameters:
  ///   - executable: `thaw-jailer`.
  ///   - rootDirectory: an existing, empty directory; every sandbox mounts its root there in its own namespace.
  ///   - instance: names this daemon's cgroups; what a jailer of the same name has left behind is removed first.
  public static func launch(
    executable: FilePath, rootDirectory: FilePath, instance: String, logger: Logger
  ) async throws -> Jailer {
    var files = rlimit()
    if getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files) == 0, files.rlim_cur < files.rlim_max {
      files.rlim_cur = files.rlim_max
      setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &files)
    }
    let pair = try SeqpacketSocket.pair()
    defer { try? pair.other.close() }
    let processID = try spawn(executable, [rootDirectory.string, instance], control: pair.other)
    let jailer = Jailer(socket: pair.own, processID: processID, logger: logger)
    let (greetings, greet) = AsyncStream.makeStream(of: [UInt8]?.self)
    pair.own.readMessages(maximum: Int(JAILER_MAXIMUM_MESSAGE)) { [weak jailer] message in
      guard let message else {
        greet.yield(nil)
        jailer?.lost()
        return
      }
      if type(of: message.bytes) == JAILER_HELLO.rawValue {
        greet.yield(message.bytes)
      } else {
        jailer?.receive(message)
      }
    }
    guard let first = await greetings.first(where: { _ in true }), let hello = first else {
      throw SandboxError(
        "the jailer \(executable) ended at once; is it built for this machine, and does this run as root?")
    }
    let fixed = hello.withUnsafeBytes { $0.loadUnaligned(as: jailer_answer.self) }
    let text = text(behind: MemoryLayout<jailer_answer>.size, in: hello)
    if fixed.error != 0 { throw SandboxError("the jailer cannot work: \(text)", errno: Errno(rawValue: fixed.error)) }
    for warning in text.split(separator: "\n") { logger.warning("jailer: \(warning)") }
    return jailer
  }

  private static func spawn(
    _ executable: FilePath, _ arguments: [String], control: FileDescriptor
  ) throws -> Int32 {
    var actions = posix_spawn_file_actions_t()
    posix_spawn_file_actions_init(&actions)
    defer { posix_spawn_file_actions_destroy(&actions) }
    // dup2 to the same number would leave close-on-exec set.
    let parked = fcntl(control.rawValue, F_DUPFD_CLOEXEC, 100)
    defer { close(parked) }
    posix_spawn_file_actions_adddup2(&actions, parked, JAILER_CONTROL_DESCRIPTOR)
    let strings = ([executable.string] + arguments).map { strdup($0) }
    defer { for string in strings { free(string) } }
    var processID: pid_t = 0
    let result = posix_spawn(&processID, executable.string, &actions, nil, strings + [nil], environ)
    guard result == 0 else {
      throw SandboxError("cannot start the jailer \(executable)", errno: Errno(rawValue: result))
    }
    return processID
  }

  /// Calls `handler` when the jailer ends without having been asked to.
  public func onLoss(_ handler: @escaping @Sendable () -> Void) {
    state.withLock { $0.onLoss = handler }
  }

  // MARK: Requests

  /// Makes one blank sandbox.
  public func makeSandbox(_ specification: SandboxSpecification) async throws -> Sandbox {
    let reply = try await request { number in
      Jailer.sandboxMessage(type: JAILER_MAKE_SANDBOX.rawValue, number, specification)
    }
    let expected = 5 + reply.cgroups + (reply.hasMemory ? 2 : 0) + (reply.hasCPU ? 1 : 0)
    guard reply.descriptors.count == expected else {
      for descriptor in reply.descriptors { try? descriptor.close() }
      await terminate(sandbox: reply.sandbox)
      throw SandboxError(
        "no room for the \(expected) descriptors of a sandbox: raise this process's limit of open files (ulimit -n)",
        errno: .tooManyOpenFiles)
    }
    let sandbox = Sandbox(reply: reply, specification: specification, jailer: self)
    state.withLock { $0.sandboxes[sandbox.id] = sandbox }
    return sandbox
  }

  /// Starts `executable` (a static program) as root in a new mount namespace that looks like a sandbox's with this
  /// specification, but in the
  /// jailer's own pid namespace, with `descriptors` as its descriptors 0, 1, 2... Answers its process id. It is
  /// killed when the jailer ends.
  public func startTemplate(
    executable: FilePath, specification: SandboxSpecification, descriptors: [FileDescriptor]
  ) async throws -> Int32 {
    let program = try FileDescriptor.open(executable, .readOnly, options: .closeOnExec)
    defer { try? program.close() }
    let reply = try await request(descriptors: [program] + descriptors) { number in
      Jailer.sandboxMessage(type: JAILER_START_TEMPLATE.rawValue, number, specification)
    }
    return reply.process
  }

  /// Kills a template process and waits for its end.
  public func endTemplate(processID: Int32) async {
    let message = jailer_kill(
      header: jailer_header(type: JAILER_KILL.rawValue, request: 0), process: processID, unused: 0)
    let isAlive = state.withLock { $0.isOpen && $0.templates[processID] != nil }
    guard isAlive else { return }
    try? socket.send(withUnsafeBytes(of: message) { Array($0) })
    await waitForTemplate(processID: processID)
  }

  /// Waits until a template process has ended, by whatever cause. Returns at once if it has.
  public func waitForTemplate(processID: Int32) async {
    await withCheckedContinuation { continuation in
      let isAlive = state.withLock { state in
        guard state.isOpen, state.templates[processID] != nil else { return false }
        state.templates[processID]?.append(continuation)
        return true
      }
      if !isAlive { continuation.resume() }
    }
  }

  func start(
    sandbox: UInt64, arguments: [String], environment: [String], workingDirectory: FilePath
  ) async throws -> Int32 {
    try await request { number in
      let fixed = jailer_start(
        header: jailer_header(type: JAILER_START.rawValue, request: number), sandbox: sandbox,
        argument_count: UInt32(arguments.count), environment_count: UInt32(environment.count))
      return Jailer.message(fixed, [workingDirectory.string] + arguments + environment)
    }.process
  }

  func terminate(sandbox: UInt64) async {
    _ = try? await request { number in
      Jailer.message(
        jailer_terminate(header: jailer_header(type: JAILER_TERMINATE.rawValue, request: number), sandbox: sandbox), [])
    }
    state.withLock { state in
      state.sandboxes[sandbox] = nil
      state.adopted = state.adopted.filter { $0.value.id != sandbox }
    }
  }

  func adopt(_ processID: Int32, by sandbox: Sandbox) {
    let now = ContinuousClock.now
    let ended: Unclaimed? = state.withLock { state in
      if let ended = state.unclaimed.removeValue(forKey: processID), ended.isCurrent(at: now) { return ended }
      state.adopted[processID] = sandbox
      return nil
    }
    if let ended { sandbox.ended(status: ended.status) }
  }

  private func request(
    descriptors: [FileDescriptor] = [], _ message: (UInt32) -> [UInt8]
  ) async throws(SandboxError) -> Reply {
    let number = state.withLock { state in
      defer { state.nextRequest &+= 1 }
      return state.nextRequest
    }
    let bytes = message(number)
    guard bytes.count <= Int(JAILER_MAXIMUM_MESSAGE) else {
      throw SandboxError("a request of \(bytes.count) bytes is too long for the jailer: are there very many variables?")
    }
    return try await withCheckedContinuation { continuation in
      let isOpen = state.withLock { state in
        if state.isOpen { state.pending[number] = continuation }
        return state.isOpen
      }
      guard isOpen else {
        continuation.resume(returning: .failure(SandboxError("the jailer has ended")))
        return
      }
      do throws(SystemCallError) {
        try socket.send(bytes, descriptors: descriptors)
      } catch {
        finish(number, .failure(SandboxError("the jailer does not take requests", errno: error.errno)))
      }
    }.get()
  }

  private func finish(_ number: UInt32, _ result: Result<Reply, SandboxError>) {
    state.withLock { $0.pending.removeValue(forKey: number) }?.resume(returning: result)
  }

  // MARK: Messages

  private func receive(_ message: SeqpacketSocket.Message) {
    switch Jailer.type(of: message.bytes) {
    case JAILER_ANSWER.rawValue where message.bytes.count >= MemoryLayout<jailer_answer>.size:
      let fixed = message.bytes.withUnsafeBytes { $0.loadUnaligned(as: jailer_answer.self) }
      let number = fixed.header.request
      if fixed.error != 0 {
        let text = Jailer.text(behind: MemoryLayout<jailer_answer>.size, in: message.bytes)
        finish(number, .failure(SandboxError(text, errno: Errno(rawValue: fixed.error))))
      } else {
        // The answer to START_TEMPLATE is the only one that names a process but no sandbox. Its end can only be told later.
        if fixed.process > 0, fixed.sandbox == 0 { state.withLock { $0.templates[fixed.process] = [] } }
        finish(
          number,
          .success(
            Reply(
              process: fixed.process, sandbox: fixed.sandbox, port: fixed.port, cgroups: Int(fixed.cgroups),
              measures: Int32(fixed.measures), descriptors: message.descriptors)))
      }
    case JAILER_EXITED.rawValue where message.bytes.count == MemoryLayout<jailer_exited>.size:
      exited(message.bytes.withUnsafeBytes { $0.loadUnaligned(as: jailer_exited.self) })
    default:
      for descriptor in message.descriptors { try? descriptor.close() }
      logger.error("the jailer sent a message that is not understood")
    }
  }

  private func exited(_ exit: jailer_exited) {
    if exit.sandbox != 0 {
      state.withLock { $0.sandboxes[exit.sandbox] }?.ended(status: exit.status)
      return
    }
    let now = ContinuousClock.now
    let (sandbox, waiting) = state.withLock { state -> (Sandbox?, [CheckedContinuation<Void, Never>]) in
      if let sandbox = state.adopted.removeValue(forKey: exit.process) { return (sandbox, []) }
      if let waiting = state.templates.removeValue(forKey: exit.process) { return (nil, waiting) }
      if state.unclaimed.count >= 4096 { state.unclaimed = state.unclaimed.filter { $0.value.isCurrent(at: now) } }
      state.unclaimed[exit.process] = Unclaimed(status: exit.status, since: now)
      return (nil, [])
    }
    sandbox?.ended(status: exit.status)
    for continuation in waiting { continuation.resume() }
  }

  private func lost() {
    let (pending, waiting, sandboxes, handler) = state.withLock { state in
      defer {
        state.isOpen = false
        state.pending = [:]
        state.templates = [:]
        state.onLoss = nil
      }
      return (
        Array(state.pending.values), state.templates.values.flatMap { $0 }, Array(state.sandboxes.values),
        state.isOpen ? state.onLoss : nil
      )
    }
    for continuation in pending { continuation.resume(returning: .failure(SandboxError("the jailer has ended"))) }
    for continuation in waiting { continuation.resume() }
    for sandbox in sandboxes { sandbox.ended(status: 9) }
    handler?()
  }

  /// Ends every sandbox and template, and the jailer.
  public func shutdown() async {
    state.withLock { $0.onLoss = nil }
    socket.close()
    lost()
    let processID = processID
    await withCheckedContinuation { continuation in
      BlockingThread.start(name: "thaw-wait") {
        var status: Int32 = 0
        while waitpid(processID, &status, 0) < 0, errno == EINTR {}
        continuation.resume()
      }
    }
  }

  private static func type(of bytes: [UInt8]) -> UInt32 {
    bytes.count >= 8 ? bytes.withUnsafeBytes { $0.loadUnaligned(as: UInt32.self) } : 0
  }

  private static func text(behind size: Int, in bytes: [UInt8]) -> String {
    String(decoding: bytes.dropFirst(size).prefix { $0 != 0 }, as: UTF8.self)
  }

  private static func message<Fixed: BitwiseCopyable>(_ fixed: Fixed, _ strings: [String]) -> [UInt8] {
    var bytes = withUnsafeBytes(of: fixed) { Array($0) }
    for string in strings {
      // A NUL would end the string early; no path, argument or variable can hold one.
      bytes.append(contentsOf: string.utf8.filter { $0 != 0 })
      bytes.append(0)
    }
    return bytes
  }

  private static func sandboxMessage(
    type: UInt32, _ number: UInt32, _ specification: SandboxSpecification
  ) -> [UInt8] {
    let fixed = jailer_sandbox(
      header: jailer_header(type: type, request: number),
      temporary_bytes: UInt64(specification.temporaryBytes), memory_bytes: UInt64(specification.memoryBytes),
      maximum_tasks: UInt32(specification.maximumTasks), unused: 0, user: specification.userID,
      port: specification.runtimeAPIPort, mount_count: UInt16(specification.mounts.count))
    return message(
      fixed,
      [specification.temporarySeed?.string ?? ""]
        + specification.mounts.flatMap { [$0.source.string, $0.target.string] })
  }
}
