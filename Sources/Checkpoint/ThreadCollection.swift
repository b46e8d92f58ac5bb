import Linux
import SnapshotFormat

extension ThreadState {
  /// Reads a stopped thread.
  init(_ thread: TracedThread, innerID: UInt32, of process: FrozenProcess, commonCPUs: String?) throws {
    let status = try ProcessFields(path: "/proc/\(process.processID)/task/\(thread.threadID)/status")
    let scheduling = try Scheduling(
      process: process.processID, thread: thread.threadID, innerID: innerID, status: status, common: commonCPUs)
    let borrowed = try BorrowedThread(thread, in: process)
    let sequence = try thread.restartableSequence()
    // prctl(PR_GET_TID_ADDRESS) and sigaltstack write to the scratch area.
    let addressResult = try borrowed.call(157, 40, borrowed.scratch)
    let clearAddress = addressResult < 0 ? 0 : try process.memory.words(at: borrowed.scratch, count: 1)[0]
    _ = try borrowed.call(131, 0, borrowed.scratch)
    let stack = try process.memory.words(at: borrowed.scratch, count: 3)
    var name = try ProcessFiles.bytes("/proc/\(process.processID)/task/\(thread.threadID)/comm")
    if name.last == 10 { name.removeLast() }
    var registers = borrowed.registers
    if sequence.address != 0, let abort = try Self.abortAddress(registers[.rip], sequence.address, process) {
      registers[.rip] = abort
    }
    self.init(
      threadID: innerID,
      registers: registers,
      vectorState: try thread.vectorState(),
      signalMask: try thread.signalMask(),
      restartableSequence: sequence.address == 0
        ? nil
        : RestartableSequence(address: sequence.address, size: sequence.size, signature: sequence.signature),
      robustList: try thread.robustList(),
      clearThreadID: clearAddress,
      alternateStack: [stack[0], stack[1] & 0xffff_ffff, stack[2]],
      name: Array(name.prefix(15)))
    self.scheduling = scheduling
    pendingSignals = try PendingSignal.all(of: thread, shared: false, set: status.number("SigPnd", radix: 16) ?? 0)
  }

  /// Where a thread must go on that was stopped in a restartable sequence: at its abort handler, as after any other
  /// interruption (rseq_ip_fixup in kernel/rseq.c). nil if it is in none.
  ///
  /// `struct rseq` has a pointer at 8 to `struct rseq_cs`: version and flags, start, length, handler (linux/rseq.h).
  private static func abortAddress(
    _ instruction: UInt64, _ area: UInt64, _ process: FrozenProcess
  ) throws -> UInt64? {
    let section = try process.memory.words(at: area + 8, count: 1)[0]
    guard section != 0 else { return nil }
    let words = try process.memory.words(at: section, count: 4)
    return instruction >= words[1] && instruction &- words[1] < words[2] ? words[3] : nil
  }
}
