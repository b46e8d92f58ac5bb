extension Descriptor: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(number)
    writer.put(description)
    writer.put(origin != nil)
    if let origin {
      writer.put(origin.process)
      writer.put(origin.number)
    }
    writer.put(statusFlags)
    writer.put(closeOnExec)
    writer.put(socketOptions)
    switch kind {
    case .supplied(let role):
      writer.put(0 as UInt8)
      writer.put(role.rawValue)
    case .file(let path, let offset):
      writer.put(1 as UInt8)
      writer.put(path)
      writer.put(offset)
    case .pipe(let pipe, let writes, let waiting, let capacity):
      writer.put(2 as UInt8)
      writer.put(pipe)
      writer.put(writes)
      writer.put(waiting)
      writer.put(capacity)
    case .event(let count, let semaphore):
      writer.put(3 as UInt8)
      writer.put(count)
      writer.put(semaphore)
    case .epoll(let entries):
      writer.put(4 as UInt8)
      writer.put(entries)
    case .socketPair(let socket, let peer, let type, let waiting, let shutdown):
      writer.put(5 as UInt8)
      writer.put(socket)
      writer.put(peer)
      writer.put(type)
      writer.put(UInt32(waiting.count))
      for message in waiting { writer.put(message) }
      writer.put(shutdown)
    case .closedConnection:
      writer.put(6 as UInt8)
    case .timer(let timer):
      writer.put(7 as UInt8)
      timer.encode(into: &writer)
    case .signals(let mask):
      writer.put(8 as UInt8)
      writer.put(mask)
    case .object(let index, let offset):
      writer.put(9 as UInt8)
      writer.put(index)
      writer.put(offset)
    case .socket(let state):
      writer.put(10 as UInt8)
      state.encode(into: &writer)
    case .inotify(let watches):
      writer.put(11 as UInt8)
      writer.put(watches)
    case .fifo(let path, let pipe, let waiting, let capacity):
      writer.put(12 as UInt8)
      writer.put(path)
      writer.put(pipe)
      writer.put(waiting)
      writer.put(capacity)
    case .process(let processID):
      writer.put(13 as UInt8)
      writer.put(processID)
    }
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    number = try reader.get()
    description = try reader.get()
    origin = try reader.flag() ? Origin(process: try reader.get(), number: try reader.get()) : nil
    statusFlags = try reader.get()
    closeOnExec = try reader.flag()
    socketOptions = try reader.array()
    switch try reader.get(UInt8.self) {
    case 0:
      let raw = try reader.get(UInt8.self)
      guard let role = SuppliedRole(rawValue: raw) else {
        throw SnapshotFormatError("unknown role \(raw) of descriptor \(number)")
      }
      kind = .supplied(role)
    case 1: kind = .file(path: try reader.string(), offset: try reader.get())
    case 2:
      kind = .pipe(
        pipe: try reader.get(), writes: try reader.flag(), waiting: try reader.data(), capacity: try reader.get())
    case 3: kind = .event(count: try reader.get(), semaphore: try reader.flag())
    case 4: kind = .epoll(try reader.array())
    case 5:
      kind = .socketPair(
        socket: try reader.get(), peer: try reader.get(), type: try reader.get(),
        waiting: try reader.byteStrings(),
        shutdown: try reader.get())
    case 6: kind = .closedConnection
    case 7: kind = .timer(try TimerDescriptor(from: &reader))
    case 8: kind = .signals(mask: try reader.get())
    case 9: kind = .object(index: try reader.get(), offset: try reader.get())
    case 10: kind = .socket(try SocketState(from: &reader))
    case 11: kind = .inotify(try reader.array())
    case 12:
      kind = .fifo(
        path: try reader.string(), pipe: try reader.get(), waiting: try reader.data(), capacity: try reader.get())
    case 13: kind = .process(processID: try reader.get())
    case let other: throw SnapshotFormatError("unknown kind \(other) of descriptor \(number)")
    }
  }
}

extension Descriptor.EpollEntry: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(target)
    writer.put(events)
    writer.put(data)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    target = try reader.get()
    events = try reader.get()
    data = try reader.get()
  }
}

extension Descriptor.InotifyWatch: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(number)
    writer.put(path)
    writer.put(mask)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    number = try reader.get()
    path = try reader.string()
    mask = try reader.get()
  }
}
