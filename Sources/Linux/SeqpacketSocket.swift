internal import CLinux
internal import Dispatch
internal import Synchronization
public import SystemPackage

/// One end of a pair of Unix SOCK_SEQPACKET sockets: messages with their boundaries, and descriptors that travel along (`unix(7)`).
///
/// It owns its descriptor, and closes it when it is closed or let go of.
public final class SeqpacketSocket: Sendable {
  /// One received message. Its descriptors belong to the receiver.
  public struct Message: Sendable {
    /// The bytes.
    public var bytes: [UInt8]
    /// Descriptors that came along, close-on-exec.
    public var descriptors: [FileDescriptor]
  }

  /// Dispatch sources may be used from any thread (dispatch/source.h); the type just does not say so.
  private struct Source: @unchecked Sendable {
    let dispatch: any DispatchSourceRead
  }

  private struct State {
    var isOpen = true
    var source: Source?
  }

  /// The descriptor, as long as the socket is open.
  public let descriptor: FileDescriptor
  private let state = Mutex(State())

  /// Takes over an open descriptor.
  public init(owning descriptor: FileDescriptor) { self.descriptor = descriptor }

  deinit { close() }

  /// A connected pair: this process's end, and one to hand to another process, which the caller closes.
  public static func pair() throws(SystemCallError) -> (own: SeqpacketSocket, other: FileDescriptor) {
    var first: CInt = -1
    var second: CInt = -1
    _ = try checked(thaw_seqpacket_pair(&first, &second), "socketpair")
    return (SeqpacketSocket(owning: FileDescriptor(rawValue: first)), FileDescriptor(rawValue: second))
  }

  /// Sends one message, descriptors alongside (at most 32). The descriptors stay the caller's.
  public func send(_ bytes: [UInt8], descriptors: [FileDescriptor] = []) throws(SystemCallError) {
    let numbers = descriptors.map(\.rawValue)
    let result = bytes.withUnsafeBytes { bytes in
      numbers.withUnsafeBufferPointer { numbers -> Int in
        guard let base = bytes.baseAddress else { return -22 }
        return thaw_send_message(descriptor.rawValue, base, bytes.count, numbers.baseAddress, numbers.count)
      }
    }
    _ = try checked(result, "sendmsg")
  }

  /// Receives one message of at most `maximum` bytes; nil when the other end is closed, and, unless `waiting`, an EAGAIN error when there is none.
  public func receive(maximum: Int = 65536, waiting: Bool = true) throws(SystemCallError) -> Message? {
    var bytes = [UInt8](repeating: 0, count: maximum)
    var numbers = [CInt](repeating: -1, count: 32)
    var count = numbers.count
    let result = bytes.withUnsafeMutableBytes { bytes in
      numbers.withUnsafeMutableBufferPointer { numbers -> Int in
        guard let base = bytes.baseAddress, let descriptors = numbers.baseAddress else { return -22 }
        return thaw_receive_message(descriptor.rawValue, base, bytes.count, descriptors, &count, waiting ? 0 : 1)
      }
    }
    let length = try checked(result, "recvmsg")
    if length == 0 { return nil }
    bytes.removeLast(bytes.count - length)
    return Message(bytes: bytes, descriptors: numbers[..<count].map { FileDescriptor(rawValue: $0) })
  }

  /// Calls `handle` with every message from now on, one after another on a queue of its own, and with nil once when the other end is closed or the socket fails.
  public func readMessages(maximum: Int = 4096, _ handle: @escaping @Sendable (Message?) -> Void) {
    let source = DispatchSource.makeReadSource(
      fileDescriptor: descriptor.rawValue, queue: DispatchQueue(label: "thaw.messages"))
    let shared = Source(dispatch: source)
    source.setEventHandler { [weak self] in
      while let self {
        do throws(SystemCallError) {
          guard let message = try receive(maximum: maximum, waiting: false) else { break }
          handle(message)
          continue
        } catch {
          if error.errno == .wouldBlock || error.errno == .resourceTemporarilyUnavailable { return }
        }
        break
      }
      shared.dispatch.cancel()
      handle(nil)
    }
    let descriptor = descriptor
    source.setCancelHandler { try? descriptor.close() }
    let started = state.withLock { state in
      guard state.isOpen, state.source == nil else { return false }
      state.source = shared
      return true
    }
    if started {
      source.resume()
    } else {
      source.setCancelHandler(handler: nil)
      source.resume()
      source.cancel()
    }
  }

  /// Closes the socket. May be called again.
  public func close() {
    let source = state.withLock { state -> Source?? in
      guard state.isOpen else { return nil }
      state.isOpen = false
      return .some(state.source)
    }
    guard let source else { return }
    // A descriptor that a source watches is closed when the source has let go of it.
    if let source { source.dispatch.cancel() } else { try? descriptor.close() }
  }
}
