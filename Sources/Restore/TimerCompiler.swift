import CRestoreProgram
import SnapshotFormat

/// Compiles what makes time pass for a process: timers, and the signals that wait for it.
struct TimerCompiler {
  let process: ProcessState
  /// `uname -r` of the machine.
  let kernelRelease: String

  /// Makes the POSIX timers, disarmed, with the ids that they had. All threads must exist.
  func creation(_ builder: inout ProgramBuilder) -> [Operation] {
    guard let last = process.timers.last else { return [] }
    let chooses = choosesIDs
    var operations: [Operation] = []
    func switchIDs(_ value: UInt64) -> Operation {
      // PR_TIMER_CREATE_RESTORE_IDS of linux/prctl.h: OFF 0, ON 1.
      Operation(number: SystemCallNumber.prctl, arguments: [77, .value(value), 0, 0, 0])
    }
    if chooses { operations.append(switchIDs(1)) }
    var wanted = process.timers[...]
    var next = chooses ? wanted[0].id : 0
    while next <= last.id, let timer = wanted.first {
      // Where the kernel gives the ids, one after another, those in between are made and deleted.
      let isWanted = timer.id == next
      let number = builder.place(words: [UInt64(next)])
      operations.append(
        Operation(
          number: SystemCallNumber.timer_create,
          arguments: [
            .value(UInt64(bitPattern: Int64(timer.clock))), .value(event(timer, &builder)), .value(number),
          ]))
      if isWanted { wanted = wanted.dropFirst() }
      if !isWanted {
        operations.append(Operation(number: SystemCallNumber.timer_delete, arguments: [.value(UInt64(next))]))
      }
      next = chooses ? wanted.first?.id ?? .max : next + 1
    }
    if chooses { operations.append(switchIDs(0)) }
    return operations
  }

  /// Queues the signals that waited for one thread, run by itself: no other may send what seems to come from the
  /// kernel or from `tgkill(2)` (do_rt_tgsigqueueinfo in kernel/signal.c). Every signal is blocked until it leaves
  /// through its frame.
  func pendingSignals(of thread: ThreadState, _ builder: inout ProgramBuilder) -> [Operation] {
    thread.pendingSignals.map { signal in
      Operation(
        number: SystemCallNumber.rt_tgsigqueueinfo,
        arguments: [
          .value(UInt64(process.processID)), .value(UInt64(thread.threadID)), .value(UInt64(signal.signal)),
          .value(builder.place(signal.information)),
        ])
    }
  }

  /// Queues the signals that waited for the process and arms every timer. After it time passes for the process.
  func release(_ builder: inout ProgramBuilder) -> [Operation] {
    var operations: [Operation] = []
    for signal in process.pendingSignals {
      operations.append(
        Operation(
          number: SystemCallNumber.rt_sigqueueinfo,
          arguments: [
            .value(UInt64(process.processID)), .value(UInt64(signal.signal)),
            .value(builder.place(signal.information)),
          ]))
    }
    for (which, timer) in process.intervalTimers.enumerated() where timer[2] != 0 || timer[3] != 0 {
      operations.append(
        Operation(
          number: SystemCallNumber.setitimer,
          arguments: [.value(UInt64(which)), .value(builder.place(words: timer)), 0]
        ))
    }
    for timer in process.timers where timer.setting[2] != 0 || timer.setting[3] != 0 {
      operations.append(
        Operation(
          number: SystemCallNumber.timer_settime,
          arguments: [.value(UInt64(timer.id)), 0, .value(builder.place(words: timer.setting)), 0]))
    }
    for descriptor in process.descriptors where descriptor.isFirst {
      guard case .timer(let timer) = descriptor.kind else { continue }
      operations += release(timer, of: UInt64(descriptor.number), &builder)
    }
    return operations
  }

  private func release(_ timer: TimerDescriptor, of number: UInt64, _ builder: inout ProgramBuilder) -> [Operation] {
    var operations: [Operation] = []
    if timer.setting != [0, 0, 0, 0] {
      // Only absolute times of the wall clock are kept as such.
      let flags = timer.clock == 0 ? timer.flags : 0
      operations.append(
        Operation(
          number: SystemCallNumber.timerfd_settime,
          arguments: [.value(number), .value(UInt64(flags)), .value(builder.place(words: timer.setting)), 0]))
    }
    if timer.expirations > 0 {
      // TFD_IOC_SET_TICKS of linux/timerfd.h, _IOW('T', 0, __u64). After the time was set: that clears them.
      operations.append(
        Operation(
          number: SystemCallNumber.ioctl,
          arguments: [.value(number), 0x4008_5400, .value(builder.place(words: [timer.expirations]))]))
    }
    return operations
  }

  /// `struct sigevent`: value 8, signal 4, notification 4, thread 4, padding to 64.
  private func event(_ timer: PosixTimer, _ builder: inout ProgramBuilder) -> UInt64 {
    builder.place(
      words: [
        timer.value, UInt64(timer.signal) | UInt64(timer.notification) << 32, UInt64(timer.threadID), 0, 0, 0, 0, 0,
      ])
  }

  /// Whether the kernel lets a process choose its timers' ids: Linux 6.15.
  private var choosesIDs: Bool {
    let numbers = kernelRelease.split(whereSeparator: { !$0.isNumber }).prefix(2).compactMap { Int($0) }
    return numbers.count == 2 && (numbers[0], numbers[1]) >= (6, 15)
  }
}
