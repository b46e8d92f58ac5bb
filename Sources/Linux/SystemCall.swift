internal import CLinux
internal import Glibc
public import SystemPackage

/// Makes a kernel answer (a result, or -errno) into a value or an error.
func checked(
  _ result: Int, _ call: String, _ subject: @autoclosure () -> String = ""
) throws(SystemCallError) -> Int {
  guard result < 0 else { return result }
  throw SystemCallError(call: call, subject: subject(), errno: Errno(rawValue: CInt(-result)))
}

/// Runs `body`, which throws `Errno` as swift-system's calls do, and names the call.
func named<Value>(_ call: String, _ subject: String, _ body: () throws -> Value) throws(SystemCallError) -> Value {
  do {
    return try body()
  } catch {
    throw SystemCallError(call: call, subject: subject, errno: error as? Errno ?? .ioError)
  }
}

/// Calls of the kernel that swift-system has no name for.
public enum Kernel {
  /// The release of the running kernel, `uname -r`.
  public static func release() throws(SystemCallError) -> String {
    try ProcessFiles.text("/proc/sys/kernel/osrelease").trimmingNewline
  }

  /// XCR0: the vector state components that this machine has enabled.
  public static var vectorFeatures: UInt64 { thaw_xcr0() }

  /// A descriptor of a process (`pidfd_open(2)`), which becomes readable when it ends. The caller closes it.
  public static func openProcess(_ processID: Int32) throws(SystemCallError) -> FileDescriptor {
    let result = try checked(thaw_syscall(434, UInt(processID), 0, 0, 0, 0, 0), "pidfd_open", "\(processID)")
    return FileDescriptor(rawValue: CInt(result))
  }

  /// A duplicate of descriptor `number` of another process (`pidfd_getfd(2)`). The caller closes it.
  public static func duplicate(
    _ number: Int32, of process: FileDescriptor
  ) throws(SystemCallError) -> FileDescriptor {
    let result = try checked(
      thaw_syscall(438, UInt(process.rawValue), UInt(number), 0, 0, 0, 0), "pidfd_getfd", "\(number)")
    return FileDescriptor(rawValue: CInt(result))
  }

  /// Whether two descriptors, each of a process, share one open file description (`kcmp(2)`, KCMP_FILE).
  public static func sameDescription(
    _ first: (process: Int32, number: UInt32), _ second: (process: Int32, number: UInt32)
  ) throws(SystemCallError) -> Bool {
    let result = thaw_syscall(
      312, UInt(first.process), UInt(second.process), UInt(THAW_KCMP_FILE), UInt(first.number), UInt(second.number), 0)
    return try checked(result, "kcmp", "\(second.process)") == 0
  }

  /// Whether what an epoll set of a process watches as number `target` is what the process has as that number (`kcmp(2)`,
  /// KCMP_EPOLL_TFD): it may have been closed there while another descriptor keeps it open.
  ///
  /// - Parameter turn: which of the set's entries with that number.
  public static func watches(
    process: Int32, set: UInt32, target: UInt32, turn: UInt32
  ) throws(SystemCallError) -> Bool {
    var slot: (UInt32, UInt32, UInt32) = (set, target, turn)  // struct kcmp_epoll_slot
    let result = withUnsafePointer(to: &slot) {
      thaw_syscall(312, UInt(process), UInt(process), 7, UInt(target), UInt(bitPattern: $0), 0)
    }
    return try checked(result, "kcmp", "\(process)") == 0
  }

  /// What two processes may share, with its number in linux/kcmp.h.
  public enum SharedState: UInt, Sendable, CaseIterable {
    /// Memory, CLONE_VM.
    case memory = 1
    /// The descriptor table, CLONE_FILES.
    case descriptors = 2
    /// Current directory and umask, CLONE_FS.
    case directory = 3
    /// Signal actions, CLONE_SIGHAND.
    case signalActions = 4
  }

  /// Whether two processes share something (`kcmp(2)`).
  public static func share(
    _ state: SharedState, _ first: Int32, _ second: Int32
  ) throws(SystemCallError) -> Bool {
    let result = thaw_syscall(312, UInt(first), UInt(second), state.rawValue, 0, 0, 0)
    return try checked(result, "kcmp", "\(second)") == 0
  }

  /// Clocks that count from a start, with their numbers in linux/time.h.
  public enum Clock: UInt, Sendable {
    case monotonic = 1
    case boottime = 7
  }

  /// What a clock says, in nanoseconds.
  public static func now(_ clock: Clock) throws(SystemCallError) -> UInt64 {
    var time = timespec()
    _ = try checked(
      withUnsafeMutablePointer(to: &time) { thaw_syscall(228, clock.rawValue, UInt(bitPattern: $0), 0, 0, 0, 0) },
      "clock_gettime")
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
  }

  /// A new eventfd(2) with the counter 0, close-on-exec, whose reads block.
  public static func eventDescriptor() throws(SystemCallError) -> FileDescriptor {
    FileDescriptor(rawValue: CInt(try checked(thaw_syscall(290, 0, 0o2000000, 0, 0, 0, 0), "eventfd2")))
  }

  /// An anonymous file in memory (`memfd_create(2)`), close-on-exec. The caller closes it.
  public static func memoryFile(name: String) throws(SystemCallError) -> FileDescriptor {
    let result = name.withCString { thaw_syscall(319, UInt(bitPattern: $0), 1, 0, 0, 0, 0) }
    return FileDescriptor(rawValue: CInt(try checked(result, "memfd_create", name)))
  }

  /// Bytes that wait to be read from a socket or pipe (FIONREAD).
  public static func bytesWaiting(in descriptor: FileDescriptor) throws(SystemCallError) -> Int {
    try checked(thaw_bytes_waiting(descriptor.rawValue), "ioctl FIONREAD")
  }

  /// The capacity of a pipe in bytes (`fcntl(2)`, F_GETPIPE_SZ).
  public static func pipeCapacity(_ descriptor: FileDescriptor) throws(SystemCallError) -> Int {
    try checked(thaw_syscall(72, UInt(descriptor.rawValue), 1032, 0, 0, 0, 0), "fcntl F_GETPIPE_SZ")
  }

  /// Copies up to `count` bytes from one pipe to another without taking them out (`tee(2)`); answers how many.
  public static func tee(
    from source: FileDescriptor, to target: FileDescriptor, count: Int
  ) throws(SystemCallError) -> Int {
    let nonBlocking: UInt = 2  // SPLICE_F_NONBLOCK, fcntl.h
    return try checked(
      thaw_syscall(276, UInt(source.rawValue), UInt(target.rawValue), UInt(count), nonBlocking, 0, 0), "tee")
  }

  /// Has the kernel count the expirations of a periodic timerfd that nobody has read, and go on from the last one: what
  /// `timerfd_gettime(2)` does besides answering.
  public static func countExpirations(of timer: FileDescriptor) throws(SystemCallError) {
    var words: [UInt64] = [0, 0, 0, 0]
    let result = words.withUnsafeMutableBytes {
      thaw_syscall(287, UInt(timer.rawValue), UInt(bitPattern: $0.baseAddress), 0, 0, 0, 0)
    }
    _ = try checked(result, "timerfd_gettime")
  }

  /// The wall clock, nanoseconds since 1970 (`clock_gettime(2)`, CLOCK_REALTIME).
  public static func wallClock() throws(SystemCallError) -> UInt64 {
    var words: [UInt64] = [0, 0]
    let result = words.withUnsafeMutableBytes { thaw_syscall(228, 0, UInt(bitPattern: $0.baseAddress), 0, 0, 0, 0) }
    _ = try checked(result, "clock_gettime")
    return words[0] * 1_000_000_000 + words[1]
  }
}

extension String {
  /// Without one line feed at the end.
  var trimmingNewline: String { last == "\n" ? String(dropLast()) : self }
}

extension Kernel {
  /// Soft and hard limits of a process by RLIMIT number, all ones for "unlimited", from /proc/PID/limits:
  /// `prlimit(2)` on another user's
  /// process would need CAP_SYS_RESOURCE.
  public static func resourceLimits(
    ofProcess process: Int32
  ) throws(SystemCallError) -> [(resource: UInt32, current: UInt64, maximum: UInt64)] {
    // The order of RLIMIT numbers in asm-generic/resource.h, and the names of fs/proc/base.c.
    let names = [
      "Max cpu time", "Max file size", "Max data size", "Max stack size", "Max core file size", "Max resident set",
      "Max processes", "Max open files", "Max locked memory", "Max address space", "Max file locks",
      "Max pending signals", "Max msgqueue size", "Max nice priority", "Max realtime priority", "Max realtime timeout",
    ]
    var limits: [(UInt32, UInt64, UInt64)] = []
    for line in try ProcessFiles.text("/proc/\(process)/limits").split(separator: "\n") {
      guard let resource = names.firstIndex(where: { line.hasPrefix($0 + " ") }) else { continue }
      let values = line.dropFirst(names[resource].count).split(separator: " ").prefix(2).map {
        $0 == "unlimited" ? UInt64.max : UInt64($0) ?? .max
      }
      if values.count == 2 { limits.append((UInt32(resource), values[0], values[1])) }
    }
    return limits
  }

  /// Makes a pipe (`pipe2(2)`, close-on-exec). The caller closes both ends.
  public static func pipe() throws(SystemCallError) -> (reading: FileDescriptor, writing: FileDescriptor) {
    var ends: [Int32] = [0, 0]
    let result = ends.withUnsafeMutableBytes {
      thaw_syscall(293, UInt(bitPattern: $0.baseAddress), 0o2000000, 0, 0, 0, 0)
    }
    _ = try checked(result, "pipe2")
    return (FileDescriptor(rawValue: ends[0]), FileDescriptor(rawValue: ends[1]))
  }

  /// Sets a pipe's capacity (`fcntl(2)`, F_SETPIPE_SZ).
  public static func setPipeCapacity(_ descriptor: FileDescriptor, _ bytes: Int) throws(SystemCallError) {
    _ = try checked(thaw_syscall(72, UInt(descriptor.rawValue), 1031, UInt(bytes), 0, 0, 0), "fcntl F_SETPIPE_SZ")
  }
}

extension Kernel {
  /// The bytes of the vDSO, which the kernel maps into every 64-bit program, read from this process.
  public static func virtualLibrary() throws(SystemCallError) -> [UInt8] {
    let line = try ProcessFiles.text("/proc/self/maps").split(separator: "\n").first { $0.hasSuffix("[vdso]") }
    let range = (line ?? "").prefix { $0 != " " }.split(separator: "-").compactMap { UInt64($0, radix: 16) }
    guard range.count == 2 else { return [] }
    return try ProcessMemory(process: Int32(getpid())).bytes(at: range[0], count: Int(range[1] - range[0]))
  }
}
