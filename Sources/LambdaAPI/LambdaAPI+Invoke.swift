internal import Catalog
internal import Fleet
internal import Foundation
internal import HTTPTypes
internal import Hummingbird
internal import NIOCore

extension LambdaAPI {
  /// `POST /2015-03-31/functions/NAME/invocations`.
  func invoke(_ call: Call, _ reference: FunctionReference) async throws -> Response {
    let qualifier = call.parameters["Qualifier"] ?? reference.qualifier
    if let own = reference.qualifier, let given = call.parameters["Qualifier"], own != given {
      throw APIError.invalidParameter(
        "The derived qualifier from the function name does not match the specified qualifier.")
    }
    let version = try catalog.resolve(reference.name, qualifier: qualifier)
    let type = call.headers["x-amz-invocation-type"] ?? "RequestResponse"
    let logType = call.headers["x-amz-log-type"] ?? "None"
    var validation = Validation()
    validation.oneOf(type, "invocationType", ["Event", "RequestResponse", "DryRun"])
    validation.oneOf(logType, "logType", ["None", "Tail"])
    try validation.check()
    guard call.body.count <= LambdaAPI.maximumEvent else {
      throw APIError.tooLarge(
        "\(call.body.count) byte payload is too large for the \(type) invocation type (limit \(LambdaAPI.maximumEvent) bytes)"
      )
    }
    if !call.body.isEmpty {
      do {
        _ = try JSONSerialization.jsonObject(with: Data(call.body), options: .fragmentsAllowed)
      } catch {
        throw APIError(
          400, "InvalidRequestContentException", "Could not parse request body into json: \(jsonProblem(error))")
      }
    }
    let context = try clientContext(call)
    if version.state == .inactive { await lifecycle.reactivate(version) }
    try checkState(version)
    switch type {
    case "DryRun": return Response(status: .noContent)
    case "Event":
      throw APIError.invalidParameter(
        "Asynchronous invocations (Event) are not supported by Thaw yet: use RequestResponse.")
    default: break
    }
    lifecycle.noteUse(of: version)
    // Whatever is deleted or replaced meanwhile, the function runs on to its end with its own code.
    code.hold(version.codeID)
    defer { code.release(version.codeID) }
    let invokedARN = names.arn(qualifier.map { "\(reference.name):\($0)" } ?? reference.name)
    let result = try await host.invoke(
      version.specification(code: code, names: names),
      Invocation(
        requestID: call.requestID, payload: call.body.isEmpty ? Array("{}".utf8) : call.body, invokedARN: invokedARN,
        clientContext: context, traceID: call.headers["x-amzn-trace-id"] ?? newTraceID()))
    var response = LambdaAPI.raw(200, result.payload)
    response.headers[.named("X-Amz-Executed-Version")] = version.version
    if let error = result.functionError { response.headers[.named("X-Amz-Function-Error")] = error }
    if logType == "Tail" {
      response.headers[.named("X-Amz-Log-Result")] = Data(result.logTail).base64EncodedString()
    }
    return response
  }

  private func jsonProblem(_ error: any Error) -> String {
    let information = (error as NSError).userInfo
    return (information["NSDebugDescription"] as? String) ?? "it is not valid JSON"
  }

  private func clientContext(_ call: Call) throws(APIError) -> String? {
    guard let encoded = call.headers["x-amz-client-context"] else { return nil }
    guard let data = Data(base64Encoded: encoded), let text = String(data: data, encoding: .utf8),
      (try? JSONSerialization.jsonObject(with: data)) != nil
    else {
      throw APIError(
        400, "InvalidRequestContentException", "Client context must be a valid Base64-encoded JSON object.")
    }
    // It travels in a header.
    return text.split(whereSeparator: \.isNewline).joined()
  }

  private func checkState(_ version: FunctionVersion) throws(APIError) {
    switch version.state {
    case .active: return
    case .pending, .inactive:
      if version.startsFromSnapshot {
        throw APIError(
          409, "SnapStartNotReadyException",
          "Lambda is initializing your function. It will be ready to invoke once your function state becomes ACTIVE.")
      }
      throw .conflict(
        "The operation cannot be performed at this time. The function is currently in the following state: \(version.state.rawValue)"
      )
    case .failed:
      throw .conflict(
        "The operation cannot be performed at this time. The function is currently in the following state: Failed. \(version.stateReason ?? "")"
      )
    }
  }

  /// `Root=1-TIME-RANDOM;Sampled=0`, X-Ray's format.
  private func newTraceID() -> String {
    let time = String(UInt32(Date().timeIntervalSince1970), radix: 16)
    let random = (0..<12).map { _ in UInt8.random(in: 0...255) }
    return "Root=1-\(time)-\(hexadecimal(random));Sampled=0"
  }
}
