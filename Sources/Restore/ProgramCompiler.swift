import CRestoreProgram
import SnapshotFormat

/// Compiles a manifest to a restore program. Pure: the same manifest gives the same bytes.
struct ProgramCompiler {
  let manifest: SnapshotManifest
  let tree: ProcessTree
  /// The process that is being compiled.
  var process: ProcessState
  var builder = ProgramBuilder()
  /// Whether that is the first process, which the template becomes.
  private var isFirst: Bool { process.processID == manifest.process.processID }
  /// Descriptors from here on are the restorer's.
  let descriptorBase: UInt64
  var parking: ParkingPlace
  let sharedObjects: SharedObjectCompiler
  let union: DescriptorUnion
  /// Signals that any of the processes catches or ignores.
  private let handledSignals: [UInt32]
  /// Whether there are several executables: each process then names its own in the clone, where nobody maps what it had
  /// before, the restorer's.
  let haveOwnExecutables: Bool
  /// Where each node's header is.
  var headers: [Int] = [0]

  /// Pages of mapped files that clones are known to read.
  private let readAhead: [WorkingSet.Range]

  /// Compiles `manifest`; the disk begins to read what is in the `workingSet` before anything waits for it.
  static func compile(
    _ manifest: SnapshotManifest, workingSet: WorkingSet? = nil
  ) throws(RestoreError) -> RestoreProgram {
    var compiler = try ProgramCompiler(manifest, readAhead: workingSet?.readWindows ?? [])
    return try compiler.program()
  }

  private init(_ manifest: SnapshotManifest, readAhead: [WorkingSet.Range]) throws(RestoreError) {
    self.manifest = manifest
    self.readAhead = readAhead
    do { tree = try ProcessTree(processes: manifest.processes, zombies: manifest.zombies) } catch {
      throw RestoreError(code: .failed, message: "the process tree cannot be made: \(error)")
    }
    process = manifest.process
    let highest = manifest.processes.flatMap(\.descriptors).map(\.number).max() ?? 0
    descriptorBase = UInt64(max(highest + 1, 64))
    parking = ParkingPlace(base: descriptorBase)
    sharedObjects = try SharedObjectCompiler(manifest, parking: &parking)
    union = DescriptorUnion(manifest.processes, parking: &parking)
    haveOwnExecutables = manifest.processes.contains { $0.executable != manifest.process.executable }
    handledSignals = Set(manifest.processes.flatMap(\.signalActions).map(\.signal)).sorted()
  }

  private mutating func program() throws(RestoreError) -> RestoreProgram {
    for _ in tree.nodes.dropFirst() {
      headers.append(builder.reserve(MemoryLayout<restore_program>.size, alignment: 64))
    }
    var header = restore_program()
    header.magic = RESTORE_PROGRAM_MAGIC
    header.monotonic = manifest.clocks.monotonic
    header.boottime = manifest.clocks.boottime
    let memory = try memoryPhase()
    header.memory = builder.place(memory)
    let instance = try instancePhase()
    fill(&header, instance: instance)
    var counts = (memory: memory.count, instance: instance.count, main: Int(header.main.count))
    for (place, node) in tree.nodes.enumerated().dropFirst() {
      var header = restore_program()
      switch node.kind {
      case .process(let index):
        process = manifest.processes[index]
        builder.resetSlots()
        let instance = try instancePhase(ofProcess: index, at: place)
        fill(&header, instance: instance)
        counts.instance += instance.count
      case .zombie(let zombie): header.instance = builder.place(ended(zombie, at: place))
      case .passing: header.instance = builder.place(passing(at: place))
      }
      header.main_process_id = UInt64(node.processID)
      header.processes = UInt64(manifest.processes.count)
      builder.store(header, at: headers[place])
    }
    header.processes = tree.nodes.count > 1 ? UInt64(manifest.processes.count) : 0
    header.size = UInt64(builder.bytes.count)
    let room = UInt64(RESTORE_PROGRAM_END) - UInt64(RESTORE_PROGRAM_BASE)
    guard header.size <= room else {
      throw RestoreError(
        code: .failed, message: "the restore program takes \(header.size) bytes; there is room for \(room)")
    }
    builder.store(header, at: 0)
    return RestoreProgram(bytes: builder.bytes, counts: counts)
  }

  /// What the header of every process has.
  private mutating func fill(_ header: inout restore_program, instance: [Operation]) {
    header.vvar_start = process.vdso.start
    header.vvar_length = process.vdso.lengths[0]
    header.vvar_vclock_length = process.vdso.lengths[1]
    header.vdso_length = process.vdso.lengths[2]
    header.main_process_id = UInt64(process.processID)
    header.descriptor_base = descriptorBase
    header.instance = builder.place(instance)
    let others = process.threads.dropFirst()
    let size = MemoryLayout<restore_thread>.stride
    let threadOffset = builder.reserve(others.count * size, alignment: 64)
    let order = process.threadOrder
    func address(_ index: Int?) -> UInt64 { index.map { builder.address(threadOffset + $0 * size) } ?? 0 }
    for (index, thread) in others.enumerated() {
      var encoded = self.thread(thread)
      encoded.next = address(order.next[index])
      builder.store(encoded, at: threadOffset + index * size)
    }
    header.first = (address(order.first), address(order.second))
    header.threads = builder.address(threadOffset)
    header.thread_count = UInt64(others.count)
    let main = mainPhase()
    header.main = builder.place(main)
    header.release = builder.place(releaseOperations())
    header.seal = builder.place(sealPhase())
    header.main_frame = frame(process.threads[0])
    header.main_fs_base = process.threads[0].registers[.fsBase]
    header.main_gs_base = process.threads[0].registers[.gsBase]
  }

  // MARK: Memory, once in the template

  private mutating func memoryPhase() throws(RestoreError) -> [Operation] {
    var operations: [Operation] = []
    let fileSlot = try builder.slot()
    let image = Int(RESTORE_SLOT_IMAGE)
    // PR_SET_MM_MAP comes first: it is slower with many mappings.
    operations += layoutOperations(fileSlot, executable: haveOwnExecutables ? nil : process.executable)

    var openFile: UInt32?
    var filled: [Mapping.Extent] = []
    var late: [Operation] = []
    let mappings = process.mappings + parkedMappings
    for mapping in mappings {
      let length = mapping.end - mapping.start
      // Pages that a fork would wipe come back as zeros, which is what makes fork-aware random generators seed
      // themselves anew.
      let isDroppable = mapping.flags.contains(.droppable)
      let extents = mapping.flags.contains(.wipeOnFork) || isDroppable ? [] : mapping.extents
      let protection = UInt64(mapping.protection.rawValue)
      let filling = extents.isEmpty ? protection : protection | 3
      let kind = isDroppable ? Flag.mapDroppable : mapping.flags.contains(.shared) ? Flag.mapShared : Flag.mapPrivate
      var flags = Flag.mapFixed | kind
      if mapping.flags.contains(.noReserve) { flags |= Flag.mapNoReserve }
      if mapping.flags.contains(.growsDown) { flags |= Flag.mapGrowsDown }
      var descriptor: Operation.Argument = .value(.max)
      var offset: UInt64 = 0
      switch mapping.backing {
      case .anonymous: flags |= Flag.mapAnonymous
      case .object: continue  // every clone's own: made in the instance phase
      case .file(let index, let fileOffset):
        if openFile != index {
          if openFile != nil {
            operations.append(Operation(number: SystemCallNumber.close, arguments: [.slot(fileSlot)]))
          }
          let path = manifest.compatibility.files[Int(index)].path
          operations.append(open(path, flags: Flag.closeOnExec, into: fileSlot))
          openFile = index
        }
        descriptor = .slot(fileSlot)
        offset = fileOffset
      }
      operations.append(
        Operation(
          number: SystemCallNumber.mmap, check: RESTORE_MUST_EQUAL_FIRST.rawValue,
          arguments: [
            .value(mapping.start), .value(length), .value(filling), .value(flags), descriptor, .value(offset),
          ]))
      operations += mapping.advice.before
      // A page of a file is read before it is overwritten: many at a time, and not one after another.
      if case .file = mapping.backing { operations += extents.flatMap { Operation.readAhead($0.start, $0.length) } }
      late += mapping.advice.after
      if filling != protection {
        late.append(
          Operation(
            number: SystemCallNumber.mprotect, arguments: [.value(mapping.start), .value(length), .value(protection)]))
      }
      filled.append(contentsOf: extents)
    }
    if openFile != nil { operations.append(Operation(number: SystemCallNumber.close, arguments: [.slot(fileSlot)])) }
    operations += readAhead.flatMap { Operation.readAhead($0.start, $0.length) }
    operations += sharedObjects.templateOperations(&filled)
    operations += mappings.flatMap { hugePages($0) }
    operations += fill(filled, from: image)
    operations += late
    operations += inheritedState()
    // The bounding set is inherited; the template itself keeps the capabilities it has. PR_CAPBSET_DROP 24; 40 is
    // the last capability of linux/capability.h.
    for capability in UInt64(0)...40 {
      operations.append(
        Operation(
          number: SystemCallNumber.prctl, check: RESTORE_MAY_FAIL.rawValue,
          arguments: [24, .value(capability), 0, 0, 0]))
    }
    operations += process.seccompFilters.prefix(1).map { install($0) }
    return operations
  }

  /// Makes huge pages before they are filled: afterwards the kernel would copy what the small ones hold. It takes what
  /// has one page at least. Where no huge page can be had, small ones do.
  private func hugePages(_ mapping: Mapping) -> [Operation] {
    // linux/mman.h: MADV_POPULATE_WRITE 23, MADV_COLLAPSE 25.
    mapping.hugePageRanges.flatMap { range in
      stride(from: range.start, to: range.start + range.length, by: Int(Mapping.hugePage)).map {
        .advise($0, SnapshotManifest.pageSize, 23, check: RESTORE_MAY_FAIL)
      } + [.advise(range.start, range.length, 25, check: RESTORE_MAY_FAIL)]
    }
  }

  /// The memory of the processes besides the first, where the template holds it.
  private var parkedMappings: [Mapping] {
    sharedObjects.parked.joined().map { $0.mapping.moved(to: $0.place) }
  }

  /// Tells the kernel where things are. Without an executable, the process keeps the one that it has.
  mutating func layoutOperations(_ fileSlot: Int, executable: String?) -> [Operation] {
    // struct prctl_mm_map: 11 words, auxv, auxv_size, exe_fd.
    let auxiliary = builder.place(process.auxiliaryVector)
    let none: UInt64 = executable == nil ? 0xffff_ffff << 32 : 0
    let map = builder.place(
      words: process.layout.words + [auxiliary, UInt64(process.auxiliaryVector.count) | none])
    let setting = Operation(number: SystemCallNumber.prctl, arguments: [35, 14, .value(map), 104, 0])
    guard let executable else { return [setting] }
    return [
      open(executable, flags: Flag.closeOnExec, into: fileSlot),
      Operation(
        number: UInt16(RESTORE_OP_POKE32.rawValue), arguments: [.value(map + 100), .value(UInt64(fileSlot))]),
      setting,
      Operation(number: SystemCallNumber.close, arguments: [.slot(fileSlot)]),
    ]
  }

  /// Reads the image into place: `preadv(2)` with as many extents a call as lie side by side in the image.
  private mutating func fill(_ extents: [Mapping.Extent], from image: Int) -> [Operation] {
    let largest: UInt64 = 1 << 30
    // A call moves at most MAX_RW_COUNT, just under 2 GB.
    let pieces = extents.flatMap { extent in
      stride(from: 0, to: extent.length, by: Int(largest)).map { offset in
        Mapping.Extent(
          start: extent.start + offset, length: min(largest, extent.length - offset),
          imageOffset: extent.imageOffset + offset)
      }
    }
    var operations: [Operation] = []
    var index = 0
    while index < pieces.count {
      var vectors: [UInt64] = []
      let first = pieces[index].imageOffset
      var total: UInt64 = 0
      while index < pieces.count, vectors.count < 2 * 1024, pieces[index].imageOffset == first + total,
        total + pieces[index].length <= largest
      {
        vectors += [pieces[index].start, pieces[index].length]
        total += pieces[index].length
        index += 1
      }
      let address = builder.place(words: vectors)
      operations.append(
        Operation(
          number: SystemCallNumber.preadv, check: RESTORE_MUST_EQUAL_LAST.rawValue,
          arguments: [
            .slot(image), .value(address), .value(UInt64(vectors.count / 2)), .value(first), 0, .value(total),
          ]))
    }
    return operations
  }

  /// Process state that a clone inherits from the template: set once.
  mutating func inheritedState() -> [Operation] {
    var operations: [Operation] = []
    // A process that is forked has its parent's actions.
    let own = Set(process.signalActions.map(\.signal))
    if !isFirst { operations += handledSignals.filter { !own.contains($0) }.map { action([0, 0, 0, 0], for: $0) } }
    operations += process.signalActions.map { action($0.words, for: $0.signal) }
    operations.append(Operation(number: SystemCallNumber.umask, arguments: [.value(UInt64(process.umask))]))
    for limit in process.resourceLimits where !isLate(limit) {
      operations.append(set(limit))
    }
    return operations
  }

  // MARK: Instance, in every clone

  private mutating func instancePhase() throws(RestoreError) -> [Operation] {
    var operations = [Operation(number: SystemCallNumber.setsid, arguments: [])]
    operations.append(
      Operation(number: SystemCallNumber.chdir, arguments: [.value(builder.place(process.workingDirectory))]))
    operations += try sharedObjects.objects(&builder)
    var descriptors = DescriptorCompiler(
      descriptors: union.descriptors, directories: union.directories, ownDirectory: process.workingDirectory,
      credentials: process.credentials, objects: sharedObjects, base: descriptorBase, parking: parking)
    operations += try descriptors.compile(&builder)
    parking = descriptors.parking
    if tree.nodes.count > 1 {
      operations.append(
        Operation(
          number: SystemCallNumber.mmap, check: RESTORE_MUST_EQUAL_FIRST.rawValue,
          arguments: [
            .value(UInt64(RESTORE_SHARED)), .value(SnapshotManifest.pageSize), 3,
            .value(Flag.mapShared | Flag.mapAnonymous | Flag.mapFixed), .value(.max), 0,
          ]))
      operations += family(at: 0, lead: [], join: [])
      if haveOwnExecutables {
        operations += layoutOperations(try builder.slot(), executable: process.executable)
      }
    }
    operations += try processDescriptors()
    operations += DescriptorCompiler.watched(process.descriptors, &builder)
    operations += try sharedObjects.mappings(ofProcess: 0, &builder, parking: &parking)
    let seals = sharedObjects.seals()
    if !seals.isEmpty, manifest.processes.count > 1 { operations.append(wait(\.mapped, manifest.processes.count - 1)) }
    operations += seals
    operations += ownState()
    return operations
  }

  /// What ends the making of a process but for its threads.
  mutating func ownState() -> [Operation] {
    var operations: [Operation] = []
    // linux/membarrier.h: each registration is a command of its own.
    for bit in 0..<32 where process.membarrierRegistrations & 1 << bit != 0 {
      operations.append(Operation(number: SystemCallNumber.membarrier, arguments: [.value(1 << bit), 0, 0]))
    }
    return operations + FinishingCompiler(process: process, parked: parking.taken).compile(&builder)
  }

  /// What makes time pass for the process: nothing of it happens while an armed clone waits. All threads exist, and
  /// block every signal.
  private mutating func releaseOperations() -> [Operation] {
    var operations: [Operation] = []
    // When those have ended that only made others. PR_SET_PDEATHSIG 1, PR_SET_CHILD_SUBREAPER 36.
    if process.parentDeathSignal != 0 {
      operations.append(
        Operation(number: SystemCallNumber.prctl, arguments: [1, .value(UInt64(process.parentDeathSignal)), 0, 0, 0]))
    }
    if process.isSubreaper {
      operations.append(Operation(number: SystemCallNumber.prctl, arguments: [36, 1, 0, 0, 0]))
    }
    return operations + timers.release(&builder)
  }

  // MARK: Threads

  private mutating func thread(_ thread: ThreadState) -> restore_thread {
    var result = restore_thread()
    result.frame = frame(thread)
    result.gs_base = thread.registers[.gsBase]
    let operations = own(thread)
    result.phase = builder.place(operations)
    // linux/sched.h: VM, FS, FILES, SIGHAND, THREAD, SYSVSEM, SETTLS, CHILD_CLEARTID.
    var flags: UInt64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x10000 | 0x40000 | 0x80000
    if thread.clearThreadID != 0 { flags |= 0x200000 }
    let stackBytes = 1024
    let stack = builder.reserve(stackBytes, alignment: 64)
    result.clone.flags = flags
    result.clone.child_tid = thread.clearThreadID
    result.clone.stack = builder.address(stack)
    result.clone.stack_size = UInt64(stackBytes)
    result.clone.tls = thread.registers[.fsBase]
    result.clone.set_tid = builder.place(words: [UInt64(thread.threadID)])
    result.clone.set_tid_size = 1
    return result
  }

  /// What each thread does for itself.
  private mutating func own(_ thread: ThreadState) -> [Operation] {
    let name = builder.place(thread.name + [0], alignment: 1)
    var operations = [Operation(number: SystemCallNumber.prctl, arguments: [15, .value(name), 0, 0, 0])]  // PR_SET_NAME
    if thread.robustList != 0 {
      operations.append(
        Operation(number: SystemCallNumber.set_robust_list, arguments: [.value(thread.robustList), 24]))
    }
    if let sequence = thread.restartableSequence {
      operations.append(
        Operation(
          number: SystemCallNumber.rseq,
          arguments: [
            .value(sequence.address), .value(UInt64(sequence.size)), 0, .value(UInt64(sequence.signature)),
          ]))
    }
    operations += thread.scheduling.operations(&builder)
    let credentials = process.credentials
    let groups = builder.place(
      credentials.groups.flatMap { group in (0..<4).map { UInt8(truncatingIfNeeded: group >> (8 * $0)) } }, alignment: 4
    )
    operations.append(
      Operation(
        number: SystemCallNumber.setgroups, arguments: [.value(UInt64(credentials.groups.count)), .value(groups)]))
    for (call, identities) in [
      (SystemCallNumber.setresgid, credentials.groupIDs), (SystemCallNumber.setresuid, credentials.userIDs),
    ] {
      operations.append(Operation(number: call, arguments: identities.map { .value(UInt64($0)) }))
    }
    if credentials.noNewPrivileges {
      operations.append(Operation(number: SystemCallNumber.prctl, arguments: [38, 1, 0, 0, 0]))  // PR_SET_NO_NEW_PRIVS
    }
    operations += timers.pendingSignals(of: thread, &builder)
    return operations
  }

  private mutating func mainPhase() -> [Operation] {
    let main = process.threads[0]
    var operations: [Operation] = []
    for limit in process.resourceLimits where isLate(limit) {
      operations.append(set(limit))
    }
    operations.append(
      Operation(
        number: SystemCallNumber.set_tid_address, check: RESTORE_MAY_FAIL.rawValue,
        arguments: [.value(main.clearThreadID)]))
    operations += own(main)
    if process.threads.count > 1 {
      operations.append(Operation(number: UInt16(RESTORE_OP_WAIT_THREADS.rawValue), arguments: []))
    }
    operations += timers.creation(&builder)
    // When all threads have changed their user: each change makes the process undumpable again.
    if process.credentials.dumpable {
      operations.append(Operation(number: SystemCallNumber.prctl, arguments: [4, 1, 0, 0, 0]))  // PR_SET_DUMPABLE
    }
    operations += process.seccompFilters.dropFirst().prefix(1).map { install($0) }
    if isFirst, manifest.processes.count > 1 {
      operations.append(wait(\.ready, manifest.processes.count - 1))
    }
    return operations
  }

  private mutating func sealPhase() -> [Operation] { process.seccompFilters.dropFirst(2).map { install($0) } }

  /// Puts a system call filter in force for all threads.
  ///
  /// The first two are the sandbox's (Sources/jailer/confine.c): the first one all clones have from their template, the
  /// second forbids what they are made with. Those after them are the program's own, and may forbid what is still to be
  /// done.
  private mutating func install(_ filter: [UInt64]) -> Operation {
    let code = builder.place(words: filter)
    let program = builder.place(words: [UInt64(filter.count), code])  // struct sock_fprog
    let synchronize: UInt64 = process.threads.count > 1 ? 1 : 0  // SECCOMP_FILTER_FLAG_TSYNC
    return Operation(number: SystemCallNumber.seccomp, arguments: [1, .value(synchronize), .value(program)])
  }

  /// A signal frame that `rt_sigreturn(2)` takes back: ucontext and XSAVE area,
  /// arch/x86/include/uapi/asm/sigcontext.h.
  private mutating func frame(_ thread: ThreadState) -> UInt64 {
    let size = thread.vectorState.count
    let area = builder.reserve(size + 4, alignment: 64)
    builder.store(thread.vectorState, at: area)
    // struct _fpx_sw_bytes at 464; ptrace leaves the feature mask there.
    let features = thread.vectorState[464..<472].reversed().reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
    builder.store(UInt32(0x4650_5853), at: area + 464)
    builder.store(UInt32(size + 4), at: area + 468)
    builder.store(features, at: area + 472)
    builder.store(UInt32(size), at: area + 480)
    builder.store(UInt32(0x4650_5845), at: area + size)
    let registers = thread.registers.restartingInterruptedCall
    let selectors =
      registers[.cs] & 0xffff | (registers[.gs] & 0xffff) << 16 | (registers[.fs] & 0xffff) << 32
      | (registers[.ss] & 0xffff) << 48
    let onStack: UInt64 = 1  // SS_ONSTACK is not a setting
    let general: [Registers.Name] = [
      .r8, .r9, .r10, .r11, .r12, .r13, .r14, .r15, .rdi, .rsi, .rbp, .rbx, .rdx, .rax, .rcx, .rsp, .rip, .eflags,
    ]
    var words: [UInt64] = [
      7, 0,  // UC_FP_XSTATE | UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS; uc_link
      thread.alternateStack[0], thread.alternateStack[1] & ~onStack, thread.alternateStack[2],
    ]
    words += general.map { registers[$0] }
    words += [selectors, 0, 0, 0, 0, builder.address(area)]  // err, trapno, oldmask, cr2, fpstate
    words += [UInt64](repeating: 0, count: 8)
    words.append(thread.signalMask)
    return builder.place(words: words, alignment: 64)
  }

  // MARK: Pieces

  private var timers: TimerCompiler {
    TimerCompiler(process: process, kernelRelease: manifest.compatibility.kernelRelease)
  }

  mutating func open(_ path: String, flags: UInt64, into slot: Int) -> Operation {
    Operation(
      number: SystemCallNumber.openat, resultSlot: slot,
      arguments: [.value(Flag.currentDirectory), .value(builder.place(path)), .value(flags), 0])
  }

  private mutating func set(_ limit: ResourceLimit) -> Operation {
    let address = builder.place(words: [limit.current, limit.maximum])
    // Without CAP_SYS_RESOURCE a limit cannot be raised above the template's; it is then lower already.
    return Operation(
      number: SystemCallNumber.prlimit64, check: RESTORE_MAY_FAIL.rawValue,
      arguments: [0, .value(UInt64(limit.resource)), .value(address), 0])
  }

  /// Whether a limit would be in the way of a clone that is being made: of open files (7) and locked memory (8)
  /// always; of file sizes (1), data (2) and address space (9) if there is one.
  private func isLate(_ limit: ResourceLimit) -> Bool {
    switch limit.resource {
    case 7, 8: true
    case 1, 2, 9: limit.current != .max
    default: false
    }
  }
}

/// Flags of `open(2)` and `mmap(2)`, asm-generic/fcntl.h and mman.h.
enum Flag {
  static let closeOnExec: UInt64 = 0o2000000
  static let nonBlocking: UInt64 = 0o4000
  /// O_CREAT, O_EXCL, O_TRUNC, O_NOCTTY: matter only when a file is opened for the first time.
  static let creation: UInt64 = 0o100 | 0o200 | 0o1000 | 0o400
  /// AT_FDCWD.
  static let currentDirectory = UInt64(bitPattern: -100)
  static let mapShared: UInt64 = 1
  static let mapPrivate: UInt64 = 2
  static let mapDroppable: UInt64 = 8
  static let mapFixed: UInt64 = 0x10
  static let mapAnonymous: UInt64 = 0x20
  static let mapGrowsDown: UInt64 = 0x100
  static let mapNoReserve: UInt64 = 0x4000
  static let mapFixedNoReplace: UInt64 = 0x10_0000
  /// O_TMPFILE with the O_DIRECTORY that belongs to it.
  static let temporaryFile: UInt64 = 0o20000000 | 0o200000
}
