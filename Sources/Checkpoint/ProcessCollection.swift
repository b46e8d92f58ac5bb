import Linux
import SnapshotFormat

extension ProcessState {
  /// Reads what belongs to the process as a whole. Refuses what cannot be brought back.
  init(
    _ process: FrozenProcess, mappings: [Mapping], library: VirtualLibrary, descriptors: [Descriptor],
    initProcessID: Int32
  ) throws {
    let processID = process.processID
    let main = process.threads[0]
    let status = main.status
    let credentials = try Credentials(status, processID: processID)
    for thread in process.threads.dropFirst() {
      let own = thread.status
      guard own["Uid"] == status["Uid"], own["Gid"] == status["Gid"],
        own["Seccomp_filters"] == status["Seccomp_filters"]
      else {
        throw CheckpointError.refused("thread \(thread.innerID) has other credentials or filters than the main thread")
      }
    }

    // Registers are read before any thread is borrowed: a borrowed one has them back only when it is let go of.
    var threads: [ThreadState] = []
    let commonCPUs = try ProcessFields(path: "/proc/\(initProcessID)/status")["Cpus_allowed"]
    for thread in process.threads {
      threads.append(try ThreadState(thread, of: process, commonCPUs: commonCPUs))
    }
    let pending = try PendingSignal.all(
      of: main.traced, shared: true, set: status.number("ShdPnd", radix: 16) ?? 0)
    let borrowed = try BorrowedThread(main.traced, in: process)
    let scratch = borrowed.scratch
    let breakAddress = UInt64(bitPattern: try borrowed.call(12, 0))
    let caught = status.number("SigCgt", radix: 16) ?? 0
    let ignored = status.number("SigIgn", radix: 16) ?? 0
    var actions: [SignalAction] = []
    for signal in UInt32(1)...64 where signal != 9 && signal != 19 {
      let bit = UInt64(1) << (signal - 1)
      if caught & bit != 0 {
        guard try borrowed.call(13, UInt64(signal), 0, scratch, 8) == 0 else { continue }
        actions.append(SignalAction(signal: signal, words: try process.memory.words(at: scratch, count: 4)))
      } else if ignored & bit != 0 {
        actions.append(SignalAction(signal: signal, words: [1, 0, 0, 0]))  // SIG_IGN
      }
    }
    // MEMBARRIER_CMD_GET_REGISTRATIONS (linux/membarrier.h); older kernels answer an error.
    let registrations = try borrowed.call(324, 512, 0, 0)
    var timers: [[UInt64]] = []
    for which in UInt64(0)..<3 {
      _ = try borrowed.call(36, which, scratch)  // getitimer
      timers.append(try process.memory.words(at: scratch, count: 4))
    }
    let dumpable = try borrowed.call(157, 3) == 1  // PR_GET_DUMPABLE
    let posixTimers = try PosixTimer.all(of: process, through: borrowed)

    let futureLock = (status.number("VmLck") ?? 0) > 0 ? Self.futureLock(of: process) : 0
    let workingDirectory = try ProcessFiles.link("/proc/\(processID)/cwd")
    if workingDirectory.hasSuffix(" (deleted)") {
      throw CheckpointError.refused(
        "the current directory of \(ProcessStatistics.title(of: processID)), \(workingDirectory), cannot be brought back"
      )
    }

    let deathSignal = try Self.option(2, of: process, through: borrowed)
    let isSubreaper = try Self.option(37, of: process, through: borrowed) != 0
    try process.removeScratch(through: borrowed)
    let limits = try Kernel.resourceLimits(ofProcess: processID).map {
      ResourceLimit(resource: $0.resource, current: $0.current, maximum: $0.maximum)
    }
    let executable = try ProcessFiles.link("/proc/\(processID)/exe")
    if executable.hasSuffix(" (deleted)") || executable.hasPrefix("/memfd:") {
      throw CheckpointError.refused(
        "the executable of \(ProcessStatistics.title(of: processID)), \(executable), has no name any more")
    }
    var completed = credentials
    completed.dumpable = dumpable
    self.init(
      processID: main.innerID,
      parentID: process.parentID,
      groupID: status.numbers("NSpgid").last ?? 0,
      sessionID: status.numbers("NSsid").last ?? 0,
      executable: executable,
      layout: try AddressLayout(processID: processID, breakAddress: breakAddress),
      auxiliaryVector: try ProcessFiles.bytes("/proc/\(processID)/auxv"),
      vdso: library,
      mappings: mappings,
      workingDirectory: workingDirectory,
      umask: UInt32(status.number("Umask", radix: 8) ?? 0o22),
      signalActions: actions,
      membarrierRegistrations: registrations > 0 ? UInt64(registrations) : 0,
      intervalTimers: timers,
      resourceLimits: limits,
      credentials: completed,
      seccompFilters: try main.traced.seccompFilters(),
      descriptors: descriptors,
      threads: threads)
    self.timers = posixTimers
    pendingSignals = pending
    self.futureLock = futureLock
    exitSignal = ProcessStatistics(processID: processID)?.exitSignal ?? 17
    parentDeathSignal = deathSignal
    self.isSubreaper = isSubreaper
  }

  /// What an option of `prctl(2)` answers through a pointer: PR_GET_PDEATHSIG 2, PR_GET_CHILD_SUBREAPER 37
  /// (linux/prctl.h).
  private static func option(
    _ option: UInt64, of process: FrozenProcess, through borrowed: borrowing BorrowedThread
  ) throws -> UInt32 {
    guard try borrowed.call(157, option, borrowed.scratch) == 0 else { return 0 }
    return UInt32(truncatingIfNeeded: try process.memory.words(at: borrowed.scratch, count: 1)[0])
  }

  /// What `mlockall(2)` was told about mappings to come: the kernel shows it in the flags of a new one only, which the
  /// scratch page is. Called for processes that have locked memory.
  private static func futureLock(of process: FrozenProcess) -> UInt32 {
    if process.scratch == 0 { return process.scratchFailure == 11 ? 2 : 0 }  // EAGAIN: no room to lock it is left
    guard process.scratchFlags.contains("lo") else { return 0 }
    return process.scratchFlags.contains("lf") ? 6 : 2  // MCL_FUTURE 2, MCL_ONFAULT 4
  }
}

extension AddressLayout {
  /// Reads /proc/PID/stat, see proc_pid_stat(5); the break is asked of the process itself.
  init(processID: Int32, breakAddress: UInt64) throws {
    let text = try ProcessFiles.text("/proc/\(processID)/stat")
    guard let end = text.lastIndex(of: ")") else {
      throw CheckpointError.refused("/proc/\(processID)/stat is malformed")
    }
    // The first field after the name is number 3.
    let fields = text[text.index(after: end)...].split(separator: " ").map { UInt64($0) ?? 0 }
    guard fields.count >= 49 else { throw CheckpointError.refused("/proc/\(processID)/stat is malformed") }
    func field(_ number: Int) -> UInt64 { fields[number - 3] }
    self.init(words: [
      field(26), field(27), field(45), field(46), field(47), breakAddress, field(28), field(48), field(49), field(50),
      field(51),
    ])
  }
}

extension Credentials {
  fileprivate init(_ status: ProcessFields, processID: Int32) throws {
    for set in ["CapPrm", "CapEff", "CapAmb"] {
      if let capabilities = status.number(set, radix: 16), capabilities != 0 {
        throw CheckpointError.refused(
          "\(ProcessStatistics.title(of: processID)) has capabilities (\(set) \(hexadecimal(capabilities))), which no sandboxed process may have"
        )
      }
    }
    let users = status.numbers("Uid")
    let groups = status.numbers("Gid")
    guard users.count == 4, groups.count == 4 else {
      throw CheckpointError.refused("/proc/\(processID)/status is malformed")
    }
    self.init(
      userIDs: Array(users[..<3]), groupIDs: Array(groups[..<3]), groups: status.numbers("Groups"),
      noNewPrivileges: status.number("NoNewPrivs") == 1, dumpable: true)
  }
}
