internal import CLinux
internal import SystemPackage

/// A namespace of another process that the calling thread visits and comes back from (`setns(2)`).
enum Namespace {
  case network
  case communication

  /// Its name in /proc/PID/ns, and its flag in linux/sched.h.
  private var description: (name: String, flag: UInt) {
    switch self {
    case .network: ("net", 0x4000_0000)
    case .communication: ("ipc", 0x0800_0000)
    }
  }

  /// Runs `body` in the namespace of `process`.
  func visit<Value>(of process: Int32, _ body: () throws(SystemCallError) -> Value) throws(SystemCallError) -> Value {
    let (name, flag) = description
    let home = try ProcessFiles.open("/proc/thread-self/ns/\(name)")
    defer { try? home.close() }
    let there = try ProcessFiles.open("/proc/\(process)/ns/\(name)")
    defer { try? there.close() }
    _ = try checked(thaw_syscall(308, UInt(there.rawValue), flag, 0, 0, 0, 0), "setns", "\(name) of \(process)")
    defer { _ = thaw_syscall(308, UInt(home.rawValue), flag, 0, 0, 0, 0) }
    return try body()
  }
}

/// System V objects, which belong to no process: sysvipc(7).
public enum SystemVObjects {
  /// Names of the objects in the namespace of `process`, such as `semaphore 3`.
  public static func all(of process: Int32) throws(SystemCallError) -> [String] {
    try Namespace.communication.visit(of: process) { () throws(SystemCallError) in
      var names: [String] = []
      for (file, name) in [("shm", "shared memory"), ("sem", "semaphore"), ("msg", "message queue")] {
        // A heading, then a line for each: key, id, ...
        for line in try ProcessFiles.text("/proc/sysvipc/\(file)").split(separator: "\n").dropFirst() {
          let fields = line.split(separator: " ")
          if fields.count > 1 { names.append("System V \(name) \(fields[1])") }
        }
      }
      return names
    }
  }
}
