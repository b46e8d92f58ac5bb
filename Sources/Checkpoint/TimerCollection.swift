import Glibc
import Linux
import SnapshotFormat
import SystemPackage

extension PosixTimer {
  /// The timers of a frozen process, by id: /proc/PID/timers (fs/proc/base.c) and `timer_gettime(2)` through a
  /// borrowed thread.
  ///
  /// The kernel does not tell whether a timer was set to an absolute time: all come back with the time that remains.
  static func all(of process: FrozenProcess, through borrowed: borrowing BorrowedThread) throws
    -> [PosixTimer]
  {
    let processID = process.processID
    func refuse(_ id: UInt32, _ reason: String) -> CheckpointError {
      .refused("timer \(id) of \(ProcessStatistics.title(of: processID)) \(reason)")
    }
    var timers: [PosixTimer] = []
    for fields in try entries(of: processID) {
      guard let id = fields["ID"].flatMap({ UInt32($0) }), let signal = fields["signal"]?.split(separator: "/"),
        signal.count == 2, let number = UInt32(signal[0]), let value = UInt64(signal[1], radix: 16),
        let notify = fields["notify"]?.split(whereSeparator: { $0 == "/" || $0 == "." }), notify.count == 3,
        let receiver = Int32(notify[2]), let clock = fields["ClockID"].flatMap({ Int32($0) })
      else { throw CheckpointError.refused("/proc/\(processID)/timers is malformed") }
      // clock_getcpuclockid(3): bits 0-1 kind, bit 2 a thread's clock; the id is in the others, 0 for the caller's own.
      if clock < 0, clock & 4 != 0, ~(clock >> 3) == 0, process.threads.count > 1 {
        throw refuse(id, "counts the CPU time of a thread that the kernel does not name")
      }
      if clock == 8 || clock == 9 { throw refuse(id, "wakes the machine (CLOCK_*_ALARM), which nothing may here") }
      var timer = PosixTimer(
        id: id, clock: clock, notification: 0, signal: number, value: value, threadID: 0, setting: [])
      if notify[0] == "none" {
        timer.notification = 1
      } else if notify[1] == "tid" {
        guard let thread = process.threads.first(where: { $0.traced.threadID == receiver }) else {
          throw refuse(id, "signals thread \(receiver), which has ended")
        }
        timer.notification = 4
        timer.threadID = thread.innerID
      }
      guard try borrowed.call(224, UInt64(id), borrowed.scratch) == 0 else {  // timer_gettime
        throw refuse(id, "does not tell its time")
      }
      timer.setting = try process.memory.words(at: borrowed.scratch, count: 4)
      timers.append(timer)
    }
    return timers.sorted { $0.id < $1.id }
  }

  /// The groups of `Name: value` lines, each beginning with `ID`.
  private static func entries(of processID: Int32) throws -> [[String: String]] {
    // A kernel without CONFIG_CHECKPOINT_RESTORE has no such file, and no timers' ids either.
    guard let text = try? ProcessFiles.text("/proc/\(processID)/timers") else {
      throw CheckpointError.refused(
        "this kernel does not tell which POSIX timers \(ProcessStatistics.title(of: processID)) has")
    }
    var entries: [[String: String]] = []
    for line in text.split(separator: "\n") {
      let parts = line.split(separator: ":", maxSplits: 1)
      guard parts.count == 2 else { continue }
      if parts[0] == "ID" { entries.append([:]) }
      guard !entries.isEmpty else { continue }
      entries[entries.count - 1][String(parts[0])] = String(parts[1].drop { $0 == " " })
    }
    return entries
  }
}

extension TimerDescriptor {
  /// What a timerfd holds: fdinfo (fs/timerfd.c), after the kernel has been made to count the expirations of a periodic
  /// timer that nobody has read, through a duplicate.
  init(process: Int32, number: Int32, handle: FileDescriptor) throws {
    let copy = try Kernel.duplicate(number, of: handle)
    defer { try? copy.close() }
    // One that expires at this moment says that nothing is left, as one that is not set, until the interrupt has come:
    // it is given a little time.
    var tries = 0
    var fields: ProcessFields
    var setting: [UInt64]
    var expirations: UInt64
    var first: UInt64?
    repeat {
      if tries > 0 { usleep(50) }
      try Kernel.countExpirations(of: copy)
      // Time and expirations belong together: they are read at once.
      fields = try ProcessFields(path: "/proc/\(process)/fdinfo/\(number)")
      setting = Self.pair(fields["it_interval"]) + Self.pair(fields["it_value"])
      expirations = fields.number("ticks") ?? 0
      first = first ?? expirations
      tries += 1
    } while setting[2...] == [0, 0] && (setting[..<2] != [0, 0] ? tries < 20 : tries < 4 && expirations == 0)
    // A period so short that it is over whenever one looks.
    if setting[2...] == [0, 0], expirations != first { setting[2...] = setting[..<2] }
    let clock = UInt32(fields.number("clockid") ?? 0)
    let flags = UInt32(fields.number("settime flags", radix: 8) ?? 0) & 3
    guard clock != 8, clock != 9 else {
      throw CheckpointError.refused(
        "descriptor \(number) of process \(process) is a timer that wakes the machine (CLOCK_*_ALARM), which nothing may here"
      )
    }
    var value = setting
    let isArmed = setting[2] != 0 || setting[3] != 0
    if clock == 0, flags & 1 != 0, isArmed {
      // An absolute time of the wall clock stays what it is.
      let nanoseconds = try Kernel.wallClock() + setting[2] * 1_000_000_000 + setting[3]
      value[2] = nanoseconds / 1_000_000_000
      value[3] = nanoseconds % 1_000_000_000
    }
    self.init(clock: clock, flags: flags, setting: value, expirations: expirations)
  }

  /// "(seconds, nanoseconds)".
  private static func pair(_ text: String?) -> [UInt64] {
    let numbers = (text ?? "").split(whereSeparator: { "(), ".contains($0) }).compactMap { UInt64($0) }
    return numbers.count == 2 ? numbers : [0, 0]
  }
}
