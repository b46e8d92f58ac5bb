import Linux
import SnapshotFormat

extension ThreadState {
  /// Reads a stopped thread.
  init(_ frozen: FrozenProcess.Thread, of process: FrozenProcess, commonCPUs: String?) throws {
    let thread = frozen.traced
    let scheduling = try Scheduling(
      process: process.processID, thread: thread.threadID, innerID: frozen.innerID, status: frozen.status,
      common: commonCPUs)
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
    if let abort = frozen.abortAddress { registers[.rip] = abort }
    self.init(
      threadID: frozen.innerID,
      registers: registers,
      vectorState: try thread.vectorState(),
      signalMask: borrowed.signalMask,
      restartableSequence: sequence.address == 0
        ? nil
        : RestartableSequence(address: sequence.address, size: sequence.size, signature: sequence.signature),
      robustList: try thread.robustList(),
      clearThreadID: clearAddress,
      alternateStack: [stack[0], stack[1] & 0xffff_ffff, stack[2]],
      name: Array(name.prefix(15)))
    self.scheduling = scheduling
    pendingSignals = try PendingSignal.all(
      of: thread, shared: false, set: frozen.status.number("SigPnd", radix: 16) ?? 0)
  }

  /// Where a thread must go on that was stopped in a restartable sequence: at its abort handler, as after any other
  /// interruption (rseq_ip_fixup in kernel/rseq.c). nil if it is in none. To be asked before the
  /// thread does anything.
  ///
  /// `struct rseq` has a pointer at 8 to `struct rseq_cs`: version and flags, start, length, handler (linux/rseq.h).
  static func abortAddress(_ thread: TracedThread, _ process: FrozenProcess) throws -> UInt64? {
    let area = try thread.restartableSequence().address
    guard area != 0 else { return nil }
    let section = try process.memory.words(at: area + 8, count: 1)[0]
    guard section != 0 else { return nil }
    let words = try process.memory.words(at: section, count: 4)
    let instruction = Registers(words: try thread.registers())[.rip]
    return instruction >= words[1] && instruction &- words[1] < words[2] ? words[3] : nil
  }
}
