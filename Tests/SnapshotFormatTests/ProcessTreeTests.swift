import SnapshotFormat
import Testing

/// The order in which a tree is made: who forks whom, who leads, who joins, and who ends again.
@Suite struct ProcessTreeTests {
  private func process(_ id: UInt32, parent: UInt32, group: UInt32, session: UInt32) -> ProcessState {
    let thread = ThreadState(
      threadID: id, registers: Registers(words: []), vectorState: [], signalMask: 0, restartableSequence: nil,
      robustList: 0, clearThreadID: 0, alternateStack: [], name: [])
    return ProcessState(
      processID: id, parentID: parent, groupID: group, sessionID: session, executable: "/bin/sh",
      layout: AddressLayout(words: []), auxiliaryVector: [], vdso: VirtualLibrary(start: 0, lengths: []), mappings: [],
      workingDirectory: "/", umask: 0o22, signalActions: [], membarrierRegistrations: 0, intervalTimers: [],
      resourceLimits: [],
      credentials: Credentials(
        userIDs: [1, 1, 1], groupIDs: [1, 1, 1], groups: [], noNewPrivileges: true, dumpable: true),
      seccompFilters: [], descriptors: [], threads: [thread])
  }
  private var root: ProcessState { process(2, parent: 1, group: 2, session: 2) }

  /// What is made by whom, as text: `2(3 !4(5))`; `!` begins a session, `+` a group, `>9` joins, `?` ends again.
  private func shape(_ processes: [ProcessState], _ zombies: [Zombie] = []) throws -> String {
    let tree = try ProcessTree(processes: processes, zombies: zombies)
    func text(_ place: Int) -> String {
      let node = tree.nodes[place]
      var text = node.early.map { text2($0) + " " }.joined()
      if case .passing = node.kind { text += "?" }
      if case .zombie = node.kind { text += "z" }
      text += place == 0 || node.leads == .none ? "" : node.leads == .session ? "!" : "+"
      text += "\(node.processID)"
      if let group = node.joins { text += ">\(group)" }
      if !node.children.isEmpty { text += "(" + node.children.map(text2).joined(separator: " ") + ")" }
      return text
    }
    func text2(_ place: Int) -> String { text(place) }
    return text(0)
  }

  @Test func childrenAndGrandchildren() throws {
    let processes = [
      root, process(3, parent: 2, group: 2, session: 2), process(5, parent: 3, group: 2, session: 2),
      process(4, parent: 2, group: 4, session: 2), process(6, parent: 2, group: 4, session: 2),
    ]
    #expect(try shape(processes) == "2(3>2(5>2) +4 6>4)")
    let tree = try ProcessTree(processes: processes, zombies: [])
    #expect(tree.leaderCount == 1 && tree.joinCount == 3)
  }

  /// A child of before its parent's session is born before it.
  @Test func sessions() throws {
    #expect(
      try shape([
        root, process(3, parent: 2, group: 3, session: 3), process(4, parent: 3, group: 2, session: 2),
        process(5, parent: 3, group: 3, session: 3),
      ]) == "2(4>2 !3(5>3))")
  }

  /// Orphans have parents that end: of any id where their session lives, of its leader's where that has ended.
  @Test func orphans() throws {
    #expect(try shape([root, process(3, parent: 1, group: 2, session: 2)]) == "2(?4(3>2))")
    #expect(
      try shape([
        root, process(3, parent: 1, group: 9, session: 9), process(4, parent: 1, group: 9, session: 9),
        process(5, parent: 3, group: 9, session: 9),
      ]) == "2(?!9(3(5>9) 4))")
    #expect(try shape([root, process(3, parent: 1, group: 3, session: 3)]) == "2(?4(!3))")
    // The leader of its session comes later in the list, and is an orphan itself.
    #expect(
      try shape([root, process(3, parent: 1, group: 4, session: 4), process(4, parent: 1, group: 4, session: 4)])
        == "2(?5(!4(?6(3>4))))")
  }

  /// The leader of a group that outlives it ends when all have joined.
  @Test func groupsWithoutLeader() throws {
    #expect(
      try shape([root, process(3, parent: 2, group: 9, session: 2), process(4, parent: 2, group: 9, session: 2)])
        == "2(3>9 ?+9 4>9)")
    #expect(try shape([root, process(3, parent: 1, group: 9, session: 2)]) == "2(?4(3>9 ?+9))")
  }

  @Test func ended() throws {
    let zombie = Zombie(processID: 7, parentID: 3, groupID: 7, sessionID: 2, status: 0, exitSignal: 17)
    #expect(
      try shape(
        [root, process(3, parent: 2, group: 2, session: 2), process(4, parent: 2, group: 7, session: 2)], [zombie])
        == "2(3>2(z+7) 4>7)")
  }

  /// Ids that outlive their processes in a group or session are nobody else's.
  @Test func idsOfTheDead() throws {
    #expect(try shape([root, process(4, parent: 1, group: 3, session: 2)]) == "2(?5(4>3 ?+3))")
    #expect(
      try shape([root, process(6, parent: 1, group: 2, session: 2), process(5, parent: 1, group: 3, session: 3)])
        == "2(?4(6>2) ?!3(5))")
  }

  /// A leader that has ended, and that nobody has waited for, has left a process in its session.
  @Test func leftByOneThatHasEnded() throws {
    let zombie = Zombie(processID: 3, parentID: 2, groupID: 3, sessionID: 3, status: 0, exitSignal: 17)
    #expect(try shape([root, process(4, parent: 1, group: 3, session: 3)], [zombie]) == "2(z!3(?5(4>3)))")
  }

  @Test func impossible() {
    #expect(throws: SnapshotFormatError.self) { try shape([]) }
    #expect(throws: SnapshotFormatError.self) { try shape([process(2, parent: 1, group: 2, session: 1)]) }
    // Its parent was never in its session.
    #expect(throws: SnapshotFormatError.self) { try shape([root, process(3, parent: 2, group: 9, session: 9)]) }
    #expect(throws: SnapshotFormatError.self) { try shape([root, process(3, parent: 8, group: 2, session: 2)]) }
    // Its group's leader lives, and has left it.
    #expect(throws: SnapshotFormatError.self) {
      try shape([root, process(3, parent: 2, group: 2, session: 2), process(4, parent: 2, group: 3, session: 2)])
    }
  }
}
