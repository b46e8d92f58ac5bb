import CRestoreProgram
import SnapshotFormat

/// Compiles sockets that are not connected to another process: made, set, bound, and made to listen in the order of
/// their numbers, and connected when all are bound.
struct SocketCompiler {
  /// Makes a socket; its number goes into `slot`.
  func make(_ socket: SocketState, into slot: Int) -> Operation {
    Operation(
      number: SystemCallNumber.socket, resultSlot: slot,
      arguments: [
        .value(UInt64(socket.family)), .value(UInt64(socket.type)), .value(UInt64(socket.transport)),
      ])
  }

  /// Sets options of descriptor `number`.
  func set(
    _ options: [SocketOption], of number: UInt64, _ builder: inout ProgramBuilder,
    check: restore_check = RESTORE_MUST_SUCCEED
  ) -> [Operation] {
    options.map { option in
      var option = option
      if option.level == 1, let forced = Self.forced[option.name] {
        // The kernel keeps, and answers, twice what it is told (sock_setsockopt in net/core/sock.c).
        option.name = forced
        let size = option.value.prefix(4).reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) } / 2
        option.value = (0..<4).map { UInt8(truncatingIfNeeded: size >> (8 * $0)) }
      }
      return Operation(
        number: SystemCallNumber.setsockopt, check: check.rawValue,
        arguments: [
          .value(number), .value(UInt64(option.level)), .value(UInt64(option.name)),
          .value(builder.place(option.value)), .value(UInt64(option.value.count)),
        ])
    }
  }

  /// SO_SNDBUF and SO_RCVBUF by their forms that no limit of the machine's cuts, SO_SNDBUFFORCE and SO_RCVBUFFORCE: the
  /// program had the size.
  private static let forced: [UInt32: UInt32] = [7: 32, 8: 33]

  /// Binds descriptor `number`.
  func bind(_ socket: SocketState, number: UInt64, _ builder: inout ProgramBuilder) -> [Operation] {
    var operations: [Operation] = []
    if !socket.localAddress.isEmpty {
      operations.append(call(SystemCallNumber.bind, number, socket.localAddress, &builder))
    }
    if let path = path(of: socket.localAddress) {
      let place = builder.place(path + [0], alignment: 1)
      if let file = socket.file {
        operations.append(
          Operation(
            number: SystemCallNumber.chown,
            arguments: [.value(place), .value(UInt64(file.userID)), .value(UInt64(file.groupID))]))
        operations.append(
          Operation(number: SystemCallNumber.chmod, arguments: [.value(place), .value(UInt64(file.mode))]))
      } else {
        operations.append(Operation(number: SystemCallNumber.unlink, arguments: [.value(place)]))
      }
    }
    return operations
  }

  /// Connects descriptor `number`, if it was.
  func connect(_ socket: SocketState, number: UInt64, _ builder: inout ProgramBuilder) -> [Operation] {
    if socket.remoteAddress.isEmpty { return [] }
    return [call(SystemCallNumber.connect, number, socket.remoteAddress, &builder)]
  }

  private func call(
    _ call: UInt16, _ number: UInt64, _ address: [UInt8], _ builder: inout ProgramBuilder
  ) -> Operation {
    Operation(
      number: call, arguments: [.value(number), .value(builder.place(address)), .value(UInt64(address.count))])
  }

  /// The path of a `struct sockaddr_un`, AF_UNIX 1; nil for an abstract name, which begins with a zero.
  private func path(of address: [UInt8]) -> [UInt8]? {
    guard address.count > 2, address[0] == 1, address[1] == 0, address[2] != 0 else { return nil }
    return Array(address[2...].prefix { $0 != 0 })
  }
}
