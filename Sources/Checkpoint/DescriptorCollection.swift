import Linux
import SnapshotFormat
import SystemPackage

/// The open file descriptions of a tree's processes, as far as they were looked at.
struct OpenDescriptions {
  /// A descriptor that is the first of its description.
  struct Place {
    var origin: Descriptor.Origin
    var process: Int32
    var descriptor: Descriptor
  }
  /// By what the kernel says they are: two descriptors of one description have the same link.
  private var places: [String: [Place]] = [:]

  /// The one that a descriptor shares, in its own process first; kcmp tells it from another opening of the same file.
  func place(of number: Int32, of process: Int32, link: String) throws -> Place? {
    let candidates = places[link] ?? []
    for place in candidates.filter({ $0.process == process }) + candidates.filter({ $0.process != process })
    where try Kernel.sameDescription((place.process, place.origin.number), (process, UInt32(number))) {
      return place
    }
    return nil
  }

  mutating func add(_ place: Place, link: String) { places[link, default: []].append(place) }
}

/// Reads the open descriptors of a frozen process.
struct DescriptorCollection {
  let process: Int32
  /// Its place in the tree.
  let index: UInt32
  let supplied: [SuppliedDescriptor]
  private var sockets: SocketCollection
  /// What comes back changed, for the user.
  var warnings: [String] { sockets.warnings + ownWarnings }
  private var ownWarnings: [String] = []
  /// Locks on the files that were collected.
  private(set) var locks: [FileLock] = []

  init(process: Int32, index: Int, supplied: [SuppliedDescriptor]) {
    self.process = process
    self.index = UInt32(index)
    self.supplied = supplied
    sockets = SocketCollection(process: process, supplied: supplied)
  }

  mutating func collect(
    _ objects: inout SharedObjectCollection, _ descriptions: inout OpenDescriptions
  ) throws -> [Descriptor] {
    let handle = try Kernel.openProcess(process)
    defer { try? handle.close() }
    let numbers = try ProcessFiles.numbers(in: "/proc/\(process)/fd")
    var links: [Int32: String] = [:]
    for number in numbers { links[number] = try ProcessFiles.link("/proc/\(process)/fd/\(number)") }
    let owner = process
    var result: [Descriptor] = []
    for number in numbers {
      let link = links[number] ?? ""
      let information = try ProcessFields(path: "/proc/\(process)/fdinfo/\(number)")
      var flags = UInt32(information.number("flags", radix: 8) ?? 0)
      // O_TMPFILE, with the O_DIRECTORY in it, and O_NOFOLLOW say how a file was opened. They mean nothing to an open
      // one, and would be in the way of opening one without a name.
      let temporary: UInt32 = 0o20000000 | 0o200000
      if flags & temporary == temporary { flags &= ~temporary }
      if SharedObjectCollection.isNeeded(forDescriptorOf: link) { flags &= ~0o400000 }
      func refuse(_ reason: String) -> CheckpointError {
        .refused("descriptor \(number) of \(ProcessStatistics.title(of: owner)) is \(link): \(reason)")
      }
      let isSocket = link.hasPrefix("socket:[")
      if !isSocket { locks += try FileLock.all(process: process, number: number, refuse) }
      var descriptor = Descriptor(
        number: UInt32(number), description: UInt32(number), statusFlags: flags & ~0o2000000,
        closeOnExec: flags & 0o2000000 != 0, kind: .closedConnection)
      if let place = try descriptions.place(of: number, of: process, link: link) {
        descriptor.kind = place.descriptor.kind.withoutContent
        if place.process == process {
          descriptor.origin = place.descriptor.origin
          descriptor.description = place.origin.number
          result.append(descriptor)
          continue
        }
        descriptor.origin = place.origin
      } else if isSocket {
        (descriptor.kind, descriptor.socketOptions) = try sockets.collect(
          number: number, inode: inode(of: link), handle: handle, refuse)
      } else {
        descriptor.kind = try kind(
          number: number, link: link, information: information, flags: flags, handle: handle, objects: &objects,
          refuse)
      }
      result.append(descriptor)
      descriptions.add(
        OpenDescriptions.Place(
          origin: Descriptor.Origin(process: index, number: UInt32(number)), process: process, descriptor: descriptor),
        link: link)
    }
    return result
  }

  private mutating func kind(
    number: Int32, link: String, information: ProcessFields, flags: UInt32, handle: FileDescriptor,
    objects: inout SharedObjectCollection, _ refuse: (String) -> CheckpointError
  ) throws -> Descriptor.Kind {
    if link.hasPrefix("pipe:[") {
      let inode = inode(of: link)
      if let match = supplied.first(where: { $0.identity == .pipe(inode: inode) }) { return .supplied(match.role) }
      return try pipe(inode: inode, number: number, writes: flags & 3 == 1, handle: handle)
    }
    switch link {
    case "anon_inode:[eventfd]":
      return .event(
        count: information.number("eventfd-count", radix: 16) ?? 0,
        semaphore: information.number("eventfd-semaphore") == 1)
    case "anon_inode:[timerfd]":
      return .timer(try TimerDescriptor(process: process, number: number, handle: handle))
    case "anon_inode:[signalfd]": return .signals(mask: information.number("sigmask", radix: 16) ?? 0)
    case "anon_inode:inotify", "anon_inode:[inotify]":
      let copy = try Kernel.duplicate(number, of: handle)
      defer { try? copy.close() }
      if try Kernel.bytesWaiting(in: copy) > 0 {
        ownWarnings.append("descriptor \(number): the inotify events that nobody has read are lost")
      }
      return .inotify(try Descriptor.InotifyWatch.all(process: process, number: number, refuse))
    case "anon_inode:[pidfd]": return try processDescriptor(information, refuse)
    case "anon_inode:[eventpoll]": return .epoll(try epollEntries(number: number))
    default: break
    }
    // From Linux 6.9 on process descriptors have a file system of their own (fs/pidfs.c).
    if link.hasPrefix("pidfd:[") { return try processDescriptor(information, refuse) }
    guard link.hasPrefix("/") else { throw refuse("this kind of kernel object is not brought back yet") }
    if SharedObjectCollection.isNeeded(forDescriptorOf: link) {
      let index = try objects.index(ofDescriptor: number, of: process, refuse)
      return .object(index: index, offset: information.number("pos") ?? 0)
    }
    // The first process opens it, before this one exists.
    if index > 0, link.hasPrefix("/proc/"), link.split(separator: "/").dropFirst().first?.first?.isNumber == true {
      throw refuse("files of a child's own /proc directory are not brought back")
    }
    let status = try FileStatus(path: "/proc/\(process)/root\(link)")
    switch status.kind {
    case .regular, .directory: break
    case .characterDevice:
      guard ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/urandom"].contains(link) else {
        throw refuse("devices other than null, zero, full, random and urandom cannot be brought back")
      }
    case .fifo:
      guard link.hasPrefix("/tmp/") else { throw refuse("a FIFO outside /tmp cannot be brought back") }
      guard
        case .pipe(_, _, let waiting, let capacity) = try pipe(
          inode: status.inode, number: number, writes: flags & 3 == 1, handle: handle)
      else { break }
      return .fifo(path: link, pipe: status.inode, waiting: waiting, capacity: capacity)
    default: throw refuse("this kind of file cannot be brought back")
    }
    return .file(path: link, offset: information.number("pos") ?? 0)
  }

  /// "NSpid:" of fdinfo has the ids in this daemon's namespace and in the sandbox's (pidfd_show_fdinfo, fs/pidfs.c).
  private func processDescriptor(
    _ information: ProcessFields, _ refuse: (String) -> CheckpointError
  ) throws -> Descriptor.Kind {
    // PIDFD_THREAD of linux/pidfd.h is O_EXCL.
    if (information.number("flags", radix: 8) ?? 0) & 0o200 != 0 { throw refuse("it is a thread's") }
    guard let inner = information.numbers("NSpid").last, inner > 1 else {
      throw refuse("its process has been waited for, or is not one of this sandbox's")
    }
    return .process(processID: inner)
  }

  private func inode(of link: String) -> UInt64 {
    UInt64(link.drop { $0 != "[" }.dropFirst().dropLast()) ?? 0
  }

  /// Pipes: the bytes that wait are copied by `tee(2)`, which leaves them where they are.
  private func pipe(
    inode: UInt64, number: Int32, writes: Bool, handle: FileDescriptor
  ) throws -> Descriptor.Kind {
    let end = try Kernel.duplicate(number, of: handle)
    defer { try? end.close() }
    let capacity = try Kernel.pipeCapacity(end)
    var waiting: [UInt8] = []
    if !writes {
      let count = try Kernel.bytesWaiting(in: end)
      if count > 0 {
        let copy = try Kernel.pipe()
        defer {
          try? copy.reading.close()
          try? copy.writing.close()
        }
        try Kernel.setPipeCapacity(copy.writing, capacity)
        let copied = try Kernel.tee(from: end, to: copy.writing, count: count)
        var buffer = [UInt8](repeating: 0, count: copied)
        let got = try buffer.withUnsafeMutableBytes { try copy.reading.read(into: $0) }
        guard got == count else {
          throw CheckpointError.refused(
            "descriptor \(number) of \(ProcessStatistics.title(of: process)): only \(got) of the \(count) bytes in the pipe could be copied"
          )
        }
        waiting = buffer
      }
    }
    return .pipe(pipe: inode, writes: writes, waiting: waiting, capacity: UInt32(capacity))
  }

  private static func hasWaiting(_ descriptor: Descriptor, of process: Int32) -> Bool {
    guard let handle = try? Kernel.openProcess(process) else { return false }
    defer { try? handle.close() }
    guard let end = try? Kernel.duplicate(Int32(descriptor.number), of: handle) else { return false }
    defer { try? end.close() }
    return (try? Kernel.bytesWaiting(in: end)) ?? 0 > 0
  }

  private func epollEntries(number: Int32) throws -> [Descriptor.EpollEntry] {
    // "tfd:        5 events:       19 data:                5  pos:0 ino:... sdev:..." (fs/eventpoll.c)
    try ProcessFiles.text("/proc/\(process)/fdinfo/\(number)").split(separator: "\n").compactMap { line in
      guard line.hasPrefix("tfd:") else { return nil }
      let fields = line.split(whereSeparator: { $0 == " " || $0 == ":" })
      guard fields.count >= 6, let target = UInt32(fields[1]), let events = UInt32(fields[3], radix: 16),
        let data = UInt64(fields[5], radix: 16)
      else { return nil }
      return Descriptor.EpollEntry(target: target, events: events, data: data)
    }
  }

  /// Refuses what is only half inside: an epoll set that watches a number that is closed, a socket pair whose other
  /// end somebody else holds.
  ///
  /// - Parameter processIDs: of all processes inside, those that have ended included.
  static func checkEnds(_ tree: [(process: Int32, descriptors: [Descriptor])], processIDs: Set<UInt32>) throws {
    let all = tree.flatMap(\.descriptors)
    var socketsInside: Set<UInt64> = []
    for descriptor in all {
      if case .socketPair(let socket, _, _, _, _) = descriptor.kind { socketsInside.insert(socket) }
    }
    for (process, descriptors) in tree {
      let numbers = Set(descriptors.map(\.number))
      for descriptor in descriptors where descriptor.origin == nil {
        if case .process(let processID) = descriptor.kind, !processIDs.contains(processID) {
          throw CheckpointError.refused(
            "descriptor \(descriptor.number) of \(ProcessStatistics.title(of: process)) is of process \(processID) there, which is not in the snapshot"
          )
        }
        try check(descriptor, of: process, numbers, among: all, socketsInside)
      }
    }
  }

  private static func check(
    _ descriptor: Descriptor, of process: Int32, _ numbers: Set<UInt32>, among all: [Descriptor],
    _ socketsInside: Set<UInt64>
  ) throws {
    switch descriptor.kind {
    case .epoll(let entries):
      var turns: [UInt32: UInt32] = [:]
      for entry in entries {
        defer { turns[entry.target, default: 0] += 1 }
        let turn = turns[entry.target] ?? 0
        if numbers.contains(entry.target),
          try Kernel.watches(process: process, set: descriptor.number, target: entry.target, turn: turn)
        {
          continue
        }
        throw CheckpointError.refused(
          "epoll descriptor \(descriptor.number) of \(ProcessStatistics.title(of: process)) watches descriptor \(entry.target), which is closed there"
        )
      }
    case .fifo(let path, let pipe, _, _):
      let isReadable = all.contains { other in
        if case .fifo(_, pipe, _, _) = other.kind { return other.statusFlags & 3 != 1 }
        return false
      }
      if !isReadable, hasWaiting(descriptor, of: process) {
        throw CheckpointError.refused(
          "descriptor \(descriptor.number) of \(ProcessStatistics.title(of: process)) is \(path): nobody can read what waits in it"
        )
      }
    case .socketPair(let socket, let peer, _, _, _):
      if peer == 0 || peer == socket || socketsInside.contains(peer) { return }
      throw CheckpointError.refused(
        "descriptor \(descriptor.number) of \(ProcessStatistics.title(of: process)) is a unix socket connected to a socket of another process"
      )
    default: break
    }
  }
}
