extension RuntimeSession {
  /// What an execution environment's runtime has said and what it may say next. Events in, actions out; no input or
  /// output of its own.
  ///
  /// `Waiter` is whoever waits for the answer to `invocation/next` or `restore/next`: a connection, or in tests a
  /// number.
  struct StateMachine<Waiter: Sendable>: Sendable {
    private enum State: Sendable {
      /// The runtime has said nothing yet.
      case initializing
      /// It waits in `restore/next`.
      case waitingForRestore(Waiter)
      /// The answer to `restore/next` was given: after-restore hooks run.
      case restoring
      /// It waits in `invocation/next`.
      case idle(Waiter)
      /// It works on this event.
      case invoking(requestID: String)
      /// It has answered and not asked for the next event yet.
      case between
      /// It reported an error of init or restore, or its process ended.
      case ended
    }

    private var state: State
    /// The environment began in init under snap-start, or is a restored clone.
    private let snapStart: Bool
    /// An event that came before the runtime asked for it.
    private var queued: InvocationEvent?
    /// The answer to `restore/next` may be given as soon as it is asked for.
    private var restoreAllowed = false

    init(restored: Bool, snapStart: Bool) {
      state = restored ? .restoring : .initializing
      self.snapStart = snapStart
    }

    /// What to do about an event.
    enum Action {
      case none
      /// Tell whoever waits for the end of init.
      case initialized(InitializationOutcome)
      /// Tell whoever waits for the end of the restore.
      case restored(RestoreOutcome)
      /// Give the waiter the event.
      case deliver(InvocationEvent, to: Waiter, first: Bool)
      /// Keep the waiter waiting for an event; `first` if this ends init or restore.
      case wait(first: Bool)
      /// Answer `restore/next` with 200.
      case answerRestore(Waiter)
      /// Keep the waiter in `restore/next` and tell whoever waits for the end of init.
      case holdRestore(Waiter)
      /// The event was answered.
      case complete(InvocationOutcome)
      /// The call is out of turn: 403.
      case refuse(from: String, to: String)
      /// The request id is not the current one: 400.
      case refuseRequestID
    }

    /// `GET invocation/next`.
    mutating func next(_ waiter: Waiter) -> Action {
      let first: Bool
      switch state {
      case .initializing, .restoring: first = true
      case .between: first = false
      case .idle, .invoking, .waitingForRestore, .ended:
        return .refuse(from: name, to: "Ready")
      }
      if let event = queued {
        queued = nil
        state = .invoking(requestID: event.requestID)
        return .deliver(event, to: waiter, first: first)
      }
      state = .idle(waiter)
      return .wait(first: first)
    }

    /// A connection was closed: whoever waited on it for an event may ask again on another.
    mutating func closed(_ isIt: (Waiter) -> Bool) {
      guard case .idle(let waiter) = state, isIt(waiter) else { return }
      state = .between
    }

    /// An event for the runtime.
    mutating func invoke(_ event: InvocationEvent) -> Action {
      switch state {
      case .idle(let waiter):
        state = .invoking(requestID: event.requestID)
        return .deliver(event, to: waiter, first: false)
      case .ended: return .complete(.ended)
      default:
        queued = event
        return .none
      }
    }

    /// `POST invocation/ID/response` or `.../error`.
    mutating func answer(requestID: String, _ outcome: InvocationOutcome) -> Action {
      guard case .invoking(let current) = state else {
        return .refuse(from: name, to: "InvocationResponse")
      }
      guard current == requestID else { return .refuseRequestID }
      state = .between
      return .complete(outcome)
    }

    /// `GET restore/next`.
    mutating func restoreNext(_ waiter: Waiter) -> Action {
      guard snapStart, case .initializing = state else { return .refuse(from: name, to: "RestoreReady") }
      if restoreAllowed {
        state = .restoring
        return .answerRestore(waiter)
      }
      state = .waitingForRestore(waiter)
      return .holdRestore(waiter)
    }

    /// The fleet lets a process that waits in `restore/next`, or will, go on in place: no snapshot, a cold start.
    mutating func allowRestore() -> Action {
      restoreAllowed = true
      guard case .waitingForRestore(let waiter) = state else { return .none }
      state = .restoring
      return .answerRestore(waiter)
    }

    /// `POST init/error`.
    mutating func initError(_ error: RuntimeError) -> Action {
      switch state {
      case .initializing, .waitingForRestore:
        state = .ended
        return .initialized(.failed(error))
      default: return .refuse(from: name, to: "InitError")
      }
    }

    /// `POST restore/error`.
    mutating func restoreError(_ error: RuntimeError) -> Action {
      guard case .restoring = state else { return .refuse(from: name, to: "RestoreError") }
      state = .ended
      return .restored(.failed(error))
    }

    /// Whether nothing comes of it any more.
    var isEnded: Bool {
      if case .ended = state { return true }
      return false
    }

    /// The process has ended.
    mutating func ended() {
      state = .ended
      queued = nil
    }

    /// The state's name in Lambda's error texts.
    private var name: String {
      switch state {
      case .initializing: "Started"
      case .waitingForRestore: "RestoreReady"
      case .restoring: "Restoring"
      case .idle: "Ready"
      case .invoking: "Running"
      case .between: "ResponseSent"
      case .ended: "Exited"
      }
    }
  }
}
