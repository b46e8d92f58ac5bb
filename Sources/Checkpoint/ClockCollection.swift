import Linux
import SnapshotFormat

extension ClockReadings {
  /// What the clocks say to a process now: the host's time and the offsets of its time namespace
  /// (time_namespaces(7)), which /proc/PID/timens_offsets shows in seconds and nanoseconds.
  init(ofProcess process: Int32) throws {
    var offsets: [Substring: Int64] = [:]
    // The file is not there where the kernel has no time namespaces.
    let text = (try? ProcessFiles.text("/proc/\(process)/timens_offsets")) ?? ""
    for line in text.split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count == 3, let seconds = Int64(fields[1]), let nanoseconds = Int64(fields[2]) else { continue }
      offsets[fields[0]] = seconds * 1_000_000_000 + nanoseconds
    }
    func reading(_ clock: Kernel.Clock, _ name: Substring) throws(SystemCallError) -> UInt64 {
      UInt64(max(0, Int64(try Kernel.now(clock)) + (offsets[name] ?? 0)))
    }
    self.init(monotonic: try reading(.monotonic, "monotonic"), boottime: try reading(.boottime, "boottime"))
  }
}
