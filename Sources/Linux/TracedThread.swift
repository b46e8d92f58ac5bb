internal import CLinux
internal import SystemPackage

/// A thread that this thread has stopped with `ptrace(2)`. All calls must come from the thread that stopped it; the
/// kernel
/// lets go of it when that thread ends.
public struct TracedThread: Sendable {
  /// The thread id as this process sees it.
  public let threadID: Int32

  /// Stops a thread wherever it is (PTRACE_SEIZE, PTRACE_INTERRUPT) and waits until it stands; its seccomp filters
  /// are suspended as long as it is traced.
  ///
  /// - Returns: nil if the thread has ended meanwhile.
  public init?(stopping threadID: Int32) throws(SystemCallError) {
    self.threadID = threadID
    let subject = "thread \(threadID)"
    let seized = thaw_ptrace(
      Int(THAW_PTRACE_SEIZE), threadID, 0, UInt(THAW_PTRACE_O_SUSPEND_SECCOMP))
    if seized == -3 { return nil }  // ESRCH
    _ = try checked(seized, "ptrace SEIZE", subject)
    _ = try checked(thaw_ptrace(Int(THAW_PTRACE_INTERRUPT), threadID, 0, 0), "ptrace INTERRUPT", subject)
    var status: CInt = 0
    _ = try checked(thaw_wait_thread(threadID, &status), "waitpid", subject)
    guard status & 0xff == 0x7f else { return nil }  // it ended
  }

  /// Lets the thread go on. One that was killed meanwhile is waited for: its parent hears of it only then.
  public func detach() {
    guard thaw_ptrace(Int(THAW_PTRACE_DETACH), threadID, 0, 0) < 0 else { return }
    var status: CInt = 0
    _ = thaw_wait_thread(threadID, &status)
  }

  /// Whether it stands still as it was stopped, and was not killed meanwhile.
  public var isStopped: Bool { (try? registers()) != nil }

  private var subject: String { "thread \(threadID)" }

  /// The 27 words of `struct user_regs_struct`.
  public func registers() throws(SystemCallError) -> [UInt64] {
    var words = [UInt64](repeating: 0, count: 27)
    let result = words.withUnsafeMutableBytes {
      thaw_ptrace(Int(THAW_PTRACE_GETREGS), threadID, 0, UInt(bitPattern: $0.baseAddress))
    }
    _ = try checked(result, "ptrace GETREGS", subject)
    return words
  }

  /// Sets all registers.
  public func setRegisters(_ words: [UInt64]) throws(SystemCallError) {
    let result = words.withUnsafeBytes {
      thaw_ptrace(Int(THAW_PTRACE_SETREGS), threadID, 0, UInt(bitPattern: $0.baseAddress))
    }
    _ = try checked(result, "ptrace SETREGS", subject)
  }

  /// The XSAVE area (NT_X86_XSTATE).
  public func vectorState() throws(SystemCallError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: 16384)
    var length = 0
    let result = bytes.withUnsafeMutableBytes { buffer in
      var vector = iovec_t(base: buffer.baseAddress, length: UInt(buffer.count))
      let result = withUnsafeMutablePointer(to: &vector) {
        thaw_ptrace(
          Int(THAW_PTRACE_GETREGSET), threadID, UInt(THAW_NT_X86_XSTATE), UInt(bitPattern: $0))
      }
      length = Int(vector.length)
      return result
    }
    _ = try checked(result, "ptrace GETREGSET", subject)
    return Array(bytes[..<length])
  }

  /// Blocked signals.
  public func signalMask() throws(SystemCallError) -> UInt64 {
    var mask: UInt64 = 0
    let result = withUnsafeMutablePointer(to: &mask) {
      thaw_ptrace(Int(THAW_PTRACE_GETSIGMASK), threadID, 8, UInt(bitPattern: $0))
    }
    _ = try checked(result, "ptrace GETSIGMASK", subject)
    return mask
  }

  /// Sets the blocked signals.
  public func setSignalMask(_ mask: UInt64) throws(SystemCallError) {
    var mask = mask
    let result = withUnsafeMutablePointer(to: &mask) {
      thaw_ptrace(Int(THAW_PTRACE_SETSIGMASK), threadID, 8, UInt(bitPattern: $0))
    }
    _ = try checked(result, "ptrace SETSIGMASK", subject)
  }

  /// The signals that wait for the thread, or with `shared` for its whole process, each a raw `siginfo_t` of 128
  /// bytes (PTRACE_PEEKSIGINFO), in the order in which they were sent.
  public func pendingSignals(shared: Bool) throws(SystemCallError) -> [[UInt8]] {
    let size = 128
    var result: [[UInt8]] = []
    while true {
      // struct ptrace_peeksiginfo_args of linux/ptrace.h: offset 8, flags 4, count 4.
      let flags = shared ? UInt64(THAW_PTRACE_PEEKSIGINFO_SHARED) : 0
      var arguments: [UInt64] = [UInt64(result.count), flags | 32 << 32]
      var buffer = [UInt8](repeating: 0, count: 32 * size)
      let count = arguments.withUnsafeMutableBytes { arguments in
        buffer.withUnsafeMutableBytes {
          thaw_ptrace(
            Int(THAW_PTRACE_PEEKSIGINFO), threadID, UInt(bitPattern: arguments.baseAddress),
            UInt(bitPattern: $0.baseAddress))
        }
      }
      guard try checked(count, "ptrace PEEKSIGINFO", subject) > 0 else { return result }
      for index in 0..<count { result.append(Array(buffer[index * size..<(index + 1) * size])) }
    }
  }

  /// The registration of `rseq(2)`: address, size, signature; address 0 if there is none.
  public func restartableSequence() throws(SystemCallError) -> (address: UInt64, size: UInt32, signature: UInt32) {
    // struct ptrace_rseq_configuration of linux/ptrace.h: pointer, size, signature, flags, pad.
    var words: [UInt32] = [0, 0, 0, 0, 0, 0]
    let result = words.withUnsafeMutableBytes {
      thaw_ptrace(
        Int(THAW_PTRACE_GET_RSEQ_CONFIGURATION), threadID, UInt($0.count), UInt(bitPattern: $0.baseAddress))
    }
    _ = try checked(result, "ptrace GET_RSEQ_CONFIGURATION", subject)
    return (UInt64(words[0]) | UInt64(words[1]) << 32, words[2], words[3])
  }

  /// Head of the robust futex list (`get_robust_list(2)`).
  public func robustList() throws(SystemCallError) -> UInt64 {
    var head: UInt64 = 0
    var length: UInt64 = 0
    let result = withUnsafeMutablePointer(to: &head) { head in
      withUnsafeMutablePointer(to: &length) {
        thaw_syscall(274, UInt(threadID), UInt(bitPattern: head), UInt(bitPattern: $0), 0, 0, 0)
      }
    }
    _ = try checked(result, "get_robust_list", subject)
    return head
  }

  /// The thread's seccomp filters, the first installed first (get_nth_filter in kernel/seccomp.c), each `struct sock_filter`
  /// as one word.
  public func seccompFilters() throws(SystemCallError) -> [[UInt64]] {
    var filters: [[UInt64]] = []
    while true {
      let index = UInt(filters.count)
      let length = thaw_ptrace(Int(THAW_PTRACE_SECCOMP_GET_FILTER), threadID, index, 0)
      if length == -2 || length == -22 { return filters }  // ENOENT: no more; EINVAL: none at all
      var words = [UInt64](repeating: 0, count: try checked(length, "ptrace SECCOMP_GET_FILTER", subject))
      let result = words.withUnsafeMutableBytes {
        thaw_ptrace(
          Int(THAW_PTRACE_SECCOMP_GET_FILTER), threadID, index, UInt(bitPattern: $0.baseAddress))
      }
      _ = try checked(result, "ptrace SECCOMP_GET_FILTER", subject)
      filters.append(words)
    }
  }

  /// Makes the stopped thread execute one system call: its registers are set to call from `instruction` (the
  /// address of a `syscall`
  /// instruction) and one step is made. The caller sets the registers back when it has made all its calls.
  ///
  /// - Parameter registers: the thread's own registers (27 words).
  /// - Returns: the call's result, negative errno included.
  public func inject(
    number: UInt64, arguments: [UInt64], registers: [UInt64], instruction: UInt64
  ) throws(SystemCallError) -> Int64 {
    // Places in struct user_regs_struct, sys/user.h.
    enum Place { static let rax = 10, rdx = 12, rsi = 13, rdi = 14, origRax = 15, rip = 16, r10 = 7, r8 = 9, r9 = 8 }
    var words = registers
    words[Place.rip] = instruction
    words[Place.rax] = number
    words[Place.origRax] = .max
    for (place, argument) in zip(
      [Place.rdi, Place.rsi, Place.rdx, Place.r10, Place.r8, Place.r9], arguments + [0, 0, 0, 0, 0, 0])
    {
      words[place] = argument
    }
    try setRegisters(words)
    _ = try checked(thaw_ptrace(Int(THAW_PTRACE_SINGLESTEP), threadID, 0, 0), "ptrace SINGLESTEP", subject)
    var status: CInt = 0
    _ = try checked(thaw_wait_thread(threadID, &status), "waitpid", subject)
    guard status & 0xff == 0x7f, (status >> 8) & 0xff == 5 else {  // stopped by SIGTRAP
      throw SystemCallError(call: "ptrace SINGLESTEP", subject: "\(subject), status \(status)", errno: .noSuchProcess)
    }
    return Int64(bitPattern: try self.registers()[Place.rax])
  }
}

/// The CPUs on which a thread may run, sched_setaffinity(2): of machines with 1,024 of them at most.
public struct Affinity: Sendable {
  private var words = [UInt64](repeating: 0, count: 16)

  /// Those of a thread; 0 is the one that calls. nil if they cannot be told.
  public init?(of thread: Int32) {
    let result = words.withUnsafeMutableBytes {
      thaw_syscall(204, UInt(thread), UInt($0.count), UInt(bitPattern: $0.baseAddress), 0, 0, 0)
    }
    if result < 0 { return nil }
  }

  /// The one on which the thread that calls runs now; nil if it cannot be told.
  public static var here: Affinity? {
    var cpu: UInt32 = 0
    let result = withUnsafeMutablePointer(to: &cpu) { thaw_syscall(309, UInt(bitPattern: $0), 0, 0, 0, 0, 0) }
    guard result == 0, cpu < 1024, var affinity = Affinity(of: 0) else { return nil }
    affinity.words = affinity.words.map { _ in 0 }
    affinity.words[Int(cpu / 64)] = 1 << UInt64(cpu % 64)
    return affinity
  }

  /// The id of the thread that calls, gettid(2).
  public static var caller: Int32 { Int32(truncatingIfNeeded: thaw_syscall(186, 0, 0, 0, 0, 0, 0)) }

  /// These without others; nil if none are left.
  public func subtracting(_ others: Affinity) -> Affinity? {
    var result = self
    for index in words.indices { result.words[index] &= ~others.words[index] }
    return result.words.contains { $0 != 0 } ? result : nil
  }

  /// Lets a thread, 0 for the one that calls, run on these only, if it may.
  public func apply(to thread: Int32) {
    _ = words.withUnsafeBytes {
      thaw_syscall(203, UInt(thread), UInt($0.count), UInt(bitPattern: $0.baseAddress), 0, 0, 0)
    }
  }
}

/// `struct iovec` of sys/uio.h.
private struct iovec_t {
  var base: UnsafeMutableRawPointer?
  var length: UInt
}

/// Another process's memory, also what is mapped without access: that through /proc/PID/mem.
public struct ProcessMemory: ~Copyable {
  private let file: FileDescriptor
  private let process: Int32

  /// Opens the memory of a process.
  public init(process: Int32) throws(SystemCallError) {
    self.process = process
    file = try ProcessFiles.open("/proc/\(process)/mem")
  }

  deinit { try? file.close() }

  /// Fills `buffer` from `address` on.
  public func read(
    at address: UInt64, into buffer: UnsafeMutableRawBufferPointer
  ) throws(SystemCallError) {
    // process_vm_readv(2) is the faster way, and stops where there is no access.
    var local = iovec_t(base: buffer.baseAddress, length: UInt(buffer.count))
    var remote = iovec_t(base: UnsafeMutableRawPointer(bitPattern: UInt(address)), length: UInt(buffer.count))
    var done = withUnsafeMutablePointer(to: &local) { local in
      withUnsafeMutablePointer(to: &remote) { remote in
        max(0, Int(thaw_syscall(310, UInt(process), UInt(bitPattern: local), 1, UInt(bitPattern: remote), 1, 0)))
      }
    }
    while done < buffer.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let offset = Int64(address) + Int64(done)
      let count = try named("pread", "/proc/\(process)/mem at 0x\(String(offset, radix: 16))") {
        try file.read(fromAbsoluteOffset: offset, into: rest)
      }
      guard count > 0 else {
        throw SystemCallError(call: "pread", subject: "/proc/\(process)/mem", errno: .ioError)
      }
      done += count
    }
  }

  /// `count` bytes from `address` on.
  public func bytes(at address: UInt64, count: Int) throws(SystemCallError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    try bytes.withUnsafeMutableBytes { buffer in
      Result { () throws(SystemCallError) in try read(at: address, into: buffer) }
    }.get()
    return bytes
  }

  /// `count` words from `address` on.
  public func words(at address: UInt64, count: Int) throws(SystemCallError) -> [UInt64] {
    var words = [UInt64](repeating: 0, count: count)
    try words.withUnsafeMutableBytes { buffer in
      Result { () throws(SystemCallError) in try read(at: address, into: buffer) }
    }.get()
    return words
  }
}
