import Linux
import SnapshotFormat
import SystemPackage

/// Reads the sockets of a frozen process.
struct SocketCollection {
  let process: Int32
  let supplied: [SuppliedDescriptor]
  private(set) var warnings: [String] = []
  private var unixSockets: [UInt64: UnixSocket]?
  /// Options of new sockets by family, type and protocol.
  private var standards: [[UInt32]: [SocketOption]] = [:]

  init(process: Int32, supplied: [SuppliedDescriptor]) {
    self.process = process
    self.supplied = supplied
  }

  /// What a socket is, and the options that differ from a new one's.
  mutating func collect(
    number: Int32, inode: UInt64, handle: FileDescriptor, _ refuse: (String) -> CheckpointError
  ) throws -> (Descriptor.Kind, [SocketOption]) {
    let socket = try Kernel.duplicate(number, of: handle)
    defer { try? socket.close() }
    // asm-generic/socket.h: SO_TYPE 3, SO_PROTOCOL 38, SO_DOMAIN 39.
    guard let family = Kernel.socketNumber(socket, 39), let type = Kernel.socketNumber(socket, 3),
      let transport = Kernel.socketNumber(socket, 38)
    else { throw refuse("it does not tell what kind of socket it is") }
    // SO_GET_FILTER: how many instructions.
    guard Kernel.option(socket, level: 1, name: 26)?.isEmpty ?? true else {
      throw refuse("a socket filter (SO_ATTACH_FILTER) cannot be brought back")
    }
    let kind: Descriptor.Kind
    switch (family, type) {
    case (1, _): kind = try unix(socket, inode: inode, number: number, type: type, refuse)
    case (2, 1), (10, 1):
      kind = try stream(socket, number: number, family: family, transport: transport, refuse)
    case (2, 2) where transport == 17, (10, 2) where transport == 17:
      if let count = try? Kernel.bytesWaiting(in: socket), count > 0 {
        warnings.append("descriptor \(number): the datagrams that wait in the UDP socket are lost")
      }
      kind = .socket(state(socket, family, type, transport, backlog: nil))
    case (16, _):
      // struct sockaddr_nl: family 2, padding 2, port 4, groups 4. All zeros: it is not bound.
      var netlink = state(socket, family, type, transport, backlog: nil)
      if netlink.localAddress.count < 12 || netlink.localAddress[4..<12].allSatisfy({ $0 == 0 }) {
        netlink.localAddress = []
      }
      kind = .socket(netlink)
    default: throw refuse("sockets of family \(family), type \(type), protocol \(transport) cannot be brought back")
    }
    return (kind, try options(of: socket, [family, type, transport]))
  }

  private mutating func stream(
    _ socket: FileDescriptor, number: Int32, family: UInt32, transport: UInt32,
    _ refuse: (String) -> CheckpointError
  ) throws -> Descriptor.Kind {
    let local = InternetAddress(Kernel.address(of: socket, peer: false))
    let remote = InternetAddress(Kernel.address(of: socket, peer: true))
    if let local, remote != nil, let match = supplied.first(where: { $0.identity == .tcp(localPort: local.port) }) {
      return .supplied(match.role)
    }
    // struct tcp_info of linux/tcp.h begins with the state; of a listening socket unacked (at 24) is how many wait in
    // its queue, and sacked (at 28) how many may (tcp_get_info in net/ipv4/tcp.c).
    guard let information = Kernel.option(socket, level: 6, name: 11), information.count >= 32 else {
      throw refuse("it does not tell its state")
    }
    func word(_ offset: Int) -> UInt32 {
      information[offset..<offset + 4].reversed().reduce(0) { $0 << 8 | UInt32($1) }
    }
    switch information[0] {
    case 10:  // TCP_LISTEN of net/tcp_states.h
      if word(24) > 0 {
        warnings.append("descriptor \(number): the \(word(24)) connections that wait to be accepted are lost")
      }
      return .socket(state(socket, family, 1, transport, backlog: word(28)))
    case 7 where Kernel.peekedLength(socket) == -107:  // TCP_CLOSE and ENOTCONN: it never was connected
      return .socket(state(socket, family, 1, transport, backlog: nil))
    default:
      warnings.append(
        "descriptor \(number): the connection from port \(local?.port ?? 0) to port "
          + "\(remote?.port ?? 0) (\(remote?.host ?? "closed")) comes back closed by the other end")
      return .closedConnection
    }
  }

  private mutating func unix(
    _ socket: FileDescriptor, inode: UInt64, number: Int32, type: UInt32, _ refuse: (String) -> CheckpointError
  ) throws -> Descriptor.Kind {
    let sockets = try unixSockets ?? UnixSocket.all(of: process)
    unixSockets = sockets
    guard let own = sockets[inode] else { throw refuse("it is in another network namespace than its process") }
    let isListening = Kernel.socketNumber(socket, 30) == 1  // SO_ACCEPTCONN
    let isMutual = own.peer != 0 && sockets[own.peer]?.peer == inode
    let isConnected = Kernel.address(of: socket, peer: true) != nil
    // Two ends of one connection; or what is left when the other end was closed.
    if !isListening, isMutual || isConnected && (own.peer == 0 || type != 2) {
      guard let messages = try Kernel.messages(in: socket, ends: own.shutdown & 1 != 0) else {
        throw refuse("a message that waits in it is empty or carries descriptors")
      }
      if !messages.isEmpty, Kernel.socketNumber(socket, 16) == 1 {  // SO_PASSCRED
        throw refuse("it asks who sent the messages that wait in it, which nobody can say again")
      }
      let waiting = type == 1 ? [messages.flatMap(\.self)].filter { !$0.isEmpty } : messages
      return .socketPair(socket: inode, peer: own.peer, type: type, waiting: waiting, shutdown: own.shutdown)
    }
    if isListening, own.queued > 0 {
      warnings.append("descriptor \(number): the \(own.queued) connections that wait to be accepted are lost")
    }
    if !isListening, own.queued > 0 { throw refuse("messages wait in it, of which nobody knows who sent them") }
    var state = state(socket, 1, type, 0, backlog: isListening ? own.backlog : nil)
    // An address of the family alone is none.
    if state.localAddress.count <= 2 { state.localAddress = [] }
    if let path = SocketCollection.path(of: state.localAddress) {
      let absolute = path.hasPrefix("/") ? path : try ProcessFiles.link("/proc/\(process)/cwd") + "/" + path
      if let status = try? FileStatus(path: "/proc/\(process)/root\(absolute)"), status.kind == .socket {
        state.file = SocketState.File(mode: status.mode, userID: status.userID, groupID: status.groupID)
      }
    }
    if isConnected, state.remoteAddress.count <= 2 {
      throw refuse("it is connected to a socket that has no name and is not connected to it")
    }
    return .socket(state)
  }

  /// The path of a `struct sockaddr_un`; nil if it has none (an abstract name begins with a zero).
  private static func path(of address: [UInt8]) -> String? {
    guard address.count > 2, address[0] == 1, address[1] == 0, address[2] != 0 else { return nil }
    return String(decoding: address[2...].prefix { $0 != 0 }, as: UTF8.self)
  }

  private func state(
    _ socket: FileDescriptor, _ family: UInt32, _ type: UInt32, _ transport: UInt32, backlog: UInt32?
  ) -> SocketState {
    var local = Kernel.address(of: socket, peer: false) ?? []
    // Port 0 of an internet socket, at 2 for both families: it is not bound.
    if [2, 10].contains(family), local.count >= 4, local[2] == 0, local[3] == 0 { local = [] }
    let remote = family == 16 ? nil : Kernel.address(of: socket, peer: true)
    return SocketState(
      family: family, type: type, transport: transport, localAddress: local, remoteAddress: remote ?? [],
      backlog: backlog, file: nil)
  }

  // MARK: Options

  private mutating func options(of socket: FileDescriptor, _ kind: [UInt32]) throws -> [SocketOption] {
    let standard: [SocketOption]
    if let known = standards[kind] {
      standard = known
    } else {
      let fresh = try Kernel.socket(family: kind[0], type: kind[1], transport: kind[2])
      defer { try? fresh.close() }
      standard = SocketCollection.read(fresh, family: kind[0], type: kind[1])
      standards[kind] = standard
    }
    // SO_BUF_LOCK (72) tells which sizes were set by the program: SO_SNDBUF 1, SO_RCVBUF 2. Others the kernel changes
    // by itself.
    let locked = Kernel.socketNumber(socket, 72) ?? 0
    return SocketCollection.read(socket, family: kind[0], type: kind[1]).filter { option in
      if option.level == 1, option.name == 7 { return locked & 1 != 0 }
      if option.level == 1, option.name == 8 { return locked & 2 != 0 }
      return !standard.contains(option)
    }
  }

  private static func read(_ socket: FileDescriptor, family: UInt32, type: UInt32) -> [SocketOption] {
    // SOL_SOCKET, asm-generic/socket.h: REUSEADDR, DONTROUTE, BROADCAST, SNDBUF, RCVBUF, KEEPALIVE, OOBINLINE, PRIORITY,
    // LINGER, REUSEPORT, PASSCRED, RCVLOWAT, RCVTIMEO, SNDTIMEO, BINDTODEVICE, TIMESTAMP, TIMESTAMPNS.
    var names: [(UInt32, [UInt32])] = [(1, [2, 5, 6, 7, 8, 9, 10, 12, 13, 15, 16, 18, 20, 21, 25, 29, 35])]
    // linux/in.h: TOS, TTL, PKTINFO, MTU_DISCOVER, RECVERR, RECVTTL, RECVTOS, FREEBIND, BIND_ADDRESS_NO_PORT,
    // MULTICAST_TTL, MULTICAST_LOOP.
    if family == 2 { names.append((0, [1, 2, 8, 10, 11, 12, 13, 15, 24, 33, 34])) }
    // linux/in6.h: UNICAST_HOPS, MULTICAST_HOPS, MULTICAST_LOOP, MTU_DISCOVER, RECVERR, V6ONLY, RECVPKTINFO, TCLASS.
    if family == 10 { names.append((41, [16, 18, 19, 23, 25, 26, 49, 67])) }
    // linux/tcp.h: NODELAY, CORK, KEEPIDLE, KEEPINTVL, KEEPCNT, SYNCNT, LINGER2, DEFER_ACCEPT, USER_TIMEOUT, FASTOPEN,
    // NOTSENT_LOWAT.
    if family != 1, family != 16, type == 1 { names.append((6, [1, 3, 4, 5, 6, 7, 8, 9, 18, 23, 25])) }
    // linux/netlink.h: PKTINFO, BROADCAST_ERROR, NO_ENOBUFS, CAP_ACK, EXT_ACK, GET_STRICT_CHK.
    if family == 16 { names.append((270, [3, 4, 5, 10, 11, 12])) }
    return names.flatMap { level, names in
      names.compactMap { name in
        Kernel.option(socket, level: level, name: name).map { SocketOption(level: level, name: name, value: $0) }
      }
    }
  }
}

/// A `struct sockaddr_in` or `sockaddr_in6`, for a person.
private struct InternetAddress {
  var host: String
  var port: UInt16

  init?(_ bytes: [UInt8]?) {
    guard let bytes, bytes.count >= 8 else { return nil }
    port = UInt16(bytes[2]) << 8 | UInt16(bytes[3])
    guard port != 0 else { return nil }
    if bytes[0] == 2 {
      host = bytes[4..<8].map(String.init).joined(separator: ".")
    } else {
      guard bytes.count >= 24 else { return nil }
      host = stride(from: 8, to: 24, by: 2)
        .map { String(UInt16(bytes[$0]) << 8 | UInt16(bytes[$0 + 1]), radix: 16) }.joined(separator: ":")
    }
  }
}
