internal import CLinux
internal import Synchronization
public import SystemPackage

/// One end of a pair of Unix SOCK_SEQPACKET sockets: messages with their boundaries, and descriptors that travel
/// along (`unix(7)`).
///
/// It owns its descriptor, and closes it when it is closed or let go of.
public final class SeqpacketSocket: Sendable {
  /// One received message. Its descriptors belong to the receiver.
  public struct Message: Sendable {
    /// The bytes.
    public var bytes: [UInt8]
    /// Descriptors that came along, close-on-exec.
    public var descriptors: [FileDescriptor]
    /// The process that sent it, as this one sees it (SCM_CREDENTIALS): told to a pair's own end, otherwise 0.
    public var sender: Int32
  }

  private struct State: Sendable {
    var isOpen = true
    /// A thread reads; it closes the descriptor when it is done.
    var isRead = false
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
    guard state.withLock({ $0.isOpen }) else {
      throw SystemCallError(call: "sendmsg", errno: .brokenPipe)
    }
    let result = bytes.withUnsafeBytes { bytes in
      numbers.withUnsafeBufferPointer { numbers -> Int in
        guard let base = bytes.baseAddress else { return -22 }
        return thaw_send_message(descriptor.rawValue, base, bytes.count, numbers.baseAddress, numbers.count)
      }
    }
    _ = try checked(result, "sendmsg")
  }

  /// Receives one message of at most `maximum` bytes; nil when the other end is closed, and, unless `waiting`, an
  /// EAGAIN error when there is none. A message whose descriptors did not fit into this process's table (RLIMIT_NOFILE)
  /// comes without any.
  public func receive(maximum: Int = 65536, waiting: Bool = true) throws(SystemCallError) -> Message? {
    var bytes = [UInt8](repeating: 0, count: maximum)
    var numbers = [CInt](repeating: -1, count: 32)
    var count = numbers.count
    var sender: CInt = 0
    let result = bytes.withUnsafeMutableBytes { bytes in
      numbers.withUnsafeMutableBufferPointer { numbers -> Int in
        guard let base = bytes.baseAddress, let descriptors = numbers.baseAddress else { return -22 }
        return thaw_receive_message(
          descriptor.rawValue, base, bytes.count, descriptors, &count, &sender, waiting ? 0 : 1)
      }
    }
    let length = try checked(result, "recvmsg")
    if length == 0 { return nil }
    bytes.removeLast(bytes.count - length)
    return Message(
      bytes: bytes, descriptors: numbers[..<count].map { FileDescriptor(rawValue: $0) }, sender: sender)
  }

  /// Calls `handle` with every message from now on, one after another on a thread of its own, and with nil once
  /// when the socket is closed or fails at either end.
  public func readMessages(maximum: Int = 4096, _ handle: @escaping @Sendable (Message?) -> Void) {
    let started = state.withLock { state in
      guard state.isOpen, !state.isRead else { return false }
      state.isRead = true
      return true
    }
    guard started else {
      handle(nil)
      return
    }
    BlockingThread.start(name: "thaw-messages") { [self] in
      while let message = try? receive(maximum: maximum) { handle(message) }
      state.withLock { state in
        state.isOpen = false
        try? descriptor.close()
      }
      handle(nil)
    }
  }

  /// Closes the socket. May be called again.
  public func close() {
    state.withLock { state in
      guard state.isOpen else { return }
      state.isOpen = false
      if state.isRead {
        // Wakes the reading thread, which closes the descriptor: nobody else can get its number while it is read
        // from.
        _ = thaw_syscall(48, UInt(descriptor.rawValue), 2, 0, 0, 0, 0)  // shutdown(SHUT_RDWR)
      } else {
        try? descriptor.close()
      }
    }
  }
}
