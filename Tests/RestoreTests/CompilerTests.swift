import CRestoreProgram
import SnapshotFormat
import Testing

@testable import Restore

@Suite struct CompilerTests {
  private let timers = [
    PosixTimer(id: 1, clock: 1, notification: 0, signal: 34, value: 7, threadID: 0, setting: [0, 0, 5, 0]),
    PosixTimer(id: 3, clock: 1, notification: 1, signal: 0, value: 0, threadID: 0, setting: [0, 0, 0, 0]),
  ]

  private func process(_ change: (inout ProcessState) -> Void = { _ in }) -> ProcessState {
    var state = ProcessState(
      processID: 2, parentID: 1, groupID: 2, sessionID: 2, executable: "/bin/true", layout: AddressLayout(words: []),
      auxiliaryVector: [], vdso: VirtualLibrary(start: 0x7fff_0000_0000, lengths: [0x4000, 0x2000, 0x2000]),
      mappings: [],
      workingDirectory: "/", umask: 0o22, signalActions: [], membarrierRegistrations: 0, intervalTimers: [],
      resourceLimits: [],
      credentials: Credentials(
        userIDs: [1, 1, 1], groupIDs: [1, 1, 1], groups: [], noNewPrivileges: true, dumpable: true),
      seccompFilters: [], descriptors: [], threads: [])
    change(&state)
    return state
  }

  private func manifest(_ processes: [ProcessState]) -> SnapshotManifest {
    SnapshotManifest(
      compatibility: Compatibility(kernelRelease: "6.18", vectorFeatures: 7, vdsoDigest: [], files: []),
      processes: processes, clocks: ClockReadings(monotonic: 0, boottime: 0), imageBytes: 0, imageDigest: [],
      warnings: [])
  }

  private func creation(_ release: String) -> [Operation] {
    var builder = ProgramBuilder()
    return TimerCompiler(process: process { $0.timers = timers }, kernelRelease: release).creation(&builder)
  }

  /// Linux 6.15 lets a process choose: switched on, one call for each timer, switched off.
  @Test(arguments: ["6.15.0", "6.18.44-fc", "7.0.1"])
  func timersGetTheirIDs(_ release: String) {
    let numbers = creation(release).map(\.number)
    #expect(numbers == [157, 222, 222, 157])
  }

  /// Before, ids come one after another: those that are not wanted are made and deleted.
  @Test(arguments: ["6.14.9", "6.1.0-13-amd64", "5.15.0"])
  func timersGetTheirIDsOneByOne(_ release: String) {
    let operations = creation(release)
    #expect(operations.map(\.number) == [222, 226, 222, 222, 226, 222])
    let deleted = operations.filter { $0.number == 226 }.compactMap { operation -> UInt64? in
      if case .value(let id) = operation.arguments[0] { id } else { nil }
    }
    #expect(deleted == [0, 2])
  }

  /// Only timers that run are armed, and what they are set to is what the manifest says.
  @Test func armedTimersAreReleased() {
    var builder = ProgramBuilder()
    let operations = TimerCompiler(process: process { $0.timers = timers }, kernelRelease: "6.18").release(&builder)
    #expect(operations.map(\.number) == [223])
  }

  /// The thread that reads from the supplied connection is let go first; the others one by one, in their order.
  @Test func theReaderGoesFirst() {
    func thread(_ call: UInt64, _ descriptor: UInt64) -> ThreadState {
      var registers = Registers(words: [UInt64](repeating: 0, count: 27))
      registers[.origRax] = call
      registers[.rdi] = descriptor
      return ThreadState(
        threadID: 0, registers: registers, vectorState: [], signalMask: 0, restartableSequence: nil, robustList: 0,
        clearThreadID: 0, alternateStack: [0, 0, 0], name: [])
    }
    func descriptor(_ number: UInt32, _ kind: Descriptor.Kind) -> Descriptor {
      Descriptor(number: number, description: number, statusFlags: 0, closeOnExec: true, kind: kind)
    }
    func order(_ threads: [ThreadState]) -> (first: Int?, second: Int?, next: [Int: Int]) {
      process {
        $0.threads = threads
        $0.descriptors = [
          descriptor(3, .supplied(.connection)), descriptor(4, .supplied(.output)),
          descriptor(5, .epoll([Descriptor.EpollEntry(target: 3, events: 1, data: 0)])),
        ]
      }.threadOrder
    }
    let waits = thread(202, 3)
    let reads = thread(0, 3)
    #expect(order([waits, waits, reads, waits, waits]) == (1, 0, [0: 2, 2: 3]))
    #expect(order([waits, waits, thread(232, 5)]) == (1, 0, [:]))
    #expect(order([waits, reads]) == (0, nil, [:]))
    // The main thread, another descriptor, nobody.
    #expect(order([reads, waits, waits]) == (0, nil, [0: 1]))
    #expect(order([waits, thread(0, 4), waits]) == (0, nil, [0: 1]))
    #expect(order([waits]) == (nil, nil, [:]))
  }

  /// What the template holds for clones lies where the process has nothing.
  @Test func theHoleIsFree() throws {
    func mapping(_ start: UInt64, _ end: UInt64) -> Mapping {
      Mapping(start: start, end: end, protection: [.read], flags: [], backing: .anonymous, extents: [], guards: [])
    }
    let full = process {
      $0.mappings = [
        mapping(0x40_0000, 0x1000_0000_0000), mapping(0x1000_0010_0000, 0x7ffe_0000_0000),
        mapping(0x7fff_0000_8000, 0x7fff_ffff_f000),
      ]
    }
    let hole = try SnapshotManifest.hole(atLeast: 0x20_0000, in: [full])
    #expect(hole >= 0x7ffe_0000_0000 && hole + 0x20_0000 <= 0x7fff_0000_0000 && hole % 0x20_0000 == 0)
    #expect(throws: RestoreError.self) { try SnapshotManifest.hole(atLeast: 1 << 40, in: [full]) }
    let empty = try SnapshotManifest.hole(atLeast: 1 << 40, in: [process()])
    #expect(empty >= 0x40_0000 && empty + (1 << 40) <= 0x7fff_0000_0000)
  }

  /// Every slot and number is bounded: a thousand pairs take no more slots than one.
  @Test func pairsTakeNoSlots() throws {
    var descriptors: [Descriptor] = []
    for number in UInt32(0)..<2000 {
      let writes = number % 2 == 1
      let kind = Descriptor.Kind.pipe(
        pipe: UInt64(number / 2), writes: writes, waiting: writes ? [] : [1], capacity: 65536)
      descriptors.append(
        Descriptor(number: number, description: number, statusFlags: number % 2, closeOnExec: false, kind: kind))
    }
    let state = process { $0.descriptors = descriptors }
    var parking = ParkingPlace(base: 2000)
    let objects = try SharedObjectCompiler(manifest([state]), parking: &parking)
    var compiler = DescriptorCompiler(
      descriptors: state.descriptors, credentials: state.credentials, objects: objects, base: 2000, parking: parking)
    var builder = ProgramBuilder()
    let operations = try compiler.compile(&builder)
    #expect(operations.count { $0.number == 293 } == 1000)
    let slot = try builder.slot()
    #expect(slot < Int(RESTORE_SLOT_FREE) + 8)
    #expect(compiler.parking.taken == 2016...4015)
  }
}
