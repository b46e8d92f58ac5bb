internal import Foundation

/// Collects what is wrong with a request, in the words of AWS's front end.
struct Validation {
  private var errors: [String] = []

  /// `value` at `field` breaks `constraint`.
  mutating func fail(_ value: String, _ field: String, _ constraint: String) {
    errors.append("Value '\(value)' at '\(field)' failed to satisfy constraint: \(constraint)")
  }

  mutating func range(_ value: Int?, _ field: String, _ range: ClosedRange<Int>) {
    guard let value else { return }
    if value < range.lowerBound {
      fail("\(value)", field, "Member must have value greater than or equal to \(range.lowerBound)")
    } else if value > range.upperBound {
      fail("\(value)", field, "Member must have value less than or equal to \(range.upperBound)")
    }
  }

  mutating func length(_ value: String?, _ field: String, _ range: ClosedRange<Int>) {
    guard let value else { return }
    if value.utf8.count < range.lowerBound {
      fail(value, field, "Member must have length greater than or equal to \(range.lowerBound)")
    } else if value.utf8.count > range.upperBound {
      fail(value, field, "Member must have length less than or equal to \(range.upperBound)")
    }
  }

  mutating func pattern(_ value: String?, _ field: String, _ pattern: String) {
    guard let value else { return }
    if value.range(of: "^(?:\(pattern))$", options: .regularExpression) == nil {
      fail(value, field, "Member must satisfy regular expression pattern: \(pattern)")
    }
  }

  mutating func oneOf(_ value: String?, _ field: String, _ values: [String]) {
    guard let value, !values.contains(value) else { return }
    fail(value, field, "Member must satisfy enum value set: [\(values.joined(separator: ", "))]")
  }

  mutating func present(_ value: Any?, _ field: String) {
    if value == nil { errors.append("Value null at '\(field)' failed to satisfy constraint: Member must not be null") }
  }

  /// Throws a ValidationException that lists all.
  func check() throws(APIError) {
    guard !errors.isEmpty else { return }
    throw .validation(
      "\(errors.count) validation error\(errors.count == 1 ? "" : "s") detected: \(errors.joined(separator: "; "))")
  }

  /// Patterns of Lambda's model.
  enum Pattern {
    static let functionName =
      #"(arn:(aws[a-zA-Z-]*)?:lambda:)?([a-z]{2}((-gov)|(-iso([a-z]?)))?-[a-z]+-\d{1}:)?(\d{12}:)?(function:)?([a-zA-Z0-9-_]+)(:(\$LATEST|[a-zA-Z0-9-_]+))?"#
    static let role = #"arn:(aws[a-zA-Z-]*)?:iam::\d{12}:role/?[a-zA-Z_0-9+=,.@\-_/]+"#
    static let handler = #"[^\s]+"#
    static let alias = #"(?!^[0-9]+$)([a-zA-Z0-9-_]+)"#
    static let version = #"(\$LATEST|[0-9]+)"#
    static let variable = #"[a-zA-Z]([a-zA-Z0-9_])+"#
  }

  /// Variables that only the platform may set (AWS Lambda Developer Guide, "Defined runtime environment variables").
  static let reservedVariables: Set<String> = [
    "_HANDLER", "_X_AMZN_TRACE_ID", "AWS_DEFAULT_REGION", "AWS_REGION", "AWS_EXECUTION_ENV",
    "AWS_LAMBDA_FUNCTION_NAME", "AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "AWS_LAMBDA_FUNCTION_VERSION",
    "AWS_LAMBDA_INITIALIZATION_TYPE", "AWS_LAMBDA_LOG_GROUP_NAME", "AWS_LAMBDA_LOG_STREAM_NAME", "AWS_ACCESS_KEY",
    "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_LAMBDA_RUNTIME_API", "LAMBDA_TASK_ROOT",
    "LAMBDA_RUNTIME_DIR", "AWS_CONTAINER_CREDENTIALS_FULL_URI", "AWS_CONTAINER_AUTHORIZATION_TOKEN",
  ]
}
