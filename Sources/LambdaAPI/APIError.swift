internal import Catalog
internal import Fleet
internal import Hummingbird

/// An error as AWS clients know it: a status, a type (`x-amzn-ErrorType`) and a message.
struct APIError: Error, Equatable {
  var status: Int
  var type: String
  var message: String
  /// `Reason` of TooManyRequestsException.
  var reason: String?
  /// Whose fault: `User` or `Service`.
  var fault: String { status >= 500 ? "Service" : "User" }

  init(_ status: Int, _ type: String, _ message: String, reason: String? = nil) {
    self.status = status
    self.type = type
    self.message = message
    self.reason = reason
  }

  static func invalidParameter(_ message: String) -> APIError {
    APIError(400, "InvalidParameterValueException", message)
  }
  static func validation(_ message: String) -> APIError { APIError(400, "ValidationException", message) }
  static func notFound(_ message: String) -> APIError { APIError(404, "ResourceNotFoundException", message) }
  static func conflict(_ message: String) -> APIError { APIError(409, "ResourceConflictException", message) }
  static func tooLarge(_ message: String) -> APIError { APIError(413, "RequestTooLargeException", message) }

  /// Errors of the rooms below in AWS's words; `arn` makes a function's ARN of its name.
  init(_ error: any Error, arn: (String) -> String) {
    switch error {
    case let error as APIError: self = error
    case CatalogError.notFound(let what):
      self =
        what.hasPrefix("alias ")
        ? .notFound("Cannot find alias arn: \(arn(String(what.dropFirst(6))))")
        : .notFound("Function not found: \(arn(what))")
    case CatalogError.conflict(let message): self = .conflict(message)
    case CatalogError.revisionMismatch:
      self = APIError(
        412, "PreconditionFailedException",
        "The Revision Id provided does not match the latest Revision Id. Call the GetFunction/GetAlias API to retrieve the latest Revision Id"
      )
    case CatalogError.invalid(let message): self = .invalidParameter(message)
    case let error as CodeError: self = .invalidParameter(error.message)
    case let error as FleetError: self.init(error)
    default: self = APIError(500, "ServiceException", "Internal error: \(error)")
    }
  }

  private init(_ error: FleetError) {
    switch error.code {
    case .throttled(let reason):
      self.init(429, "TooManyRequestsException", error.message, reason: reason)
    case .snapStartTimeout: self.init(408, "SnapStartTimeoutException", error.message)
    case .snapStart: self.init(400, "SnapStartException", error.message)
    case .initialization, .runtimeUnavailable: self.init(502, "InvalidRuntimeException", error.message)
    case .service: self.init(500, "ServiceException", error.message)
    case .shuttingDown: self.init(503, "ServiceUnavailableException", error.message)
    }
  }
}
