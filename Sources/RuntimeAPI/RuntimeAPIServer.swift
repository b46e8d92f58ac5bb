internal import NIOCore
internal import NIOHTTP1
public import NIOPosix

/// The Runtime API of one execution environment, on a socket that already listens in the environment's network
/// namespace.
public final class RuntimeAPIServer: Sendable {
  private let channel: any Channel
  private let quiesce: ConnectionList

  private init(channel: any Channel, quiesce: ConnectionList) {
    self.channel = channel
    self.quiesce = quiesce
  }

  /// Serves `session` on a listening socket.
  ///
  /// - Parameters:
  ///   - socket: taken over, also when this throws; it is closed with the server.
  ///   - group: where the connections live.
  public static func start(
    socket: Int32, session: RuntimeSession, group: MultiThreadedEventLoopGroup
  ) async throws -> RuntimeAPIServer {
    let connections = ConnectionList()
    let loop = group.next()
    let channel = try await ServerBootstrap(group: loop, childGroup: loop)
      .childChannelOption(.socketOption(.tcp_nodelay), value: 1)
      .childChannelInitializer { channel in
        channel.eventLoop.makeCompletedFuture {
          connections.add(channel)
          try channel.pipeline.syncOperations.configureHTTPServerPipeline(
            withPipeliningAssistance: false, withErrorHandling: true)
          try channel.pipeline.syncOperations.addHandler(RuntimeConnection(session: session, channel: channel))
        }
      }
      .withBoundSocket(socket).get()
    return RuntimeAPIServer(channel: channel, quiesce: connections)
  }

  /// Closes the socket and all connections.
  public func close() {
    channel.close(promise: nil)
    quiesce.closeAll()
  }
}
