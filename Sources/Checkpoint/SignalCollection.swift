import Linux
import SnapshotFormat

extension PendingSignal {
  /// The signals that wait for a stopped thread, or with `shared` for its process, in the order of their sending.
  ///
  /// - Parameter set: the same as the kernel's set of bits (`SigPnd` or `ShdPnd`): it also has those for which the
  ///   kernel had no room to keep who sent them.
  static func all(of thread: TracedThread, shared: Bool, set: UInt64) throws(SystemCallError) -> [PendingSignal] {
    var signals = try thread.pendingSignals(shared: shared).map { PendingSignal(information: $0) }
    for number in UInt32(1)...64 where set & 1 << (number - 1) != 0 {
      if signals.contains(where: { $0.signal == number }) { continue }
      // si_signo, si_errno, si_code SI_USER (0), and nobody as the sender.
      var information = [UInt8](repeating: 0, count: PendingSignal.size)
      information[0] = UInt8(number)
      signals.append(PendingSignal(information: information))
    }
    return signals
  }
}
