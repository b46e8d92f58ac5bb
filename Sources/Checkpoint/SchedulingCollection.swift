import Linux
import SnapshotFormat

extension Scheduling {
  /// How a thread is scheduled: /proc/PID/task/TID/stat, proc_pid_stat(5), and its status.
  ///
  /// - Parameter common: the CPUs of the sandbox's first process, as status shows them.
  init(process: Int32, thread: Int32, innerID: UInt32, status: ProcessFields, common: String?) throws {
    let text = try ProcessFiles.text("/proc/\(process)/task/\(thread)/stat")
    let fields = text.lastIndex(of: ")").map { text[text.index(after: $0)...].split(separator: " ") } ?? []
    // The first field after the name is number 3; 19 is the nice value, 40 the priority, 41 the policy.
    guard fields.count > 38, let niceness = Int32(fields[16]), let priority = UInt32(fields[37]),
      let policy = UInt32(fields[38])
    else { throw CheckpointError.refused("/proc/\(process)/task/\(thread)/stat is malformed") }
    guard [0, 1, 2, 3, 5].contains(policy) else {
      throw CheckpointError.refused(
        "thread \(innerID) of process \(process) has scheduling policy \(policy), which cannot be brought back")
    }
    var affinity: [UInt64] = []
    if let own = status["Cpus_allowed"], own != common {
      // Words of 32 bits in hexadecimal, the highest first.
      let words = own.split(separator: ",").reversed().map { UInt64($0, radix: 16) ?? 0 }
      affinity = stride(from: 0, to: words.count, by: 2).map {
        words[$0] | ($0 + 1 < words.count ? words[$0 + 1] << 32 : 0)
      }
    }
    self.init(policy: policy, priority: priority, niceness: niceness, affinity: affinity)
  }
}
