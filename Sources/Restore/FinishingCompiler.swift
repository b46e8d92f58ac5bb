import CRestoreProgram
import SnapshotFormat

/// Compiles what must come last of a clone's own: after it no file is opened or closed and nothing is mapped.
struct FinishingCompiler {
  let process: ProcessState
  /// Numbers of descriptors that existed for the making of the clone only.
  let parked: ClosedRange<UInt64>?

  func compile(_ builder: inout ProgramBuilder) -> [Operation] {
    var operations: [Operation] = []
    // Closing a file ends every POSIX lock that the process has on it, and tells those who watch it.
    if let parked {
      operations.append(
        Operation(
          number: SystemCallNumber.close_range, arguments: [.value(parked.lowerBound), .value(parked.upperBound), 0]))
    }
    operations += process.fileLocks.map { lock($0, &builder) }
    for descriptor in process.descriptors where descriptor.isFirst {
      guard case .inotify(let watches) = descriptor.kind else { continue }
      for watch in watches { operations += self.watch(watch, UInt64(descriptor.number), &builder) }
    }
    operations += memory()
    return operations
  }

  /// `flock(2)`, or `fcntl(2)` F_SETLK 6 and F_OFD_SETLK 37, of asm-generic/fcntl.h: LOCK_SH 1, LOCK_EX 2, LOCK_NB 4;
  /// F_RDLCK 0, F_WRLCK 1. Nobody else can hold it: the file is the sandbox's own, or locked for reading.
  private func lock(_ lock: FileLock, _ builder: inout ProgramBuilder) -> Operation {
    let number = UInt64(lock.descriptor)
    if lock.kind == .flock {
      return Operation(
        number: SystemCallNumber.flock, arguments: [.value(number), .value((lock.isExclusive ? 2 : 1) | 4)])
    }
    // struct flock: type 2, whence 2, padding 4, start 8, length 8, process 4, padding 4.
    let description = builder.place(words: [lock.isExclusive ? 1 : 0, lock.start, lock.length, 0])
    return Operation(
      number: SystemCallNumber.fcntl,
      arguments: [.value(number), lock.kind == .posix ? 6 : 37, .value(description)])
  }

  /// The kernel is told which number the next watch has: INOTIFY_IOC_SETNEXTWD of linux/inotify.h, _IOW('I', 0, __s32).
  private func watch(
    _ watch: Descriptor.InotifyWatch, _ number: UInt64, _ builder: inout ProgramBuilder
  ) -> [Operation] {
    [
      Operation(
        number: SystemCallNumber.ioctl, arguments: [.value(number), 0x4004_4900, .value(UInt64(watch.number))]),
      Operation(
        number: SystemCallNumber.inotify_add_watch, check: RESTORE_MUST_EQUAL_LAST.rawValue,
        arguments: [
          .value(number), .value(builder.place(watch.path)), .value(UInt64(watch.mask)), 0, 0,
          .value(UInt64(watch.number)),
        ]),
    ]
  }

  /// What a clone does not inherit of its memory, or must not have before it is complete: locks, marks for forks,
  /// seals.
  private func memory() -> [Operation] {
    var operations: [Operation] = []
    func each(_ flag: Mapping.Flags, _ body: (Mapping) -> Operation) {
      for mapping in process.mappings where mapping.flags.contains(flag) { operations.append(body(mapping)) }
    }
    func advise(_ mapping: Mapping, _ advice: UInt64) -> Operation {
      .advise(mapping.start, mapping.end - mapping.start, advice)
    }
    // linux/mman.h: MADV_DONTFORK 10, WIPEONFORK 18 (which droppable memory always has), MLOCK_ONFAULT 1.
    each(.dontFork) { advise($0, 10) }
    for mapping in process.mappings
    where mapping.flags.contains(.wipeOnFork) && !mapping.flags.contains(.droppable) {
      operations.append(advise(mapping, 18))
    }
    each(.locked) { mapping in
      // Pages without access cannot be brought in: the call says so, and locks the mapping all the same.
      let check = mapping.protection.isEmpty ? RESTORE_MAY_FAIL : RESTORE_MUST_SUCCEED
      return Operation(
        number: SystemCallNumber.mlock2, check: check.rawValue,
        arguments: [
          .value(mapping.start), .value(mapping.end - mapping.start),
          mapping.flags.contains(.lockedOnFault) ? 1 : 0,
        ])
    }
    if process.futureLock != 0 {
      operations.append(
        Operation(number: SystemCallNumber.mlockall, arguments: [.value(UInt64(process.futureLock))]))
    }
    each(.sealed) { mapping in
      Operation(
        number: SystemCallNumber.mseal, arguments: [.value(mapping.start), .value(mapping.end - mapping.start), 0])
    }
    return operations
  }
}

extension Scheduling {
  /// What a thread does to be scheduled so; nothing for what every thread begins with.
  func operations(_ builder: inout ProgramBuilder) -> [Operation] {
    var operations: [Operation] = []
    if policy != 0 || priority != 0 {
      let parameter = builder.place(words: [UInt64(priority)])
      operations.append(
        Operation(
          number: SystemCallNumber.sched_setscheduler, arguments: [0, .value(UInt64(policy)), .value(parameter)]))
    }
    if niceness != 0 {
      let value = UInt64(bitPattern: Int64(niceness))
      operations.append(Operation(number: SystemCallNumber.setpriority, arguments: [0, 0, .value(value)]))
    }
    if !affinity.isEmpty {
      // A machine without these CPUs runs it on those that it has.
      let mask = builder.place(words: affinity)
      operations.append(
        Operation(
          number: SystemCallNumber.sched_setaffinity, check: RESTORE_MAY_FAIL.rawValue,
          arguments: [0, .value(UInt64(affinity.count * 8)), .value(mask)]))
    }
    return operations
  }
}
