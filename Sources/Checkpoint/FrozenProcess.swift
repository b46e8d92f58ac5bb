import Linux
import SnapshotFormat
import SystemPackage

/// A process all of whose threads stand still. Lives on one thread, as `ptrace(2)` demands; letting go of it lets
/// the process go on.
final class FrozenProcess {
  /// As this daemon sees it.
  let processID: Int32
  /// Its parent's id inside the sandbox.
  let parentID: UInt32
  /// Its id inside the sandbox.
  var innerID: UInt32 { threads[0].innerID }
  /// A thread that stands still.
  struct Thread {
    let traced: TracedThread
    /// Its id inside the sandbox.
    let innerID: UInt32
    /// /proc/PID/task/TID/status.
    let status: ProcessFields
    /// Where it must go on if it was stopped in a restartable sequence.
    var abortAddress: UInt64?
  }
  /// The threads, the main one first, then by their id inside the sandbox.
  private(set) var threads: [Thread]
  /// Its mappings, without details.
  let areas: [MemoryArea]
  /// A page of memory that is made for the answers of system calls, and taken away again; 0 if none could be had.
  private(set) var scratch: UInt64 = 0
  /// Why none could be had, an errno.
  private(set) var scratchFailure: Int64 = 0
  /// What VmFlags say of it.
  var scratchFlags: Set<String> = []
  let memory: ProcessMemory
  /// Address of a `syscall` instruction in the vDSO.
  let instruction: UInt64
  /// The vDSO's bytes.
  let vdso: [UInt8]

  /// Stops every thread of a process.
  static func freeze(processID: Int32, parentID: UInt32) throws(CheckpointError) -> FrozenProcess {
    var stopped: [Int32: TracedThread] = [:]
    do {
      // A thread can make another one until it stands: look again until nothing new appears.
      while true {
        var added = false
        for thread in try ProcessFiles.numbers(in: "/proc/\(processID)/task") where stopped[thread] == nil {
          guard let traced = try TracedThread(stopping: thread) else { continue }
          stopped[thread] = traced
          added = true
        }
        if !added { break }
      }
      guard stopped[processID] != nil else {
        throw ended(processID)
      }
      var threads: [Thread] = []
      for (thread, traced) in stopped {
        let status = try ProcessFields(path: "/proc/\(processID)/task/\(thread)/status")
        guard let inner = status.numbers("NSpid").last else {
          throw SystemCallError(call: "read", subject: "NSpid of thread \(thread)", errno: .invalidArgument)
        }
        threads.append(Thread(traced: traced, innerID: inner, status: status))
      }
      threads.sort { place($0) < place($1) }
      func place(_ thread: Thread) -> UInt32 {
        thread.traced.threadID == processID ? 0 : thread.innerID
      }
      let areas = try MemoryArea.all(of: processID, detailed: false)
      guard let library = areas.first(where: { $0.name == "[vdso]" }) else {
        throw CheckpointError(code: .refused, message: "\(ProcessStatistics.title(of: processID)) has no vDSO")
      }
      let memory = try ProcessMemory(process: processID)
      let vdso = try memory.bytes(at: library.start, count: Int(library.end - library.start))
      let pairs = zip(vdso, vdso.dropFirst()).enumerated()
      guard let offset = pairs.first(where: { $0.element == (0x0f, 0x05) })?.offset else {
        throw CheckpointError(
          code: .refused, message: "the vDSO of \(ProcessStatistics.title(of: processID)) holds no syscall instruction")
      }
      return FrozenProcess(
        processID: processID, parentID: parentID, threads: threads, areas: areas, memory: memory,
        instruction: library.start + UInt64(offset), vdso: vdso)
    } catch {
      // What is gone looks like much that cannot be brought back.
      let isWhole = stopped.values.allSatisfy(\.isStopped)
      detach(Array(stopped.values), of: processID)
      throw isWhole ? CheckpointError(wrapping: error) : ended(processID)
    }
  }

  private init(
    processID: Int32, parentID: UInt32, threads: [Thread], areas: [MemoryArea],
    memory: consuming ProcessMemory, instruction: UInt64, vdso: [UInt8]
  ) {
    self.processID = processID
    self.parentID = parentID
    self.threads = threads
    self.areas = areas
    self.memory = memory
    self.instruction = instruction
    self.vdso = vdso
  }

  /// Notes what the first system call that a thread makes for us would change, and makes the scratch page: a mapping of
  /// its own beside ``areas``, so that no memory of the program's is touched.
  func prepare() throws {
    for index in threads.indices {
      threads[index].abortAddress = try ThreadState.abortAddress(threads[index].traced, self)
    }
    // mmap(2): PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS.
    let main = try BorrowedThread(threads[0].traced, in: self)
    let result = try main.call(9, 0, SnapshotManifest.pageSize, 3, 0x21, .max, 0)
    if result > 0 { scratch = UInt64(result) } else { scratchFailure = -result }
  }

  /// Takes the scratch page away, if there is one.
  func removeScratch(through main: borrowing BorrowedThread) throws(SystemCallError) {
    guard scratch != 0 else { return }
    _ = try main.call(11, scratch, SnapshotManifest.pageSize)  // munmap(2)
    scratch = 0
  }

  /// Fails if a thread is gone: what was read of its memory then may have holes.
  func checkIsWhole() throws(CheckpointError) {
    for thread in threads where !thread.traced.isStopped { throw Self.ended(processID) }
  }

  private static func ended(_ processID: Int32) -> CheckpointError {
    CheckpointError(
      code: .processEnded, message: "\(ProcessStatistics.title(of: processID)) ended while its snapshot was taken")
  }

  /// Where its threads make system calls for us: on the CPU of the thread that waits for them. A call would otherwise
  /// wake another CPU twice, which takes ten times as long.
  var processor: Affinity?

  /// Lets it go on.
  func letGo() {
    if scratch != 0, let main = threads.first, let borrowed = try? BorrowedThread(main.traced, in: self) {
      try? removeScratch(through: borrowed)
    }
    Self.detach(threads.map(\.traced), of: processID)
    threads = []
  }

  /// The main thread comes last: its end is told when the others have ended.
  private static func detach(_ threads: [TracedThread], of processID: Int32) {
    for thread in threads where thread.threadID != processID { thread.detach() }
    for thread in threads where thread.threadID == processID { thread.detach() }
  }

  deinit { letGo() }
}

/// A stopped thread that makes system calls for us. What they answer in memory is in the scratch area: the process's
/// page for that, or without one a place on the thread's stack below the red zone.
struct BorrowedThread: ~Copyable {
  let thread: TracedThread
  let registers: Registers
  let scratch: UInt64
  /// Its own blocked signals.
  let signalMask: UInt64
  private let instruction: UInt64
  private let affinity: Affinity?

  init(_ thread: TracedThread, in process: FrozenProcess) throws(SystemCallError) {
    let registers = Registers(words: try thread.registers())
    let signalMask = try thread.signalMask()
    self.thread = thread
    self.registers = registers
    self.signalMask = signalMask
    scratch = process.scratch != 0 ? process.scratch : (registers[.rsp] &- 1024) & ~63
    instruction = process.instruction
    affinity = process.processor == nil ? nil : Affinity(of: thread.threadID)
    if affinity != nil { process.processor?.apply(to: thread.threadID) }
    // A signal that comes in the middle of a call waits; but for the one by which the call's end is told.
    try? thread.setSignalMask(~(1 << 4))
  }

  /// Makes the call and answers its result, negative errno included.
  func call(_ number: UInt64, _ arguments: UInt64...) throws(SystemCallError) -> Int64 {
    try thread.inject(number: number, arguments: arguments, registers: registers.words, instruction: instruction)
  }

  /// Gives the thread its registers, its signals and its CPUs back.
  deinit {
    try? thread.setRegisters(registers.words)
    try? thread.setSignalMask(signalMask)
    affinity?.apply(to: thread.threadID)
  }
}

extension CheckpointError {
  /// An error of a lower room in this room's words.
  init(wrapping error: any Error) {
    if let error = error as? CheckpointError {
      self = error
    } else {
      self.init(code: .system, message: "the snapshot could not be taken: \(error)")
    }
  }

  /// A refusal that names what cannot be brought back.
  static func refused(_ message: String) -> CheckpointError {
    CheckpointError(code: .refused, message: message)
  }
}
