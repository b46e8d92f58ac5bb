import CRestoreProgram
import SnapshotFormat

/// Compiles the descriptors of a process tree, as one table.
///
/// Descriptors are made in the order of their numbers. A new one gets the lowest free number, which is its own or a
/// gap, so that moving it never
/// hits another. Pairs are parked above `base` first. Epoll sets are filled when all exist.
struct DescriptorCompiler {
  let descriptors: [Descriptor]
  private let directories: [UInt32: String]
  private let ownDirectory: String
  let objects: SharedObjectCompiler
  private let sockets = SocketCompiler()
  private let credentials: Credentials
  /// The restorer's own descriptors begin here.
  let base: UInt64
  private var operations: [Operation] = []
  /// Numbers of parked ends, by pipe or socket identity.
  private var parkedPipes: [UInt64: (reading: UInt64, writing: UInt64)] = [:]
  private var parkedSockets: [UInt64: UInt64] = [:]
  private(set) var parking: ParkingPlace
  private var pairSlots: (Int, Int)?
  private var fifos: Set<UInt64> = []
  private var made: Set<UInt32> = []

  init(
    descriptors: [Descriptor], directories: [UInt32: String] = [:], ownDirectory: String = "/",
    credentials: Credentials, objects: SharedObjectCompiler, base: UInt64, parking: ParkingPlace
  ) {
    self.descriptors = descriptors
    self.directories = directories
    self.ownDirectory = ownDirectory
    self.credentials = credentials
    self.objects = objects
    self.base = base
    self.parking = parking
  }

  mutating func compile(_ builder: inout ProgramBuilder) throws(RestoreError) -> [Operation] {
    let temporary = try builder.slot()
    for descriptor in descriptors {
      let number = UInt64(descriptor.number)
      let onExec = descriptor.closeOnExec ? Flag.closeOnExec : 0
      if descriptor.description != descriptor.number, made.contains(descriptor.description) {
        duplicate(.value(UInt64(descriptor.description)), to: number, onExec)
        continue
      }
      made.insert(descriptor.number)
      switch descriptor.kind {
      case .supplied(let role):
        duplicate(.slot(Int(RESTORE_SLOT_SUPPLIED) + Int(role.rawValue)), to: number, onExec)
        if role == .connection { setStatus(descriptor) }
        operations += sockets.set(descriptor.socketOptions, of: number, &builder)
      case .file(let path, let offset):
        open(path, descriptor, offset, through: temporary, &builder)
      case .object(let index, let offset):
        open(objects.path(of: index), descriptor, offset, through: temporary, &builder)
      case .pipe(let pipe, let writes, _, _):
        if parkedPipes[pipe] == nil { try makePipe(pipe, &builder) }
        guard let parked = parkedPipes[pipe] else { continue }
        duplicate(.value(writes ? parked.writing : parked.reading), to: number, onExec)
        setStatus(descriptor)
      case .event(let count, let semaphore):
        let flags = UInt64(descriptor.statusFlags) & Flag.nonBlocking | (semaphore ? 1 : 0)
        let initial = min(count, UInt64(UInt32.max))
        emit(SystemCallNumber.eventfd2, [.value(initial), .value(flags)], into: temporary)
        if count > initial {
          let rest = builder.place(words: [count - initial])
          emit(SystemCallNumber.write, [.slot(temporary), .value(rest), 8])
        }
        move(temporary, to: number, onExec)
      case .epoll:
        emit(SystemCallNumber.epoll_create1, [0], into: temporary)
        move(temporary, to: number, onExec)
      case .socketPair(let socket, let peer, let type, _, _):
        if parkedSockets[socket] == nil { try makeSocketPair(socket, peer, type, &builder) }
        guard let parked = parkedSockets[socket] else { continue }
        duplicate(.value(parked), to: number, onExec)
        setStatus(descriptor)
      case .timer(let timer):
        emit(SystemCallNumber.timerfd_create, [.value(UInt64(timer.clock)), 0], into: temporary)
        move(temporary, to: number, onExec)
        setStatus(descriptor)
      case .signals(let mask):
        let set = builder.place(words: [mask])
        emit(SystemCallNumber.signalfd4, [.value(.max), .value(set), 8, 0], into: temporary)
        move(temporary, to: number, onExec)
        setStatus(descriptor)
      case .socket(let socket):
        operations.append(sockets.make(socket, into: temporary))
        move(temporary, to: number, onExec)
        setStatus(descriptor)
        operations += sockets.set(descriptor.socketOptions, of: number, &builder)
        inDirectory(of: descriptor, &builder) { [sockets] in sockets.bind(socket, number: number, &$0) }
        if let backlog = socket.backlog {
          asProgram { $0.emit(SystemCallNumber.listen, [.value(number), .value(UInt64(backlog))]) }
        }
      case .inotify:
        emit(SystemCallNumber.inotify_init1, [0], into: temporary)
        move(temporary, to: number, onExec)
        setStatus(descriptor)
      case .process: break  // made when the processes exist
      case .fifo(let path, let pipe, _, _):
        if fifos.insert(pipe).inserted { makeFIFO(pipe, path, through: temporary, &builder) }
        // Both ends are open once, so that none waits for the other.
        open(path, descriptor, 0, through: temporary, &builder)
      case .closedConnection:
        try makeClosedConnection(into: temporary, &builder)
        move(temporary, to: number, onExec)
        setStatus(descriptor)
        // It is an IPv4 connection whatever it was: some of an IPv6 socket's options do not fit it.
        operations += sockets.set(descriptor.socketOptions, of: number, &builder, check: RESTORE_MAY_FAIL)
      }
    }
    for descriptor in descriptors where descriptor.description == descriptor.number {
      guard case .socket(let socket) = descriptor.kind else { continue }
      inDirectory(of: descriptor, &builder) { [sockets] in
        sockets.connect(socket, number: UInt64(descriptor.number), &$0)
      }
    }
    return operations
  }

  /// Fills epoll sets, when what they watch exists. By the process that has filled them: they know what they watch by
  /// its numbers, and signal descriptors wake the process that has put them in.
  static func watched(_ descriptors: [Descriptor], _ builder: inout ProgramBuilder) -> [Operation] {
    var operations: [Operation] = []
    for descriptor in descriptors where descriptor.isFirst {
      guard case .epoll(let entries) = descriptor.kind else { continue }
      for entry in entries {
        // struct epoll_event is packed: events 4, data 8. EPOLL_CTL_ADD is 1.
        let event =
          (0..<4).map { UInt8(truncatingIfNeeded: entry.events >> (8 * $0)) }
          + (0..<8).map { UInt8(truncatingIfNeeded: entry.data >> (8 * $0)) }
        operations.append(
          Operation(
            number: SystemCallNumber.epoll_ctl,
            arguments: [
              .value(UInt64(descriptor.number)), 1, .value(UInt64(entry.target)), .value(builder.place(event)),
            ]))
      }
    }
    return operations
  }

  /// Does something in the directory of the process that a socket belongs to, where its name depends on it.
  private mutating func inDirectory(
    of descriptor: Descriptor, _ builder: inout ProgramBuilder,
    _ body: (inout ProgramBuilder) -> [Operation]
  ) {
    let directory = directories[descriptor.number]
    if let directory { emit(SystemCallNumber.chdir, [.value(builder.place(directory))]) }
    operations += body(&builder)
    if directory != nil { emit(SystemCallNumber.chdir, [.value(builder.place(ownDirectory))]) }
  }

  private mutating func open(
    _ path: String, _ descriptor: Descriptor, _ offset: UInt64, through temporary: Int, _ builder: inout ProgramBuilder
  ) {
    let number = UInt64(descriptor.number)
    let flags = UInt64(descriptor.statusFlags) & ~Flag.creation
    emit(
      SystemCallNumber.openat, [.value(Flag.currentDirectory), .value(builder.place(path)), .value(flags), 0],
      into: temporary)
    move(temporary, to: number, descriptor.closeOnExec ? Flag.closeOnExec : 0)
    if offset != 0 {
      emit(SystemCallNumber.lseek, [.value(number), .value(offset), 0], check: RESTORE_MAY_FAIL)
    }
  }

  /// Does something with the user and group that the program will have: whoever is at a socket's other end is told
  /// them (SO_PEERCRED). The saved ids bring the others back.
  private mutating func asProgram(_ body: (inout DescriptorCompiler) -> Void) {
    let same: Operation.Argument = .value(.max)
    emit(SystemCallNumber.setresgid, [same, .value(UInt64(credentials.groupIDs[1])), same])
    emit(SystemCallNumber.setresuid, [same, .value(UInt64(credentials.userIDs[1])), same])
    body(&self)
    emit(SystemCallNumber.setresuid, [same, 0, same])
    emit(SystemCallNumber.setresgid, [same, 0, same])
  }

  private mutating func makePipe(_ pipe: UInt64, _ builder: inout ProgramBuilder) throws(RestoreError) {
    let pair = try park(&builder) { $0.emit(SystemCallNumber.pipe2, [.value($1), 0]) }
    parkedPipes[pipe] = (pair.0, pair.1)
    for descriptor in descriptors {
      guard case .pipe(pipe, false, let waiting, let capacity) = descriptor.kind else { continue }
      if capacity != 65536 {  // the default of pipe(7)
        emit(SystemCallNumber.fcntl, [.value(pair.1), 1031, .value(UInt64(capacity))], check: RESTORE_MAY_FAIL)
      }
      write(waiting, to: pair.1, &builder)
      return
    }
  }

  /// Opens a FIFO for both directions, parked, and fills it.
  private mutating func makeFIFO(
    _ fifo: UInt64, _ path: String, through temporary: Int, _ builder: inout ProgramBuilder
  ) {
    let number = parking.next()
    emit(
      SystemCallNumber.openat,
      [.value(Flag.currentDirectory), .value(builder.place(path)), .value(2 | Flag.nonBlocking | Flag.closeOnExec), 0],
      into: temporary)
    duplicate(.slot(temporary), to: number, Flag.closeOnExec)
    emit(SystemCallNumber.close, [.slot(temporary)])
    for descriptor in descriptors {
      guard case .fifo(_, fifo, let waiting, let capacity) = descriptor.kind, descriptor.statusFlags & 3 != 1 else {
        continue
      }
      if capacity != 65536 {
        emit(SystemCallNumber.fcntl, [.value(number), 1031, .value(UInt64(capacity))], check: RESTORE_MAY_FAIL)
      }
      write(waiting, to: number, &builder)
      return
    }
  }

  private mutating func makeSocketPair(
    _ socket: UInt64, _ peer: UInt64, _ type: UInt32, _ builder: inout ProgramBuilder
  ) throws(RestoreError) {
    let pair = try park(&builder) { compiler, answer in
      compiler.asProgram {
        $0.emit(SystemCallNumber.socketpair, [1, .value(UInt64(type)), 0, .value(answer)])  // AF_UNIX
      }
    }
    parkedSockets[socket] = pair.0
    if peer != 0 { parkedSockets[peer] = pair.1 }
    // Each end's number while it is parked, its state, and the other end's number.
    var ends: [(number: UInt64, other: UInt64, descriptor: Descriptor)] = []
    for descriptor in descriptors where descriptor.description == descriptor.number {
      guard case .socketPair(let owner, _, _, _, _) = descriptor.kind else { continue }
      if owner == socket { ends.append((pair.0, pair.1, descriptor)) }
      if owner == peer, peer != socket { ends.append((pair.1, pair.0, descriptor)) }
    }
    // Sizes of buffers first: what waits must find room.
    for end in ends { operations += sockets.set(end.descriptor.socketOptions, of: end.number, &builder) }
    for end in ends {
      guard case .socketPair(_, _, _, let waiting, _) = end.descriptor.kind else { continue }
      // What waits to be read from one end was written to the other.
      write(waiting, to: end.other, &builder)
    }
    for end in ends {
      guard case .socketPair(_, let peer, _, _, let shutdown) = end.descriptor.kind, shutdown != 0, peer != 0 else {
        continue  // an end whose other is closed is shut down by that
      }
      // SHUT_RD 0, SHUT_WR 1, SHUT_RDWR 2: one less than the kernel's mask.
      emit(SystemCallNumber.shutdown, [.value(end.number), .value(UInt64(shutdown) - 1)])
    }
  }

  /// A TCP connection within the sandbox whose other end is closed at once: reads answer end of file, as after a
  /// server's close.
  private mutating func makeClosedConnection(
    into slot: Int, _ builder: inout ProgramBuilder
  ) throws(RestoreError) {
    let slots = if let pairSlots { pairSlots } else { (try builder.slot(), try builder.slot()) }
    pairSlots = slots
    let (listener, accepted) = slots
    // struct sockaddr_in: family 2, port 0, 127.0.0.1.
    let address = builder.place([2, 0, 0, 0, 127, 0, 0, 1] + [UInt8](repeating: 0, count: 8))
    let length = builder.place(words: [16])
    let stream = 1 | Flag.closeOnExec
    emit(SystemCallNumber.socket, [2, .value(stream), 0], into: listener)
    emit(SystemCallNumber.bind, [.slot(listener), .value(address), 16])
    emit(SystemCallNumber.listen, [.slot(listener), 1])
    emit(SystemCallNumber.getsockname, [.slot(listener), .value(address), .value(length)])
    emit(SystemCallNumber.socket, [2, .value(stream), 0], into: slot)
    emit(SystemCallNumber.connect, [.slot(slot), .value(address), 16])
    emit(SystemCallNumber.accept, [.slot(listener), 0, 0], into: accepted)
    emit(SystemCallNumber.close, [.slot(accepted)])
    emit(SystemCallNumber.close, [.slot(listener)])
    // The address is used again by the next clone of the template only through copy-on-write: it starts at port 0
    // there.
  }

  /// Makes a pair of descriptors and parks both above `base`, where they are closed at the end; answers their
  /// numbers.
  private mutating func park(
    _ builder: inout ProgramBuilder, _ make: (inout DescriptorCompiler, UInt64) -> Void
  ) throws(RestoreError) -> (UInt64, UInt64) {
    let answer = builder.place(words: [0])
    make(&self, answer)
    let slots = if let pairSlots { pairSlots } else { (try builder.slot(), try builder.slot()) }
    pairSlots = slots
    operations.append(
      Operation(number: UInt16(RESTORE_OP_LOAD_PAIR.rawValue), arguments: [.value(answer), .value(UInt64(slots.0))]))
    let numbers = (parking.next(), parking.next())
    for (slot, number) in [(slots.0, numbers.0), (slots.1, numbers.1)] {
      duplicate(.slot(slot), to: number, Flag.closeOnExec)
      emit(SystemCallNumber.close, [.slot(slot)])
    }
    return numbers
  }

  private mutating func write(_ messages: [[UInt8]], to number: UInt64, _ builder: inout ProgramBuilder) {
    for message in messages { write(message, to: number, &builder) }
  }

  private mutating func write(_ bytes: [UInt8], to number: UInt64, _ builder: inout ProgramBuilder) {
    guard !bytes.isEmpty else { return }
    let address = builder.place(bytes)
    operations.append(
      Operation(
        number: SystemCallNumber.write, check: RESTORE_MUST_EQUAL_LAST.rawValue,
        arguments: [
          .value(number), .value(address), .value(UInt64(bytes.count)), 0, 0, .value(UInt64(bytes.count)),
        ]))
  }

  private mutating func setStatus(_ descriptor: Descriptor) {
    let settable = UInt64(descriptor.statusFlags) & (Flag.nonBlocking | 0o2000 | 0o20000)  // O_APPEND, O_ASYNC
    emit(SystemCallNumber.fcntl, [.value(UInt64(descriptor.number)), 4, .value(settable)])  // F_SETFL
  }

  private mutating func duplicate(_ source: Operation.Argument, to number: UInt64, _ flags: UInt64) {
    emit(SystemCallNumber.dup3, [source, .value(number), .value(flags)])
  }

  private mutating func move(_ slot: Int, to number: UInt64, _ flags: UInt64) {
    // dup3 to the same number fails, and a descriptor that is made where it belongs needs its close-on-exec flag set.
    operations.append(
      Operation(
        number: UInt16(RESTORE_OP_MOVE.rawValue), arguments: [.value(UInt64(slot)), .value(number), .value(flags)]))
    if flags != 0 { emit(SystemCallNumber.fcntl, [.value(number), 2, 1]) }  // F_SETFD, FD_CLOEXEC
  }

  private mutating func emit(
    _ number: UInt16, _ arguments: [Operation.Argument], into slot: Int = 0,
    check: restore_check = RESTORE_MUST_SUCCEED
  ) {
    operations.append(
      Operation(number: number, check: check.rawValue, resultSlot: slot, arguments: arguments))
  }
}
