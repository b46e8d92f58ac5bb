internal import NIOConcurrencyHelpers
internal import NIOCore

/// The open connections of a server, so that they can be closed with it.
final class ConnectionList: Sendable {
  private let channels = NIOLockedValueBox<[ObjectIdentifier: any Channel]>([:])

  func add(_ channel: any Channel) {
    channels.withLockedValue { $0[ObjectIdentifier(channel)] = channel }
    channel.closeFuture.whenComplete { [channels] _ in
      channels.withLockedValue { $0[ObjectIdentifier(channel)] = nil }
    }
  }

  func closeAll() {
    for channel in channels.withLockedValue({ Array($0.values) }) { channel.close(promise: nil) }
  }
}
