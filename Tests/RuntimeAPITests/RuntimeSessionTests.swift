import Dispatch
import Foundation
import NIOCore
import NIOPosix
import RuntimeAPI
import Testing

#if canImport(Glibc)
  import Glibc
#endif

/// A session behind a real server on loopback, and a plain client.
@Suite struct RuntimeSessionTests {
  private func serve(
    _ session: RuntimeSession, _ body: (UInt16) async throws -> Void
  ) async throws {
    let socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let bound = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer -> Int32 in
        guard bind(socket, pointer, length) == 0, listen(socket, 8) == 0 else { return -1 }
        return getsockname(socket, pointer, &length)
      }
    }
    #expect(bound == 0)
    let server = try await RuntimeAPIServer.start(socket: socket, session: session, group: .singleton)
    do { try await body(UInt16(bigEndian: address.sin_port)) } catch {
      server.close()
      throw error
    }
    server.close()
  }

  private func event(_ id: String, _ text: String = "{}") -> InvocationEvent {
    InvocationEvent(
      requestID: id, deadlineMilliseconds: 12345, invokedARN: "arn:x", traceID: "Root=1", clientContext: nil,
      payload: ByteBuffer(string: text))
  }

  @Test func eventsAndAnswers() async throws {
    let session = RuntimeSession(snapStart: false)
    try await serve(session) { port in
      async let runtime = offPool {
        let client = try Client(port)
        let first = try client.get("invocation/next")
        try client.post("invocation/one/response", "1")
        let second = try client.get("invocation/next")
        try client.post("invocation/two/error", #"{"errorType":"E"}"#, header: "Lambda-Runtime-Function-Error-Type: E")
        return (first, second)
      }
      guard case .ready = await session.initialized() else { return #expect(Bool(false), "not ready") }
      guard case .response(let body) = await session.invoke(event("one", #"{"a":1}"#)) else {
        return #expect(Bool(false), "no response")
      }
      #expect(String(buffer: body) == "1")
      guard case .failed(let error) = await session.invoke(event("two")) else {
        return #expect(Bool(false), "no error")
      }
      #expect(error.type == "E")
      let (first, _) = try await runtime
      #expect(
        first.contains("Lambda-Runtime-Aws-Request-Id: one") && first.contains("Lambda-Runtime-Deadline-Ms: 12345"))
      #expect(first.hasSuffix(#"{"a":1}"#))
    }
  }

  @Test func callsOutOfTurnAreRefused() async throws {
    let session = RuntimeSession(snapStart: false)
    try await serve(session) { port in
      let client = try Client(port)
      let answers = try await offPool {
        [
          try client.post("invocation/none/response", "1"), try client.get("restore/next"),
          try client.post("restore/error", "{}"), try client.get("nothing"),
          try client.post("init/error", #"{"x":1}"#, header: "Lambda-Runtime-Function-Error-Type: T"),
          try client.post("init/error", "{}"),
        ]
      }
      let statuses = answers.map { $0.split(separator: " ")[1] }
      #expect(statuses == ["403", "403", "403", "404", "202", "403"])
      #expect(answers[1].contains("InvalidStateTransition"), "not under snap-start")
      guard case .failed(let error) = await session.initialized() else { return #expect(Bool(false), "no error") }
      #expect(error.type == "T")
    }
  }

  @Test func restoreIsHeldAndAllowed() async throws {
    let session = RuntimeSession(snapStart: true)
    try await serve(session) { port in
      async let runtime = offPool {
        let client = try Client(port)
        return (try client.get("restore/next"), client.localPort)
      }
      guard case .waitingForRestore(let held) = await session.initialized() else {
        return #expect(Bool(false), "not waiting")
      }
      session.allowRestore()
      let (answer, port) = try await runtime
      #expect(answer.hasPrefix("HTTP/1.1 200") && port == held)
    }
  }

  /// A restored process waits for an answer to what it asked before it was frozen: it gets it unasked, on its own
  /// connection only.
  @Test func restoredConnectionIsAnsweredUnasked() async throws {
    let listener = try Client.Pending()
    let session = RuntimeSession(restoredOnPort: listener.localPort)
    try await serve(session) { port in
      let unasked = try await offPool { try listener.connect(port).read() }
      #expect(unasked.hasPrefix("HTTP/1.1 200"))
      async let hooks = offPool { try Client(port).get("invocation/next") }
      guard case .ready = await session.restored() else { return #expect(Bool(false), "not ready") }
      async let outcome = session.invoke(event("first"))
      let delivered = try await hooks
      #expect(delivered.contains("first"))
      session.end()
      guard case .ended = await outcome else { return #expect(Bool(false), "not ended") }
    }
  }

  @Test func oversizedResponse() async throws {
    let session = RuntimeSession(snapStart: false)
    try await serve(session) { port in
      async let runtime = offPool {
        let client = try Client(port)
        _ = try client.get("invocation/next")
        return try client.post("invocation/big/response", String(repeating: "x", count: 7 << 20))
      }
      _ = await session.initialized()
      guard case .tooLarge(let size) = await session.invoke(event("big")) else { return #expect(Bool(false), "taken") }
      #expect(size == 7 << 20)
      let answer = try await runtime
      #expect(answer.contains("413"))
    }
  }

  @Test func theEndReachesWhoeverWaits() async {
    let session = RuntimeSession(snapStart: true)
    async let initialization = session.initialized()
    async let invocation = session.invoke(event("x"))
    try? await Task.sleep(for: .milliseconds(20))
    session.end()
    guard case .ended = await initialization, case .ended = await invocation else {
      return #expect(Bool(false), "somebody still waits")
    }
  }
}

/// Runs something that blocks outside of Swift's own few threads.
func offPool<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue.global().async { continuation.resume(with: Result { try body() }) }
  }
}

/// A blocking HTTP client on one connection.
final class Client: Sendable {
  /// A socket with a port, not connected yet.
  struct Pending: Sendable {
    let socket: Int32
    let localPort: UInt16

    init() throws {
      socket = Glibc.socket(AF_INET, Int32(SOCK_STREAM.rawValue), 0)
      var address = sockaddr_in()
      address.sin_family = sa_family_t(AF_INET)
      address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
      var length = socklen_t(MemoryLayout<sockaddr_in>.size)
      let socket = socket
      _ = withUnsafeMutablePointer(to: &address) {
        $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
          bind(socket, $0, length) == 0 ? getsockname(socket, $0, &length) : -1
        }
      }
      localPort = UInt16(bigEndian: address.sin_port)
    }

    func connect(_ port: UInt16) throws -> Client { try Client(port, socket: socket) }
  }

  private let socket: Int32
  let localPort: UInt16

  convenience init(_ port: UInt16) throws { try self.init(port, socket: Pending().socket) }

  private init(_ port: UInt16, socket: Int32) throws {
    self.socket = socket
    var address = sockaddr_in()
    address.sin_family = sa_family_t(AF_INET)
    address.sin_port = port.bigEndian
    address.sin_addr.s_addr = UInt32(0x7f00_0001).bigEndian
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let connected = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { pointer -> Int32 in
        guard Glibc.connect(socket, pointer, length) == 0 else { return -1 }
        return getsockname(socket, pointer, &length)
      }
    }
    guard connected == 0 else { throw ClientError() }
    localPort = UInt16(bigEndian: address.sin_port)
  }

  deinit { close(socket) }

  struct ClientError: Error {}

  func get(_ path: String) throws -> String { try send("GET /2018-06-01/runtime/\(path) HTTP/1.1\r\nHost: x\r\n\r\n") }

  @discardableResult
  func post(_ path: String, _ body: String, header: String? = nil) throws -> String {
    let extra = header.map { "\($0)\r\n" } ?? ""
    return try send(
      "POST /2018-06-01/runtime/\(path) HTTP/1.1\r\nHost: x\r\n\(extra)Content-Length: \(body.utf8.count)\r\n\r\n\(body)"
    )
  }

  private func send(_ text: String) throws -> String {
    let bytes = Array(text.utf8)
    var done = 0
    while done < bytes.count {
      let count = bytes.withUnsafeBytes {
        Glibc.send(socket, $0.baseAddress.map { $0 + done }, bytes.count - done, Int32(MSG_NOSIGNAL))
      }
      guard count > 0 else { throw ClientError() }
      done += count
    }
    return try read()
  }

  /// One response, headers and body.
  func read() throws -> String {
    var bytes: [UInt8] = []
    while true {
      var buffer = [UInt8](repeating: 0, count: 65536)
      let count = Glibc.recv(socket, &buffer, buffer.count, 0)
      guard count > 0 else { throw ClientError() }
      bytes += buffer[..<count]
      let text = String(decoding: bytes, as: UTF8.self)
      guard let end = text.range(of: "\r\n\r\n") else { continue }
      let lengths = text[..<end.lowerBound].split(separator: "\r\n").filter {
        $0.lowercased().hasPrefix("content-length:")
      }
      let length = lengths.first.flatMap { Int($0.split(separator: " ").last ?? "") } ?? 0
      if text[end.upperBound...].utf8.count >= length { return text }
    }
  }
}
