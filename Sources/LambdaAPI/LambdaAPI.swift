public import Catalog
internal import Crypto
public import Fleet
internal import Foundation
internal import HTTPTypes
public import Hummingbird
public import Logging
internal import NIOCore
internal import SystemPackage

/// What AWS clients talk to: checks signatures, reads requests, and answers as Lambda does.
public struct LambdaAPI: HTTPResponder, Sendable {
  public typealias Context = BasicRequestContext

  let catalog: Catalog
  let code: CodeStore
  let host: any FunctionHost
  let lifecycle: VersionLifecycle
  let names: FunctionNames
  let concurrencyLimit: Int
  private let verifier: SignatureVerifier
  private let status: @Sendable () async -> [UInt8]
  private let logger: Logger

  /// Most bytes of a request (Lambda's limit for CreateFunction with its code in base64).
  static let maximumRequest = 70_167_211
  /// Most bytes of a synchronous invocation's event.
  static let maximumEvent = 6 * 1024 * 1024

  /// An API over these parts.
  ///
  /// - Parameter status: answers `GET /thaw/status`, JSON about the daemon itself.
  public init(
    catalog: Catalog, code: CodeStore, host: any FunctionHost, lifecycle: VersionLifecycle, names: FunctionNames,
    credentials: Credentials, concurrencyLimit: Int, logger: Logger, status: @escaping @Sendable () async -> [UInt8]
  ) {
    self.catalog = catalog
    self.code = code
    self.host = host
    self.lifecycle = lifecycle
    self.names = names
    self.concurrencyLimit = concurrencyLimit
    self.verifier = SignatureVerifier(credentials: credentials, region: names.region)
    self.status = status
    self.logger = logger
  }

  public func respond(to request: Request, context: BasicRequestContext) async throws -> Response {
    let requestID = UUID().uuidString.lowercased()
    var response: Response
    do {
      response = try await answer(request, requestID: requestID)
    } catch {
      let error = APIError(error, arn: names.arn)
      if error.status >= 500 { logger.error("\(request.method) \(request.uri.path): \(error.message)") }
      response = LambdaAPI.error(error)
    }
    response.headers[.named("x-amzn-RequestId")] = requestID
    return response
  }

  private static func error(_ error: APIError) -> Response {
    let body =
      (try? JSONEncoder().encode(ErrorWire(Type: error.fault, Message: error.message, Reason: error.reason))) ?? Data()
    var response = raw(error.status, body)
    response.headers[.named("x-amzn-ErrorType")] = error.type
    return response
  }

  static func raw(_ status: Int, _ body: some Collection<UInt8>) -> Response {
    Response(
      status: HTTPResponse.Status(code: status), headers: [.contentType: "application/json"],
      body: ResponseBody(byteBuffer: ByteBuffer(bytes: body)))
  }

  static func json(_ status: Int, _ value: some Encodable) throws -> Response {
    raw(status, try JSONEncoder().encode(value))
  }

  private func answer(_ request: Request, requestID: String) async throws -> Response {
    let target = request.head.path ?? "/"
    let parts = target.split(separator: "?", maxSplits: 1, omittingEmptySubsequences: false)
    let path = String(parts[0])
    let query = parts.count > 1 ? String(parts[1]) : ""
    if request.method == .get, path.hasPrefix("/thaw/code/") { return try download(path, query) }
    if request.method == .get, path == "/thaw/health" { return LambdaAPI.raw(200, Array(#"{"status":"ok"}"#.utf8)) }

    let buffer: ByteBuffer
    do {
      buffer = try await request.body.collect(upTo: LambdaAPI.maximumRequest)
    } catch {
      throw APIError.tooLarge(
        "Request must be smaller than \(LambdaAPI.maximumRequest) bytes for the \(request.method) operation")
    }
    let body = Array(buffer.readableBytesView)
    var headers: [String: String] = [:]
    for field in request.headers {
      let name = field.name.canonicalName
      headers[name] = headers[name].map { "\($0),\(field.value)" } ?? field.value
    }
    headers["host"] = request.head.authority
    try verifier.verify(
      SignedRequest(method: request.method.rawValue, path: path, query: query, headers: headers, body: body))

    let segments = path.split(separator: "/").map { $0.removingPercentEncoding ?? String($0) }
    let parameters = Parameters(query)
    let call = Call(
      method: request.method, segments: segments, parameters: parameters, headers: headers, body: body,
      requestID: requestID)
    switch (segments.first, segments.dropFirst().first) {
    case ("thaw", "status") where call.method == .get: return LambdaAPI.raw(200, await status())
    case ("2015-03-31", "functions"): return try await functions(call)
    case ("2016-08-19", "account-settings") where call.method == .get: return accountSettings()
    case ("2017-03-31", "tags") where segments.count == 3: return try tags(call)
    default: throw unknown(call)
    }
  }

  func unknown(_ call: Call) -> APIError {
    APIError(
      404, "UnknownOperationException",
      "\(call.method) /\(call.segments.joined(separator: "/")) is not an operation that Thaw knows")
  }

  /// The archive of a version: the address is what GetFunction answered, with a token in place of a signature, as
  /// S3's presigned ones.
  private func download(_ path: String, _ query: String) throws -> Response {
    let name = path.dropFirst("/thaw/code/".count)
    guard name.hasSuffix(".zip"), name.dropLast(4).allSatisfy(\.isHexDigit),
      Parameters(query)["token"] == token(String(name.dropLast(4))),
      let data = FileManager.default.contents(atPath: code.archive(of: String(name.dropLast(4))).string)
    else { throw APIError(403, "AccessDenied", "Access Denied") }
    return Response(
      status: .ok, headers: [.contentType: "application/zip"], body: ResponseBody(byteBuffer: ByteBuffer(bytes: data)))
  }

  func token(_ id: String) -> String {
    let key = SymmetricKey(data: Array("thaw-code-\(verifier.credentials.secretAccessKey)".utf8))
    return hexadecimal(HMAC<SHA256>.authenticationCode(for: Array(id.utf8), using: key))
  }

  private func accountSettings() -> Response {
    let text = """
      {"AccountLimit":{"TotalCodeSize":80530636800,"CodeSizeUnzipped":262144000,"CodeSizeZipped":52428800,\
      "ConcurrentExecutions":\(concurrencyLimit),"UnreservedConcurrentExecutions":\(concurrencyLimit)},\
      "AccountUsage":{"TotalCodeSize":\(catalog.list(allVersions: true).reduce(0) { $0 + $1.codeSize }),\
      "FunctionCount":\(catalog.list(allVersions: false).count)}}
      """
    return LambdaAPI.raw(200, Array(text.utf8))
  }

  private func tags(_ call: Call) throws -> Response {
    guard let reference = FunctionReference(call.segments[2], account: names.account, region: names.region) else {
      throw APIError.validation("'\(call.segments[2])' is not the ARN of a function")
    }
    switch call.method {
    case .get: return try LambdaAPI.json(200, ["Tags": try catalog.resolve(reference.name, qualifier: nil).tags])
    case .post:
      let new: [String: [String: String]] = try call.decode()
      try catalog.setTags(reference.name) { tags in tags.merge(new["Tags"] ?? [:]) { $1 } }
    case .delete:
      try catalog.setTags(reference.name) { tags in for key in call.parameters.all("tagKeys") { tags[key] = nil } }
    default: throw unknown(call)
    }
    return Response(status: .noContent)
  }
}

/// Query parameters.
struct Parameters {
  private var pairs: [(String, String)] = []

  init(_ query: String) {
    for pair in query.split(separator: "&") {
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      func decode(_ text: Substring) -> String {
        text.replacing("+", with: " ").removingPercentEncoding ?? String(text)
      }
      pairs.append((decode(parts[0]), parts.count > 1 ? decode(parts[1]) : ""))
    }
  }

  subscript(name: String) -> String? { pairs.first { $0.0 == name }?.1 }
  func all(_ name: String) -> [String] { pairs.filter { $0.0 == name }.map(\.1) }
}

/// One request, its signature checked.
struct Call {
  var method: HTTPRequest.Method
  /// The path's parts, decoded.
  var segments: [String]
  var parameters: Parameters
  /// By lower-case name.
  var headers: [String: String]
  var body: [UInt8]
  var requestID: String

  /// The body as JSON; an empty one is an empty object.
  func decode<Value: Decodable>(_ type: Value.Type = Value.self) throws(APIError) -> Value {
    do {
      return try JSONDecoder().decode(type, from: Data(body.isEmpty ? Array("{}".utf8) : body))
    } catch let error as DecodingError {
      switch error {
      case .typeMismatch(_, let context), .valueNotFound(_, let context), .keyNotFound(_, let context):
        let path = context.codingPath.map(\.stringValue).joined(separator: ".")
        throw APIError(400, "SerializationException", "\(path): \(context.debugDescription)")
      case .dataCorrupted(let context) where !context.codingPath.isEmpty:
        let path = context.codingPath.map(\.stringValue).joined(separator: ".")
        throw APIError(400, "SerializationException", "\(path): \(context.debugDescription)")
      default: throw APIError(400, "InvalidRequestContentException", "Could not parse request body into json: \(error)")
      }
    } catch {
      throw APIError(400, "InvalidRequestContentException", "Could not parse request body into json: \(error)")
    }
  }
}

extension HTTPField.Name {
  /// A header's name that is written in this program, and so known to be well-formed.
  static func named(_ name: StaticString) -> HTTPField.Name {
    guard let name = HTTPField.Name("\(name)") else { preconditionFailure("\(name) is no header's name") }
    return name
  }
}
