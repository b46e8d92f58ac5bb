import Catalog
import Fleet
import Foundation
import HTTPTypes
import Hummingbird
import HummingbirdTesting
import LambdaAPI
import Logging
import NIOCore
import Synchronization
import SystemPackage
import Testing

/// A fleet that answers with what it was given.
final class FakeHost: FunctionHost {
  let discarded = Mutex<[String]>([])
  let failure: FleetError?

  init(failure: FleetError? = nil) { self.failure = failure }

  func prepareRuntime(_ runtime: String) async throws(FleetError) {}
  func prepare(_ function: FunctionSpecification) async throws(FleetError) { if let failure { throw failure } }
  func invoke(_ function: FunctionSpecification, _ invocation: Invocation) async throws(FleetError) -> InvocationResult
  {
    if function.environment["FAIL"] != nil, let failure { throw failure }
    return InvocationResult(payload: invocation.payload, functionError: nil, logTail: Array("the log".utf8))
  }
  func discard(revision: String) async { discarded.withLock { $0.append(revision) } }
}

@Suite struct LambdaAPITests {
  static let credentials = Credentials(
    accessKeyID: "AKIAIOSFODNN7EXAMPLE", secretAccessKey: "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY")

  /// Runs `body` against an API in memory; unsigned requests are signed by the client here when they have neither
  /// body nor query.
  private func withAPI(
    _ host: FakeHost = FakeHost(), _ body: @escaping @Sendable (any TestClientProtocol, Catalog) async throws -> Void
  ) async throws {
    let directory = FilePath(FileManager.default.temporaryDirectory.path).appending("thaw-api-\(UUID().uuidString)")
    try FileManager.default.createDirectory(atPath: directory.string, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    let catalog = try Catalog(path: directory.appending("catalog.sqlite"))
    let code = try CodeStore(directory: directory.appending("code"))
    let logger = Logger(label: "test")
    let names = FunctionNames()
    let api = LambdaAPI(
      catalog: catalog, code: code, host: host,
      lifecycle: VersionLifecycle(catalog: catalog, code: code, host: host, names: names, logger: logger), names: names,
      credentials: LambdaAPITests.credentials, concurrencyLimit: 1000, logger: logger
    ) { Array("{}".utf8) }
    try await Application(responder: api, logger: logger).test(.router) { try await body($0, catalog) }
  }

  private func signed(_ method: String, _ path: String, now: Date = Date(), secret: String? = nil) -> HTTPFields {
    var credentials = LambdaAPITests.credentials
    if let secret { credentials.secretAccessKey = secret }
    var fields = HTTPFields()
    for (name, value) in RequestSigner(credentials: credentials, region: "us-east-1").headers(
      method: method, path: path, host: "localhost", now: now)
    where name != "Host" {
      if let name = HTTPField.Name(name) { fields[name] = value }
    }
    return fields
  }

  private func type(_ response: TestResponse) -> String? {
    HTTPField.Name("x-amzn-ErrorType").flatMap { response.headers[$0] }
  }

  @Test func unsignedAndWronglySignedRequestsAreRefused() async throws {
    try await withAPI { client, _ in
      let path = "/2015-03-31/functions"
      try await client.execute(uri: path, method: .get) { response in
        #expect(response.status.code == 403 && self.type(response) == "MissingAuthenticationTokenException")
      }
      try await client.execute(uri: path, method: .get, headers: self.signed("GET", path)) { response in
        #expect(response.status == .ok, "\(String(buffer: response.body))")
      }
      try await client.execute(uri: path, method: .get, headers: self.signed("POST", path)) { response in
        #expect(
          response.status.code == 403 && self.type(response) == "InvalidSignatureException", "signed for another method"
        )
      }
      try await client.execute(uri: path, method: .get, headers: self.signed("GET", path, secret: "wrong")) {
        response in
        #expect(self.type(response) == "InvalidSignatureException")
      }
      for offset in [-400.0, 400.0] {
        let headers = self.signed("GET", path, now: Date().addingTimeInterval(offset))
        try await client.execute(uri: path, method: .get, headers: headers) { response in
          #expect(self.type(response) == "InvalidSignatureException")
          #expect(String(buffer: response.body).contains(offset < 0 ? "Signature expired" : "not yet current"))
        }
      }
    }
  }

  @Test func whatIsNotThere() async throws {
    try await withAPI { client, _ in
      for (path, status, kind) in [
        ("/2015-03-31/functions/none", 404, "ResourceNotFoundException"),
        ("/2015-03-31/functions/none/versions", 404, "ResourceNotFoundException"),
        ("/2015-03-31/functions/bad%20name", 400, "ValidationException"),
        (
          "/2015-03-31/functions/arn%3Aaws%3Alambda%3Aeu-west-1%3A000000000000%3Afunction%3Ax", 403,
          "AccessDeniedException"
        ),
        ("/2020-01-01/other", 404, "UnknownOperationException"),
      ] {
        try await client.execute(uri: path, method: .get, headers: self.signed("GET", path)) { response in
          #expect(
            Int(response.status.code) == status && self.type(response) == kind,
            "\(path): \(String(buffer: response.body))")
        }
      }
    }
  }

  @Test func functionsAreFoundByEveryKindOfName() async throws {
    try await withAPI { client, catalog in
      let version = FunctionVersion(
        name: "f", functionID: "1", runtime: "python3.12", handler: "a.b", role: "r", description: "", timeout: 3,
        memorySize: 128, ephemeralStorage: 512, environment: [:], architecture: "x86_64", tracingMode: "PassThrough",
        tags: [:], code: StoredCode(sha256: "x", id: "x", size: 1), appliesSnapStart: false)
      let created = try catalog.create(version)
      try catalog.setProgress(of: created) { $0.state = .active }
      for name in [
        "f", "f%3A$LATEST", "000000000000%3Afunction%3Af",
        "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af",
        "arn%3Aaws%3Alambda%3Aus-east-1%3A000000000000%3Afunction%3Af%3A$LATEST",
      ] {
        let path = "/2015-03-31/functions/\(name)/configuration"
        try await client.execute(uri: path, method: .get, headers: self.signed("GET", path)) { response in
          #expect(response.status == .ok, "\(name): \(String(buffer: response.body))")
        }
      }
    }
  }
}
