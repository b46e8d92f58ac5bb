import SnapshotFormat
import Testing

/// A manifest that has something of every kind in it.
func sample() -> SnapshotManifest {
  let registers = Registers(words: (0..<27).map { UInt64($0) &* 0x0101_0101 })
  let thread = ThreadState(
    threadID: 2, registers: registers, vectorState: [UInt8](repeating: 7, count: 2440),
    signalMask: 0x8000_0000_0000_0001,
    restartableSequence: RestartableSequence(address: 0x7000, size: 32, signature: 0x5305_3053), robustList: 0x7100,
    clearThreadID: 0x7200, alternateStack: [0, 2, 0], name: Array("python3".utf8))
  var second = thread
  second.threadID = 5
  second.restartableSequence = nil
  return SnapshotManifest(
    compatibility: Compatibility(
      kernelRelease: "6.18.0", vectorFeatures: 0xe7, vdsoDigest: [UInt8](repeating: 1, count: 32),
      files: [Compatibility.File(path: "/usr/lib/ä.so", size: 12345, modified: -5)]),
    process: ProcessState(
      processID: 2, leadsSession: true, executable: "/usr/bin/python3",
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
      ], workingDirectory: "/var/task", umask: 0o22,
      signalActions: [SignalAction(signal: 2, words: [1, 2, 3, 4])], membarrierRegistrations: 16,
      intervalTimers: [[0, 0, 0, 0], [1, 2, 3, 4], [0, 0, 0, 0]],
      resourceLimits: [ResourceLimit(resource: 7, current: 1024, maximum: .max)],
      credentials: Credentials(
        userIDs: [993, 993, 993], groupIDs: [993, 993, 993], groups: [1, 2], noNewPrivileges: true, dumpable: true),
      seccompFilters: [[1, 2, 3]],
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
          kind: .socketPair(socket: 1, peer: 2, type: 1, waiting: [5])),
        Descriptor(number: 8, description: 8, statusFlags: 2, closeOnExec: false, kind: .closedConnection),
      ], threads: [thread, second]),
    imageBytes: 0x2000, imageDigest: [UInt8](repeating: 2, count: 32), warnings: ["a connection comes back closed"])
}

@Suite struct SnapshotManifestTests {
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
    func rejects(_ change: (inout SnapshotManifest) -> Void) {
      var manifest = sample()
      change(&manifest)
      let bytes = manifest.encode()
      #expect(throws: SnapshotFormatError.self) { try SnapshotManifest(decoding: bytes) }
    }
    rejects { $0.imageBytes = 0x2001 }
    rejects { $0.process.mappings[1].extents[0].imageOffset = 0x1000 }
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
    rejects { $0.imageDigest = [1] }
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
    for wait in [UInt64(232), 281, 441] { #expect(after(wait, -4) == (wait, 0x1000)) }
    #expect(after(0, -4) == (UInt64(bitPattern: -4), 0x1002), "a read that a signal interrupted stays interrupted")
    #expect(after(219, -516) == (UInt64(bitPattern: -4), 0x1002))
    #expect(after(45, 17) == (17, 0x1002))
    #expect(after(.max, -512) == (UInt64(bitPattern: -512), 0x1002), "not in a system call")
  }
}
