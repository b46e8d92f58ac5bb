import SnapshotFormat
import Testing

/// A signal that waits.
private func pending(_ number: UInt8) -> PendingSignal {
  PendingSignal(information: [number, 0, 0, 0] + [UInt8](repeating: 3, count: 124))
}

/// A manifest that has something of every kind in it.
func sample() -> SnapshotManifest {
  let registers = Registers(words: (0..<27).map { UInt64($0) &* 0x0101_0101 })
  let thread = ThreadState(
    threadID: 2, registers: registers, vectorState: [UInt8](repeating: 7, count: 2440),
    signalMask: 0x8000_0000_0000_0001,
    restartableSequence: RestartableSequence(address: 0x7000, size: 32, signature: 0x5305_3053), robustList: 0x7100,
    clearThreadID: 0x7200, alternateStack: [0, 2, 0], name: Array("python3".utf8))
  var second = thread
  second.pendingSignals = [pending(12)]
  second.scheduling = Scheduling(policy: 3, priority: 0, niceness: 5, affinity: [1, 0])
  second.threadID = 5
  second.restartableSequence = nil
  var manifest = SnapshotManifest(
    compatibility: Compatibility(
      kernelRelease: "6.18.0", vectorFeatures: 0xe7, vdsoDigest: [UInt8](repeating: 1, count: 32),
      files: [Compatibility.File(path: "/usr/lib/ä.so", size: 12345, modified: -5)]),
    processes: [
      ProcessState(
        processID: 2, parentID: 1, groupID: 2, sessionID: 2, executable: "/usr/bin/python3",
        layout: AddressLayout(words: (0..<11).map { $0 }),
        auxiliaryVector: [1, 2, 3], vdso: VirtualLibrary(start: 0x7fff_0000, lengths: [16384, 8192, 8192]),
        mappings: [
          Mapping(
            start: 0x40_0000, end: 0x40_4000, protection: [.read, .execute], flags: [.shared],
            backing: .file(index: 0, offset: 4096), extents: [], guards: []),
          Mapping(
            start: 0x50_0000, end: 0x60_0000, protection: [.read, .write], flags: [.noReserve, .wipeOnFork],
            backing: .anonymous,
            extents: [Mapping.Extent(start: 0x50_1000, length: 0x2000, imageOffset: 0)], guards: [[0x50_4000, 0x1000]]),
          Mapping(
            start: 0x60_0000, end: 0x60_2000, protection: [.read, .write],
            flags: [.shared, .mayWrite, .locked, .lockedOnFault, .droppable, .mergeable, .sealed],
            backing: .object(index: 0, offset: 4096), extents: [], guards: []),
        ], workingDirectory: "/var/task", umask: 0o22,
        signalActions: [SignalAction(signal: 2, words: [1, 2, 3, 4])], membarrierRegistrations: 16,
        intervalTimers: [[0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]],
        resourceLimits: [ResourceLimit(resource: 7, current: 1024, maximum: .max)],
        credentials: Credentials(
          userIDs: [993, 993, 993], groupIDs: [993, 993, 993], groups: [1, 2], noNewPrivileges: true, dumpable: true),
        seccompFilters: [[1, 2, 3], [4]],
        descriptors: [
          Descriptor(
            number: 0, description: 0, statusFlags: 2, closeOnExec: false, kind: .file(path: "/dev/null", offset: 0)),
          Descriptor(number: 1, description: 1, statusFlags: 1, closeOnExec: false, kind: .supplied(.output)),
          Descriptor(number: 2, description: 1, statusFlags: 1, closeOnExec: false, kind: .supplied(.output)),
          Descriptor(
            number: 3, description: 3, statusFlags: 0, closeOnExec: true,
            kind: .pipe(pipe: 77, writes: false, waiting: [9, 8], capacity: 65536)),
          Descriptor(
            number: 4, description: 4, statusFlags: 1, closeOnExec: true,
            kind: .pipe(pipe: 77, writes: true, waiting: [], capacity: 65536)),
          Descriptor(
            number: 5, description: 5, statusFlags: 2, closeOnExec: true, kind: .event(count: 3, semaphore: true)),
          Descriptor(
            number: 6, description: 6, statusFlags: 2, closeOnExec: true,
            kind: .epoll([Descriptor.EpollEntry(target: 5, events: 1, data: .max)])),
          Descriptor(
            number: 7, description: 7, statusFlags: 2, closeOnExec: false,
            kind: .socketPair(socket: 1, peer: 2, type: 1, waiting: [[5], []], shutdown: 2)),
          Descriptor(number: 8, description: 8, statusFlags: 2, closeOnExec: false, kind: .closedConnection),
          Descriptor(
            number: 9, description: 9, statusFlags: 2, closeOnExec: false,
            kind: .timer(TimerDescriptor(clock: 1, flags: 3, setting: [1, 2, 3, 4], expirations: 5))),
          Descriptor(number: 10, description: 10, statusFlags: 2, closeOnExec: false, kind: .signals(mask: 0x200)),
          Descriptor(
            number: 11, description: 11, statusFlags: 2, closeOnExec: false, kind: .object(index: 1, offset: 7)),
          Descriptor(
            number: 12, description: 12, statusFlags: 2, closeOnExec: false,
            kind: .socket(
              SocketState(
                family: 2, type: 1, transport: 6, localAddress: [2, 0, 31, 144], remoteAddress: [], backlog: 128,
                file: SocketState.File(mode: 0o700, userID: 1, groupID: 2)))),
          Descriptor(
            number: 13, description: 13, statusFlags: 2, closeOnExec: false,
            kind: .inotify([Descriptor.InotifyWatch(number: 1, path: "/tmp", mask: 2)])),
          Descriptor(
            number: 14, description: 14, statusFlags: 2, closeOnExec: false,
            kind: .fifo(path: "/tmp/fifo", pipe: 5, waiting: [1], capacity: 4096)),
        ], threads: [thread, second])
    ],
    clocks: ClockReadings(monotonic: 12_345_678_901, boottime: 22_345_678_901), imageBytes: 0x10000,
    imageDigest: [UInt8](repeating: 2, count: ImageChecksum.byteCount), warnings: ["a connection comes back closed"])
  manifest.process.descriptors[12].socketOptions = [SocketOption(level: 1, name: 2, value: [1, 0, 0, 0])]
  manifest.process.timers = [
    PosixTimer(id: 0, clock: 1, notification: 0, signal: 34, value: .max, threadID: 0, setting: [1, 2, 3, 4]),
    PosixTimer(id: 7, clock: -6, notification: 4, signal: 14, value: 0, threadID: 5, setting: [0, 0, 0, 0]),
  ]
  manifest.process.pendingSignals = [pending(10), pending(64)]
  manifest.objects = [
    SharedObject(
      kind: .sharedMemory, size: 0x3000, mode: 0o777, userID: 993, groupID: 993,
      extents: [Mapping.Extent(start: 0x1000, length: 0x1000, imageOffset: 0x1000)]),
    SharedObject(
      kind: .memoryFile(name: "ä", seals: 3), size: 5000, mode: 0o777, userID: 993, groupID: 993,
      extents: [Mapping.Extent(start: 0x1000, length: 0x1000, imageOffset: 0)]),
    SharedObject(
      kind: .deletedFile(path: "/tmp/gone"), size: 0, mode: 0o600, userID: 993, groupID: 993, extents: []),
    SharedObject(
      kind: .unnamedFile(directory: "/tmp"), size: 0, mode: 0o600, userID: 993, groupID: 993, extents: []),
    SharedObject(kind: .file(path: "/tmp/there"), size: 9, mode: 0o600, userID: 993, groupID: 993, extents: []),
  ]
  manifest.process.fileLocks = [
    FileLock(descriptor: 3, kind: .flock, isExclusive: true, start: 0, length: 0),
    FileLock(descriptor: 4, kind: .posix, isExclusive: false, start: 10, length: 5),
    FileLock(descriptor: 4, kind: .openFile, isExclusive: true, start: 20, length: 5),
  ]
  manifest.process.futureLock = 6
  var child = manifest.process
  child.processID = 7
  child.parentID = 2
  child.threads[0].threadID = 7
  child.threads[1].threadID = 8
  child.timers = []
  child.mappings[1].extents = []
  child.descriptors = [child.descriptors[3]]
  child.descriptors[0].origin = Descriptor.Origin(process: 0, number: child.descriptors[0].number)
  child.descriptors.append(
    Descriptor(number: 20, description: 20, statusFlags: 2, closeOnExec: true, kind: .process(processID: 2)))
  child.fileLocks = []
  child.exitSignal = 17
  child.parentDeathSignal = 9
  child.isSubreaper = true
  manifest.processes.append(child)
  manifest.zombies = [
    Zombie(processID: 9, parentID: 7, groupID: 9, sessionID: 2, status: 0x700, exitSignal: 17)
  ]
  return manifest
}

@Suite struct SnapshotManifestTests {
  /// A manifest that is changed so is refused, with a right checksum.
  private func rejects(
    sourceLocation: SourceLocation = #_sourceLocation, _ change: (inout SnapshotManifest) -> Void
  ) {
    var manifest = sample()
    change(&manifest)
    let bytes = manifest.encode()
    #expect(throws: SnapshotFormatError.self, sourceLocation: sourceLocation) {
      try SnapshotManifest(decoding: bytes)
    }
  }

  @Test func comesBackFromItsBytes() throws {
    #expect(try SnapshotManifest(decoding: sample().encode()) == sample())
  }

  @Test func everyChangedByteIsNoticed() {
    let bytes = sample().encode()
    for place in stride(from: 0, to: bytes.count, by: 7) {
      var changed = bytes
      changed[place] ^= 0x10
      #expect(throws: SnapshotFormatError.self) { try SnapshotManifest(decoding: changed) }
    }
  }

  @Test func everyCutIsNoticed() {
    let bytes = sample().encode()
    for length in stride(from: 0, to: bytes.count, by: 13) {
      #expect(throws: SnapshotFormatError.self) { try SnapshotManifest(decoding: Array(bytes[..<length])) }
    }
    #expect(throws: SnapshotFormatError.self) { try SnapshotManifest(decoding: bytes + [0]) }
  }

  /// A right checksum over wrong values: the values themselves are checked before anything is made of them.
  @Test func contradictionsAreNoticed() {
    rejects { $0.imageBytes = 0x2001 }
    rejects { $0.process.mappings[1].extents[0].imageOffset = 0xf000 }
    rejects { $0.process.mappings[1].extents[0].length = 0x100_0000 }
    rejects { $0.process.mappings[1].extents[0].start = 0x4f_0000 }
    rejects { $0.process.mappings[0].end = 0x55_0000 }
    rejects { $0.process.mappings[1].end = .max }
    rejects { $0.process.mappings[0].backing = .file(index: 9, offset: 0) }
    rejects { $0.process.threads = [] }
    rejects { $0.process.threads[0].threadID = 9 }
    rejects { $0.process.threads[1].vectorState = [1, 2, 3] }
    rejects { $0.process.threads[1].name = [UInt8](repeating: 65, count: 16) }
    rejects { $0.process.descriptors[3].number = 1 << 30 }
    rejects { $0.process.mappings[1].guards = [[0, 4096]] }
    rejects { $0.objects[0].extents[0].start = 0x3000 }
    rejects { $0.objects[0].extents[0].length = 0x3000 }
    rejects { $0.objects[0].extents[0].imageOffset = 0x10000 }
    rejects { $0.objects[1].size = .max }
    rejects { $0.objects[1].mode = 0o10000 }
    rejects { $0.imageDigest = [1] }
  }

  @Test func impossibleTreesAreNoticed() {
    rejects { $0.processes = [] }
    rejects { $0.processes.swapAt(0, 1) }
    rejects { $0.processes[0].parentID = 7 }
    rejects { $0.processes[0].sessionID = 9 }
    rejects { $0.processes[1].parentID = 8 }
    rejects { $0.processes[1].sessionID = 11 }
    rejects { $0.processes[1].threads[1].threadID = 2 }
    rejects { $0.processes[1].threads[1].threadID = 1 << 23 }
    rejects { $0.processes[1].descriptors[0].origin?.process = 1 }
    rejects { $0.processes[1].descriptors[0].origin?.number = 400 }
    rejects { $0.processes[1].parentDeathSignal = 65 }
    rejects { $0.zombies[0].processID = 5 }
    rejects { $0.zombies[0].parentID = 1 }
    rejects { $0.zombies[0].status = 1 << 16 }
    rejects { $0.zombies.append($0.zombies[0]) }
  }

  @Test func contradictionsBetweenKernelObjectsAreNoticed() {
    func rejects(
      sourceLocation: SourceLocation = #_sourceLocation, _ change: (inout ProcessState) -> Void
    ) {
      self.rejects(sourceLocation: sourceLocation) { change(&$0.process) }
    }
    func kind(_ number: Int, _ kind: Descriptor.Kind) -> (inout ProcessState) -> Void {
      { $0.descriptors[number].kind = kind }
    }
    rejects { $0.mappings[2].backing = .object(index: 5, offset: 0) }
    rejects { $0.mappings[2].backing = .object(index: 0, offset: 1) }
    rejects { $0.timers[0].id = 8 }
    rejects { $0.timers[1].id = 1 << 31 }
    rejects { $0.timers[1].threadID = 6 }
    rejects { $0.timers[0].notification = 2 }
    rejects { $0.timers[0].signal = 65 }
    rejects { $0.timers[0].setting[1] = 1_000_000_000 }
    rejects { $0.pendingSignals[0].information.removeLast() }
    rejects { $0.threads[1].pendingSignals[0].information[0] = 0 }
    rejects { $0.threads[1].scheduling.niceness = 20 }
    rejects { $0.threads[1].scheduling.policy = 6 }
    rejects { $0.threads[1].scheduling.priority = 100 }
    rejects { $0.threads[1].scheduling.affinity = [UInt64](repeating: 1, count: 129) }
    rejects { $0.fileLocks[0].descriptor = 99 }
    rejects { $0.futureLock = 8 }
    rejects(kind(9, .timer(TimerDescriptor(clock: 1, flags: 4, setting: [0, 0, 0, 0], expirations: 0))))
    rejects(kind(9, .timer(TimerDescriptor(clock: 1, flags: 0, setting: [0, 0, 0, .max], expirations: 0))))
    rejects(kind(7, .socketPair(socket: 1, peer: 2, type: 1, waiting: [], shutdown: 4)))
    rejects { $0.descriptors[12].socketOptions[0].value = [UInt8](repeating: 0, count: 257) }
    rejects {
      $0.descriptors[12].socketOptions = [SocketOption](repeating: $0.descriptors[12].socketOptions[0], count: 65)
    }
    rejects(kind(11, .object(index: 5, offset: 0)))
    rejects(kind(13, .inotify([Descriptor.InotifyWatch(number: 0, path: "/tmp", mask: 2)])))
    rejects(kind(13, .inotify([Descriptor.InotifyWatch(number: 1 << 31, path: "/tmp", mask: 2)])))
    let long = [UInt8](repeating: 1, count: 129)
    for (local, remote) in [(long, []), ([], long)] {
      rejects(
        kind(
          12,
          .socket(
            SocketState(
              family: 2, type: 1, transport: 6, localAddress: local, remoteAddress: remote, backlog: nil, file: nil))
        ))
    }
  }

  /// Bytes that are well signed but random inside: never a crash, whatever the counts say.
  @Test func randomBodiesAreRefused() {
    var generator = SystemRandomNumberGenerator()
    let bytes = sample().encode()
    for _ in 0..<2000 {
      var body = Array(bytes[..<(bytes.count - 32)])
      for _ in 0..<Int.random(in: 1...8, using: &generator) {
        body[Int.random(in: 20..<body.count, using: &generator)] = UInt8.random(in: 0...255, using: &generator)
      }
      let signed = SnapshotManifest.sign(body)
      _ = try? SnapshotManifest(decoding: signed)
    }
  }

  @Test func interruptedCallsAreCalledAgain() {
    func after(_ call: UInt64, _ result: Int64) -> (rax: UInt64, rip: UInt64) {
      var registers = Registers(words: [UInt64](repeating: 0, count: 27))
      registers[.origRax] = call
      registers[.rax] = UInt64(bitPattern: result)
      registers[.rip] = 0x1002
      let restarted = registers.restartingInterruptedCall
      return (restarted[.rax], restarted[.rip])
    }
    for code in [Int64(-512), -513, -514, -516] { #expect(after(45, code) == (45, 0x1000)) }
    for wait in [UInt64(43), 45, 47, 128, 232, 281, 288, 441] { #expect(after(wait, -4) == (wait, 0x1000)) }
    #expect(after(0, -4) == (UInt64(bitPattern: -4), 0x1002), "a read that a signal interrupted stays interrupted")
    #expect(after(219, -516) == (UInt64(bitPattern: -4), 0x1002))
    #expect(after(45, 17) == (17, 0x1002))
    #expect(after(.max, -512) == (UInt64(bitPattern: -512), 0x1002), "not in a system call")
  }
}
