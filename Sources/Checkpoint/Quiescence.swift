import Linux

/// Waits until the processes of a sandbox do nothing.
enum Quiescence {
  /// Returns when for 50 ms every thread was asleep and almost no CPU was used, or when the limit is over.
  ///
  /// What is caught in the middle of work (a collector, a compiler thread, the function's own) goes on with it in every
  /// clone.
  ///
  /// - Returns: what was still busy, for the user; nil if nothing was.
  static func wait(
    runtime: Int32, initProcessID: Int32, limit: Duration
  ) async throws(CheckpointError) -> String? {
    let clock = ContinuousClock()
    let deadline = clock.now + limit
    var calm = 0
    var last: [Int32: UInt64] = [:]
    var busy = ""
    var stuck: String?
    while calm < 5 {
      guard clock.now < deadline else {
        // It could not be stopped either.
        if let stuck {
          throw CheckpointError.refused(
            "\(stuck) waits in the kernel and cannot be interrupted, as in vfork until the child has begun a program")
        }
        return "\(busy) was still busy \(limit.components.seconds) s after it said it was ready for a snapshot: "
          + "every environment begins with that work"
      }
      do {
        try await Task.sleep(for: .milliseconds(10))
      } catch {
        throw CheckpointError(code: .system, message: "cancelled")
      }
      let processes = FrozenTree.processIDs(runtime: runtime, initProcessID: initProcessID)
      guard ProcessStatistics.isAlive(runtime) else {
        throw CheckpointError(code: .processEnded, message: "the process ended before its snapshot was taken")
      }
      var isCalm = true
      stuck = nil
      for process in processes {
        let sample = sample(process)
        if !sample.allAsleep || sample.cpu &- (last[process] ?? 0) >= 300_000 {
          isCalm = false
          busy = process == runtime ? "the process" : ProcessStatistics(processID: process)?.title ?? busy
          if sample.isStuck { stuck = busy }
        }
        last[process] = sample.cpu
      }
      calm = isCalm ? calm + 1 : 0
    }
    return nil
  }

  private static func sample(_ process: Int32) -> (allAsleep: Bool, isStuck: Bool, cpu: UInt64) {
    let threads = (try? ProcessFiles.numbers(in: "/proc/\(process)/task")) ?? []
    var allAsleep = true
    var isStuck = false
    var cpu: UInt64 = 0
    for thread in threads {
      guard let state = ProcessStatistics(processID: process, thread: thread)?.letter,
        let statistics = try? ProcessFiles.text("/proc/\(process)/task/\(thread)/schedstat")
      else { continue }
      cpu &+= statistics.split(separator: " ").first.flatMap { UInt64($0) } ?? 0
      // Stopped ones and those that have ended do nothing either.
      if !"STZX".contains(state) { allAsleep = false }
      if state == "D" { isStuck = true }
    }
    return (allAsleep, isStuck, cpu)
  }
}
