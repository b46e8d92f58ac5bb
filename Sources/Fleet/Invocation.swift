/// One event for a function.
public struct Invocation: Sendable {
  /// A lower-case UUID, told to client and function.
  public var requestID: String
  /// The event, JSON.
  public var payload: [UInt8]
  /// The ARN as invoked, with qualifier if there was one.
  public var invokedARN: String
  /// The client context as JSON text (already decoded from base64), if any.
  public var clientContext: String?
  /// The value of `X-Amzn-Trace-Id`, if any.
  public var traceID: String?

  /// Makes an invocation.
  public init(
    requestID: String, payload: [UInt8], invokedARN: String, clientContext: String? = nil, traceID: String? = nil
  ) {
    self.requestID = requestID
    self.payload = payload
    self.invokedARN = invokedARN
    self.clientContext = clientContext
    self.traceID = traceID
  }
}

/// What came of an invocation that reached the function.
public struct InvocationResult: Sendable {
  /// The function's reply, or the error object `{"errorMessage":..., "errorType":..., "stackTrace":...}`.
  public var payload: [UInt8]
  /// "Unhandled" if the function failed, else nil: `X-Amz-Function-Error`.
  public var functionError: String?
  /// The last 4 KB of this invocation's log, START, END and REPORT lines included.
  public var logTail: [UInt8]

  /// Makes a result.
  public init(payload: [UInt8], functionError: String?, logTail: [UInt8]) {
    self.payload = payload
    self.functionError = functionError
    self.logTail = logTail
  }
}

/// Why an invocation did not reach the function's handler, or why a version could not be made ready. The client
/// sees the AWS error of the same name.
public struct FleetError: Error, Sendable, CustomStringConvertible {
  /// The kind of failure.
  public enum Code: Sendable, Hashable {
    /// 429 TooManyRequestsException; `Reason` is the associated text, such as `ConcurrentInvocationLimitExceeded`.
    case throttled(reason: String)
    /// 408 SnapStartTimeoutException.
    case snapStartTimeout
    /// 400 SnapStartException.
    case snapStart
    /// The version's init failed: the version becomes Failed with this `StateReasonCode` (`FunctionError`,
    /// `FunctionError.InitTimeout`, ...).
    case initialization(reasonCode: String)
    /// The runtime's interpreter is missing here, or its bundle cannot be installed; the message names the remedy.
    case runtimeUnavailable
    /// 500 ServiceException.
    case service
    /// The daemon is going down.
    case shuttingDown
  }
  /// The kind of failure.
  public var code: Code
  /// What happened, for a person.
  public var message: String

  /// An error with its message.
  public init(code: Code, message: String) {
    self.code = code
    self.message = message
  }

  public var description: String { message }
}
