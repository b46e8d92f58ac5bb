internal import CLinux
public import SystemPackage

/// A unix socket as `sock_diag(7)` shows it.
public struct UnixSocket: Sendable {
  /// Its peer's inode; 0 if it has none.
  public var peer: UInt64
  /// Connections that wait to be accepted, or bytes that wait to be read.
  public var queued: UInt32
  /// Length of a listening socket's queue.
  public var backlog: UInt32
  /// Directions that are shut down: reading 1, writing 2.
  public var shutdown: UInt8

  /// All unix sockets in the network namespace of `process`, by inode.
  ///
  /// The calling thread visits that namespace and comes back.
  public static func all(of process: Int32) throws(SystemCallError) -> [UInt64: UnixSocket] {
    try Namespace.network.visit(of: process) { () throws(SystemCallError) in try all() }
  }

  /// All unix sockets in the calling thread's network namespace.
  private static func all() throws(SystemCallError) -> [UInt64: UnixSocket] {
    let capacity = 4096
    let found = UnsafeMutablePointer<thaw_unix_socket>.allocate(capacity: capacity)
    defer { found.deallocate() }
    let count = try checked(thaw_unix_sockets(found, capacity), "sock_diag", "unix sockets")
    var sockets: [UInt64: UnixSocket] = [:]
    for socket in UnsafeBufferPointer(start: found, count: count) {
      sockets[socket.inode] = UnixSocket(
        peer: socket.peer, queued: socket.queued, backlog: socket.backlog,
        shutdown: UInt8(truncatingIfNeeded: socket.shutdown))
    }
    return sockets
  }
}

extension Kernel {
  /// A new socket (`socket(2)`), close-on-exec. The caller closes it.
  public static func socket(
    family: UInt32, type: UInt32, transport: UInt32
  ) throws(SystemCallError) -> FileDescriptor {
    let result = thaw_syscall(41, UInt(family), UInt(type) | 0o2000000, UInt(transport), 0, 0, 0)
    return FileDescriptor(rawValue: CInt(try checked(result, "socket", "family \(family)")))
  }

  /// The value of an option, at most 256 bytes (`getsockopt(2)`); nil if the socket has no such option.
  public static func option(_ socket: FileDescriptor, level: UInt32, name: UInt32) -> [UInt8]? {
    var value = [UInt8](repeating: 0, count: 256)
    var length: UInt32 = 256
    let result = value.withUnsafeMutableBytes { value in
      withUnsafeMutablePointer(to: &length) {
        thaw_syscall(
          55, UInt(socket.rawValue), UInt(level), UInt(name), UInt(bitPattern: value.baseAddress), UInt(bitPattern: $0),
          0)
      }
    }
    return result < 0 ? nil : Array(value.prefix(Int(length)))
  }

  /// The number that an option of SOL_SOCKET has; nil if the socket has no such option.
  public static func socketNumber(_ socket: FileDescriptor, _ name: UInt32) -> UInt32? {
    option(socket, level: 1, name: name).map { $0.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) } }
  }

  /// Sets an option that is a number (`setsockopt(2)`).
  public static func set(
    _ socket: FileDescriptor, level: UInt32, name: UInt32, to value: Int32
  ) throws(SystemCallError) {
    var value = value
    let result = withUnsafeMutablePointer(to: &value) {
      thaw_syscall(54, UInt(socket.rawValue), UInt(level), UInt(name), UInt(bitPattern: $0), 4, 0)
    }
    _ = try checked(result, "setsockopt", "\(level), \(name)")
  }

  /// A socket's own address or its peer's as `struct sockaddr` (`getsockname(2)`, `getpeername(2)`); nil if it has
  /// none.
  public static func address(of socket: FileDescriptor, peer: Bool) -> [UInt8]? {
    var address = [UInt8](repeating: 0, count: 128)
    var length: UInt32 = 128
    let result = address.withUnsafeMutableBytes { address in
      withUnsafeMutablePointer(to: &length) {
        thaw_syscall(
          peer ? 52 : 51, UInt(socket.rawValue), UInt(bitPattern: address.baseAddress), UInt(bitPattern: $0), 0, 0, 0)
      }
    }
    return result < 0 ? nil : Array(address.prefix(Int(length)))
  }

  /// What reading from a socket would answer at once, without taking anything: bytes, 0 at the end, or -errno.
  public static func peekedLength(_ socket: FileDescriptor) -> Int {
    var byte: UInt8 = 0
    var carries: CInt = 0
    return withUnsafeMutablePointer(to: &byte) { thaw_peek_message(socket.rawValue, $0, 1, &carries) }
  }

  /// The messages that wait in a unix socket, which stay there (SO_PEEK_OFF); pieces of them for a stream.
  ///
  /// - Parameter ends: whether nothing comes after them, because the other end was closed or shut down: reading then
  ///   answers what an empty message does.
  /// - Returns: nil if one of them is empty or carries descriptors.
  public static func messages(in socket: FileDescriptor, ends: Bool) throws(SystemCallError) -> [[UInt8]]? {
    let peekOffset: UInt32 = 42  // SO_PEEK_OFF of asm-generic/socket.h
    try set(socket, level: 1, name: peekOffset, to: 0)
    defer { try? set(socket, level: 1, name: peekOffset, to: -1) }
    var messages: [[UInt8]] = []
    let capacity = 1 << 20
    var buffer = [UInt8](repeating: 0, count: capacity)
    while true {
      var carries: CInt = 0
      let result = buffer.withUnsafeMutableBytes {
        $0.baseAddress.map { thaw_peek_message(socket.rawValue, $0, capacity, &carries) } ?? 0
      }
      if result == -11 { return messages }  // EAGAIN
      let length = try checked(result, "recvmsg MSG_PEEK")
      if length == 0 { return ends ? messages : nil }
      guard carries == 0, length <= capacity else { return nil }
      messages.append(Array(buffer[..<length]))
    }
  }
}
