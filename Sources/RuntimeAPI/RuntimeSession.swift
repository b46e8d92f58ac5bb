internal import NIOConcurrencyHelpers
public import NIOCore

/// One event as the runtime gets it.
public struct InvocationEvent: Sendable {
  /// A UUID.
  public var requestID: String
  /// Milliseconds since 1970 at which the function's time is over.
  public var deadlineMilliseconds: Int64
  /// The ARN as invoked.
  public var invokedARN: String
  /// `X-Amzn-Trace-Id`, if any.
  public var traceID: String?
  /// Client context as JSON, if any.
  public var clientContext: String?
  /// The event's JSON.
  public var payload: ByteBuffer

  /// Makes an event.
  public init(
    requestID: String, deadlineMilliseconds: Int64, invokedARN: String, traceID: String?, clientContext: String?,
    payload: ByteBuffer
  ) {
    self.requestID = requestID
    self.deadlineMilliseconds = deadlineMilliseconds
    self.invokedARN = invokedARN
    self.traceID = traceID
    self.clientContext = clientContext
    self.payload = payload
  }
}

/// An error that a runtime reported: the body as it came, and the type of the header
/// `Lambda-Runtime-Function-Error-Type`.
public struct RuntimeError: Sendable, Equatable {
  /// The error object, JSON.
  public var body: ByteBuffer
  /// Such as `Runtime.ImportModuleError`.
  public var type: String

  /// An error of a runtime.
  public init(body: ByteBuffer, type: String) {
    self.body = body
    self.type = type
  }
}

/// How init ended.
public enum InitializationOutcome: Sendable {
  /// The runtime asked for its first event.
  case ready
  /// It waits in `restore/next`, on the connection that has this local port on its side.
  case waitingForRestore(localPort: UInt16)
  /// It reported an error.
  case failed(RuntimeError)
  /// Its process ended, or the environment was given up.
  case ended
}

/// How the part after the restore ended.
public enum RestoreOutcome: Sendable {
  /// The runtime asked for its first event.
  case ready
  /// It reported an error.
  case failed(RuntimeError)
  /// Its process ended, or the environment was given up.
  case ended
}

/// What the runtime answered to an event.
public enum InvocationOutcome: Sendable {
  /// A response.
  case response(ByteBuffer)
  /// An error.
  case failed(RuntimeError)
  /// A response that is larger than 6 MB; its size in bytes.
  case tooLarge(Int)
  /// Its process ended, or the environment was given up.
  case ended
}

/// The conversation with the runtime of one execution environment. Connections feed it; the fleet awaits what comes
/// of it.
public final class RuntimeSession: Sendable {
  /// A connection that waits for an answer.
  struct Waiter: Sendable {
    let connection: RuntimeConnection
    let localPort: UInt16
  }

  private struct Protected: Sendable {
    var machine: StateMachine<Waiter>
    var initialization = Promise<InitializationOutcome>()
    var restore = Promise<RestoreOutcome>()
    var invocation: CheckedContinuation<InvocationOutcome, Never>?
    var restorePort: UInt16?
    var restoredConnection: RuntimeConnection?
    var restoreAnswered = false
    var firstNext: ContinuousClock.Instant?
  }
  private let protected: NIOLockedValueBox<Protected>

  /// A session with a runtime that starts.
  ///
  /// - Parameter snapStart: the runtime was started with initialization type snap-start and may call `restore/next`.
  public init(snapStart: Bool) {
    protected = NIOLockedValueBox(Protected(machine: StateMachine(restored: false, snapStart: snapStart)))
  }

  /// A session with a restored runtime: it was frozen while it waited for the answer to `restore/next`, and will
  /// wait for it on the connection
  /// with this port on its side, without asking again. The answer is given as soon as that connection is there.
  public init(restoredOnPort port: UInt16) {
    protected = NIOLockedValueBox(
      Protected(machine: StateMachine(restored: true, snapStart: true), restorePort: port))
  }

  // MARK: The fleet's side

  /// How init ends. May be awaited once.
  public func initialized() async -> InitializationOutcome {
    await withCheckedContinuation { continuation in
      protected.withLockedValue { $0.initialization.wait(continuation) }?()
    }
  }

  /// How the part after the restore ends. May be awaited once.
  public func restored() async -> RestoreOutcome {
    await withCheckedContinuation { continuation in
      protected.withLockedValue { $0.restore.wait(continuation) }?()
    }
  }

  /// Whether it has been ended: nothing comes of it any more.
  public var isEnded: Bool { protected.withLockedValue { $0.machine.isEnded } }

  /// When the runtime asked for its first event.
  public var firstNext: ContinuousClock.Instant? { protected.withLockedValue { $0.firstNext } }

  /// Lets a process that waits in `restore/next`, or will, go on: it was not snapshotted, but started cold.
  public func allowRestore() { perform { $0.machine.allowRestore() } }

  /// Gives the runtime an event, at once or when it asks for it, and waits for its answer. One at a time.
  public func invoke(_ event: InvocationEvent) async -> InvocationOutcome {
    await withCheckedContinuation { continuation in
      protected.withLockedValue { $0.invocation = continuation }
      perform { $0.machine.invoke(event) }
    }
  }

  /// The process ended, or the environment is given up: whoever waits is told.
  public func end() {
    let tell = protected.withLockedValue { protected -> [() -> Void] in
      protected.machine.ended()
      defer { protected.invocation = nil }
      let invocation = protected.invocation
      return [
        protected.initialization.resolve(.ended), protected.restore.resolve(.ended),
        invocation.map { invocation in { invocation.resume(returning: .ended) } },
      ].compactMap { $0 }
    }
    for tell in tell { tell() }
  }

  // MARK: The connections' side

  func next(_ connection: RuntimeConnection) {
    perform {
      $0.machine.next(Waiter(connection: connection, localPort: connection.remotePort))
    } refused: {
      connection.refuse($0)
    }
  }

  func restoreNext(_ connection: RuntimeConnection) {
    perform {
      $0.machine.restoreNext(Waiter(connection: connection, localPort: connection.remotePort))
    } refused: {
      connection.refuse($0)
    }
  }

  func answer(requestID: String, _ outcome: InvocationOutcome, _ connection: RuntimeConnection) {
    perform {
      $0.machine.answer(requestID: requestID, outcome)
    } refused: {
      connection.refuse($0)
    } accepted: {
      if case .tooLarge(let size) = outcome { connection.refuse(.tooLarge(size)) } else { connection.accept() }
    }
  }

  func initError(_ error: RuntimeError, _ connection: RuntimeConnection) {
    perform {
      $0.machine.initError(error)
    } refused: {
      connection.refuse($0)
    } accepted: {
      connection.accept()
    }
  }

  func restoreError(_ error: RuntimeError, _ connection: RuntimeConnection) {
    perform {
      $0.machine.restoreError(error)
    } refused: {
      connection.refuse($0)
    } accepted: {
      connection.accept()
    }
  }

  /// A connection was made; the restored process's own gets the answer it waits for.
  func opened(_ connection: RuntimeConnection) {
    let isRestored = protected.withLockedValue { protected in
      guard let port = protected.restorePort, port == connection.remotePort, !protected.restoreAnswered else {
        return false
      }
      protected.restoreAnswered = true
      return true
    }
    if isRestored { connection.answerRestore() }
  }

  /// A connection was closed.
  func closed(_ connection: RuntimeConnection) {
    protected.withLockedValue { $0.machine.closed { $0.connection === connection } }
  }

  private func perform(
    _ event: (inout Protected) -> StateMachine<Waiter>.Action,
    refused: (RuntimeRefusal) -> Void = { _ in },
    accepted: () -> Void = {}
  ) {
    var refusal: RuntimeRefusal?
    var deliver: (InvocationEvent, Waiter)?
    var answer: Waiter?
    let tell = protected.withLockedValue { protected -> [() -> Void] in
      func started(_ first: Bool) -> [() -> Void] {
        guard first else { return [] }
        protected.firstNext = ContinuousClock.now
        return [protected.initialization.resolve(.ready), protected.restore.resolve(.ready)].compactMap { $0 }
      }
      switch event(&protected) {
      case .none: return []
      case .initialized(let outcome): return [protected.initialization.resolve(outcome)].compactMap { $0 }
      case .restored(let outcome):
        // A cold start under snap-start runs its after-restore hooks as part of init.
        guard case .failed(let error) = outcome else { return [protected.restore.resolve(outcome)].compactMap { $0 } }
        return [protected.restore.resolve(outcome), protected.initialization.resolve(.failed(error))].compactMap { $0 }
      case .deliver(let event, let waiter, let first):
        deliver = (event, waiter)
        return started(first)
      case .wait(let first): return started(first)
      case .answerRestore(let waiter):
        answer = waiter
        return []
      case .holdRestore(let waiter):
        return [protected.initialization.resolve(.waitingForRestore(localPort: waiter.localPort))].compactMap { $0 }
      case .complete(let outcome):
        defer { protected.invocation = nil }
        return [protected.invocation.map { invocation in { invocation.resume(returning: outcome) } }].compactMap { $0 }
      case .refuse(let from, let to):
        refusal = .transition(from: from, to: to)
        return []
      case .refuseRequestID:
        refusal = .requestID
        return []
      }
    }
    if let deliver { deliver.1.connection.deliver(deliver.0) }
    answer?.connection.answerRestore()
    if let refusal { refused(refusal) } else { accepted() }
    for tell in tell { tell() }
  }
}

/// Why a call of a runtime is refused.
enum RuntimeRefusal: Sendable {
  case transition(from: String, to: String)
  case requestID
  case tooLarge(Int)
}

/// A value that is there once and awaited at most once, in any order. Whoever changes it runs what is returned
/// outside the lock.
private struct Promise<Value: Sendable>: Sendable {
  private enum State: Sendable {
    case open
    case waiting(CheckedContinuation<Value, Never>)
    case resolved(Value)
    case done
  }
  private var state: State = .open

  init() {}

  mutating func wait(_ continuation: CheckedContinuation<Value, Never>) -> (() -> Void)? {
    guard case .resolved(let value) = state else {
      state = .waiting(continuation)
      return nil
    }
    state = .done
    return { continuation.resume(returning: value) }
  }

  mutating func resolve(_ value: Value) -> (() -> Void)? {
    switch state {
    case .open:
      state = .resolved(value)
      return nil
    case .waiting(let continuation):
      state = .done
      return { continuation.resume(returning: value) }
    case .resolved, .done: return nil
    }
  }
}
