import Linux
import SnapshotFormat

/// All processes of a sandbox but its init, standing still.
struct FrozenTree {
  /// The runtime first; parents before their children.
  let processes: [FrozenProcess]
  /// Those that have ended and were not waited for.
  let zombies: [Zombie]

  /// Stops the runtime, then its descendants, then what else runs in the sandbox.
  static func freeze(runtime: Int32, initProcessID: Int32) throws -> FrozenTree {
    var freezing = Freezing(processes: [try FrozenProcess.freeze(processID: runtime, parentID: 1)], known: [runtime])
    // A process can make another one until it stands: look again until nothing new appears. Those whose parent ended
    // meanwhile are init's.
    repeat {
      freezing.added = false
      var next = 0
      while next < freezing.processes.count {
        let parent = freezing.processes[next]
        next += 1
        for child in try children(of: parent.processID) { try freezing.visit(child, of: parent.innerID) }
      }
      for orphan in try children(of: initProcessID) { try freezing.visit(orphan, of: 1) }
    } while freezing.added
    let tree = FrozenTree(processes: freezing.processes, zombies: freezing.zombies)
    try tree.refuseSharing()
    return tree
  }

  private struct Freezing {
    var processes: [FrozenProcess]
    var known: Set<Int32>
    var zombies: [Zombie] = []
    var added = false

    mutating func visit(_ child: Int32, of parentID: UInt32) throws {
      guard !known.contains(child), let state = ProcessStatistics(processID: child) else { return }
      switch state.letter {
      case "Z":
        // Init waits for its own.
        guard parentID != 1 else { return }
        zombies.append(try state.zombie(parentID: parentID))
      case "T": throw CheckpointError.refused("\(state.title) is stopped by a signal")
      default:
        added = true
        guard let process = try frozen(child, of: parentID) else { return }
        processes.append(process)
      }
      known.insert(child)
    }

    /// nil if it has ended meanwhile.
    private func frozen(_ child: Int32, of parentID: UInt32) throws(CheckpointError) -> FrozenProcess? {
      do {
        return try FrozenProcess.freeze(processID: child, parentID: parentID)
      } catch {
        // It may have ended at any step.
        if ProcessStatistics.isAlive(child) { throw error }
        return nil
      }
    }
  }

  /// Lets all processes go on.
  func letGo() {
    for process in processes { process.letGo() }
  }

  /// The processes of a sandbox but its init, the runtime first, as this daemon sees them.
  static func processIDs(runtime: Int32, initProcessID: Int32) -> [Int32] {
    // A clone is the jailer's child, not its init's.
    var found = [runtime] + ((try? children(of: initProcessID)) ?? []).filter { $0 != runtime }
    var next = 0
    while next < found.count {
      found += (try? children(of: found[next])) ?? []
      next += 1
    }
    return found
  }

  private static func children(of process: Int32) throws -> [Int32] {
    try ProcessFiles.numbers(in: "/proc/\(process)/task").flatMap { thread in
      try ProcessFiles.text("/proc/\(process)/task/\(thread)/children").split(separator: " ").compactMap { Int32($0) }
    }
  }

  /// Processes are made by fork: what `clone(2)` lets them share besides is not brought back.
  private func refuseSharing() throws {
    for (index, one) in processes.enumerated() {
      for other in processes[(index + 1)...] {
        for state in Kernel.SharedState.allCases where try Kernel.share(state, one.processID, other.processID) {
          throw CheckpointError.refused(
            "processes \(one.innerID) and \(other.innerID) share \(state.name), which only threads get back")
        }
      }
    }
  }
}

extension Kernel.SharedState {
  fileprivate var name: String {
    switch self {
    case .memory: "their memory (vfork or CLONE_VM)"
    case .descriptors: "their descriptors (CLONE_FILES)"
    case .directory: "their current directory (CLONE_FS)"
    case .signalActions: "their signal actions (CLONE_SIGHAND)"
    }
  }
}

/// What /proc/PID/stat says of a process or thread, proc_pid_stat(5).
struct ProcessStatistics {
  let processID: Int32
  private let name: Substring
  /// From the third field on.
  private let rest: Substring

  /// nil if the process is gone, or the thread of it.
  init?(processID: Int32, thread: Int32? = nil) {
    let place = thread.map { "\(processID)/task/\($0)" } ?? "\(processID)"
    guard let text = try? ProcessFiles.text("/proc/\(place)/stat"), let open = text.firstIndex(of: "("),
      let close = text.lastIndex(of: ")")
    else { return nil }
    self.processID = processID
    name = text[text.index(after: open)..<close]
    rest = text[close...].dropFirst(2)
  }

  /// Whether there is such a process that has not ended.
  static func isAlive(_ processID: Int32) -> Bool {
    ProcessStatistics(processID: processID).map { !"ZX".contains($0.letter) } ?? false
  }

  /// For messages: its id inside the sandbox, where a person looks for it, and its name.
  var title: String {
    let status = try? ProcessFields(path: "/proc/\(processID)/status")
    let inner = status?.numbers("NSpid").last.map { "\($0)" } ?? "\(processID) of the host"
    // There a newline in the name is escaped.
    return "process \(inner) (\(status?["Name"] ?? String(name)))"
  }
  /// The same of a process that may have ended.
  static func title(of processID: Int32) -> String {
    ProcessStatistics(processID: processID)?.title ?? "process \(processID) of the host"
  }
  /// Bytes of memory that are there and belong to no file, of a process; 0 if they cannot be told.
  static func ownMemory(of processID: Int32) -> UInt64 {
    let status = try? ProcessFields(path: "/proc/\(processID)/status")
    return ["RssAnon", "RssShmem"].reduce(0) { $0 + (status?.number($1) ?? 0) << 10 }
  }
  /// R, S, D, Z, T and so on.
  var letter: Character { rest.first ?? "X" }
  /// The signal that its parent gets.
  var exitSignal: UInt32 { number(38) ?? 17 }
  /// As `wait(2)` encodes it.
  private var exitStatus: UInt32 { number(52) ?? 0 }

  /// A field, counted from 1 as the manual does.
  private func number(_ field: Int) -> UInt32? {
    let fields = rest.split(whereSeparator: { $0 == " " || $0 == "\n" })
    return fields.count > field - 3 ? UInt32(fields[field - 3]) : nil
  }

  /// One that has ended.
  func zombie(parentID: UInt32) throws -> Zombie {
    let status = try ProcessFields(path: "/proc/\(processID)/status")
    guard let inner = status.numbers("NSpid").last, try ProcessFiles.numbers(in: "/proc/\(processID)/task").count == 1
    else { throw CheckpointError.refused("the main thread of \(title) has ended before its others") }
    return Zombie(
      processID: inner, parentID: parentID, groupID: status.numbers("NSpgid").last ?? 0,
      sessionID: status.numbers("NSsid").last ?? 0, status: exitStatus, exitSignal: exitSignal)
  }
}
