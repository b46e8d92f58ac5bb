import Linux

/// Waits until a process does nothing.
enum Quiescence {
  /// Returns when for 50 ms every thread was asleep and almost no CPU was used.
  ///
  /// A runtime that is caught in the middle of work (a collector, a compiler thread) repeats that work in every
  /// clone.
  static func wait(process: Int32, limit: Duration = .seconds(10)) async throws(CheckpointError) {
    let clock = ContinuousClock()
    let deadline = clock.now + limit
    var calm = 0
    var last: UInt64 = 0
    while calm < 5 {
      guard clock.now < deadline else {
        throw CheckpointError(
          code: .notQuiet,
          message: "the process was still busy \(limit.components.seconds) s after it said it was ready for a snapshot")
      }
      do {
        try await Task.sleep(for: .milliseconds(10))
      } catch {
        throw CheckpointError(code: .system, message: "cancelled")
      }
      let sample = try sample(process)
      calm = sample.allAsleep && sample.cpu &- last < 300_000 ? calm + 1 : 0
      last = sample.cpu
    }
  }

  private static func sample(_ process: Int32) throws(CheckpointError) -> (allAsleep: Bool, cpu: UInt64) {
    guard let threads = try? ProcessFiles.numbers(in: "/proc/\(process)/task"), !threads.isEmpty else {
      throw CheckpointError(code: .processEnded, message: "the process ended before its snapshot was taken")
    }
    var allAsleep = true
    var cpu: UInt64 = 0
    for thread in threads {
      guard let status = try? ProcessFiles.text("/proc/\(process)/task/\(thread)/stat"),
        let statistics = try? ProcessFiles.text("/proc/\(process)/task/\(thread)/schedstat")
      else { continue }
      cpu &+= statistics.split(separator: " ").first.flatMap { UInt64($0) } ?? 0
      guard let afterName = status.lastIndex(of: ")") else { continue }
      if !status[afterName...].dropFirst(2).hasPrefix("S") { allAsleep = false }
    }
    return (allAsleep, cpu)
  }
}
