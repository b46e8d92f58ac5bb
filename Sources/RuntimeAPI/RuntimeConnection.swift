internal import NIOCore
internal import NIOHTTP1

/// One connection of a runtime: requests go to the session, answers come back from it, from any thread.
final class RuntimeConnection: ChannelInboundHandler, Sendable {
  typealias InboundIn = HTTPServerRequestPart
  typealias OutboundOut = HTTPServerResponsePart

  /// The largest response, in bytes (Lambda's limit).
  static let maximumResponse = 6_291_556
  private static let prefix = "/2018-06-01/runtime/"

  private let session: RuntimeSession
  private let channel: any Channel
  /// The port at the runtime's end.
  let remotePort: UInt16
  private let request: NIOLoopBound<Box>

  /// The request being read; touched on the channel's event loop only.
  private final class Box {
    var head: HTTPRequestHead?
    var body = ByteBuffer()
    var size = 0
  }

  init(session: RuntimeSession, channel: any Channel) {
    self.session = session
    self.channel = channel
    remotePort = UInt16(channel.remoteAddress?.port ?? 0)
    request = NIOLoopBound(Box(), eventLoop: channel.eventLoop)
  }

  func channelActive(context: ChannelHandlerContext) {
    session.opened(self)
    context.fireChannelActive()
  }

  func channelInactive(context: ChannelHandlerContext) {
    session.closed(self)
    context.fireChannelInactive()
  }

  func channelRead(context: ChannelHandlerContext, data: NIOAny) {
    let request = request.value
    switch unwrapInboundIn(data) {
    case .head(let head):
      request.head = head
      request.body.clear()
      request.size = 0
    case .body(var part):
      request.size += part.readableBytes
      // What is too large is counted and thrown away.
      if request.size <= RuntimeConnection.maximumResponse + 4096 { request.body.writeBuffer(&part) }
    case .end(let trailers):
      guard let head = request.head else { return }
      request.head = nil
      let body = request.body
      request.body = ByteBuffer()
      handle(head, body, size: request.size, trailers: trailers)
    }
  }

  func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

  private func handle(_ head: HTTPRequestHead, _ body: ByteBuffer, size: Int, trailers: HTTPHeaders?) {
    guard head.uri.hasPrefix(RuntimeConnection.prefix) else {
      respond(.notFound, json: #"{"errorMessage":"no such path","errorType":"InvalidPath"}"#)
      return
    }
    let path = head.uri.dropFirst(RuntimeConnection.prefix.count).split(
      separator: "/", omittingEmptySubsequences: false)
    let type =
      trailers?.first(name: "Lambda-Runtime-Function-Error-Type")
      ?? head.headers.first(name: "Lambda-Runtime-Function-Error-Type")
    switch (head.method, path.count, path.first, path.last) {
    case (.GET, 2, "invocation", "next"): session.next(self)
    case (.GET, 2, "restore", "next"): session.restoreNext(self)
    case (.POST, 3, "invocation", "response"):
      let id = String(path[1])
      if size > RuntimeConnection.maximumResponse {
        session.answer(requestID: id, .tooLarge(size), self)
      } else if let type = trailers?.first(name: "Lambda-Runtime-Function-Error-Type") {
        // A streamed response that broke off says why in its trailers.
        session.answer(requestID: id, .failed(RuntimeError(body: errorBody(trailers, type), type: type)), self)
      } else {
        session.answer(requestID: id, .response(body), self)
      }
    case (.POST, 3, "invocation", "error"):
      session.answer(requestID: String(path[1]), .failed(RuntimeError(body: body, type: type ?? "Unhandled")), self)
    case (.POST, 2, "init", "error"): session.initError(RuntimeError(body: body, type: type ?? "Runtime.Unknown"), self)
    case (.POST, 2, "restore", "error"):
      session.restoreError(RuntimeError(body: body, type: type ?? "Runtime.AfterRestoreError"), self)
    default: respond(.notFound, json: #"{"errorMessage":"no such path or method","errorType":"InvalidPath"}"#)
    }
  }

  private func errorBody(_ trailers: HTTPHeaders?, _ type: String) -> ByteBuffer {
    let encoded = trailers?.first(name: "Lambda-Runtime-Function-Error-Body") ?? ""
    return ByteBuffer(
      string: #"{"errorType":"\#(type)","errorMessage":"the response stream broke off","body":"\#(encoded)"}"#)
  }

  // MARK: Answers, from any thread

  func deliver(_ event: InvocationEvent) {
    var headers = HTTPHeaders([
      ("Content-Type", "application/json"),
      ("Lambda-Runtime-Aws-Request-Id", event.requestID),
      ("Lambda-Runtime-Deadline-Ms", "\(event.deadlineMilliseconds)"),
      ("Lambda-Runtime-Invoked-Function-Arn", event.invokedARN),
      ("Content-Length", "\(event.payload.readableBytes)"),
    ])
    if let traceID = event.traceID { headers.add(name: "Lambda-Runtime-Trace-Id", value: traceID) }
    if let context = event.clientContext { headers.add(name: "Lambda-Runtime-Client-Context", value: context) }
    write(.ok, headers, event.payload)
  }

  func answerRestore() { respond(.ok, json: "") }

  func accept() { respond(.accepted, json: #"{"status":"OK"}"#) }

  func refuse(_ refusal: RuntimeRefusal) {
    switch refusal {
    case .transition(let from, let to):
      respond(
        .forbidden,
        json:
          #"{"errorMessage":"State transition from \#(from) to \#(to) failed for runtime. Error: State transition is not allowed","errorType":"InvalidStateTransition"}"#
      )
    case .requestID:
      respond(.badRequest, json: #"{"errorMessage":"Invalid request ID","errorType":"InvalidRequestID"}"#)
    case .tooLarge(let size):
      respond(
        .payloadTooLarge,
        json:
          #"{"errorMessage":"Exceeded maximum allowed payload size (\#(RuntimeConnection.maximumResponse) bytes): \#(size)","errorType":"RequestEntityTooLarge"}"#
      )
    }
  }

  private func respond(_ status: HTTPResponseStatus, json: String) {
    let body = ByteBuffer(string: json)
    write(
      status, HTTPHeaders([("Content-Type", "application/json"), ("Content-Length", "\(body.readableBytes)")]), body)
  }

  private func write(_ status: HTTPResponseStatus, _ headers: HTTPHeaders, _ body: ByteBuffer) {
    channel.write(
      HTTPServerResponsePart.head(HTTPResponseHead(version: .http1_1, status: status, headers: headers)), promise: nil)
    if body.readableBytes > 0 { channel.write(HTTPServerResponsePart.body(.byteBuffer(body)), promise: nil) }
    channel.writeAndFlush(HTTPServerResponsePart.end(nil), promise: nil)
  }
}
