/// In which order the processes of a snapshot are made, so that each has its parent, session and group.
///
/// A process inherits its parent's session at its birth: it is made before its parent begins one of its own, or after
/// it. Groups are joined when their leaders exist. What the dead have left behind is made by processes that end again:
/// the parent of an orphan, the leader of a session or group that outlives it.
public struct ProcessTree: Sendable {
  /// A process to be made.
  public struct Node: Sendable {
    /// What becomes of it.
    public enum Kind: Sendable {
      /// The one at this place in ``SnapshotManifest/processes``.
      case process(Int)
      /// It ends as that one did.
      case zombie(Zombie)
      /// It ends when its children exist and, if it leads a group, everybody has joined.
      case passing
    }
    /// What it begins.
    public enum Leadership: Sendable { case none, group, session }
    /// What becomes of it.
    public var kind: Kind
    /// Its id inside the sandbox.
    public var processID: UInt32
    /// The session that it is in when it is made.
    public var sessionID: UInt32
    /// What it begins.
    public var leads = Leadership.none
    /// The group that it joins.
    public var joins: UInt32?
    /// What its parent gets when it ends; 0 for none.
    public var exitSignal: UInt32 = 0
    /// Children, by their place in ``ProcessTree/nodes``, that are made before it begins a session.
    public var early: [Int] = []
    /// All other children.
    public var children: [Int] = []
  }

  /// All that is to be made, the first process first.
  public private(set) var nodes: [Node]
  /// How many become leaders, besides the first process, which is one before it has children.
  public private(set) var leaderCount = 0
  /// How many join a group.
  public private(set) var joinCount = 0
  /// How many stay, alive or dead, besides the first.
  public private(set) var lastingCount = 0

  private var byID: [UInt32: Int] = [:]
  private var taken: Set<UInt32>
  /// Ids that no process gets which only passes: sessions and groups have them, also those whose leaders have ended.
  private var reserved: Set<UInt32>

  private struct Item {
    var node: Node
    var parentID: UInt32
    var groupID: UInt32
  }

  /// The tree of a manifest's processes.
  ///
  /// - Throws: which process has a parent, session or group that cannot be made again.
  public init(processes: [ProcessState], zombies: [Zombie]) throws(SnapshotFormatError) {
    guard let root = processes.first, root.sessionID == root.processID else {
      throw SnapshotFormatError("the first process does not lead its session")
    }
    taken = Set(processes.flatMap { $0.threads.map(\.threadID) } + zombies.map(\.processID))
    taken.formUnion([0, 1])
    reserved = Set(processes.flatMap { [$0.groupID, $0.sessionID] } + zombies.flatMap { [$0.groupID, $0.sessionID] })
    nodes = [Node(kind: .process(0), processID: root.processID, sessionID: root.sessionID, leads: .session)]
    byID[root.processID] = 0
    var waiting = processes.enumerated().dropFirst().map { index, process in
      Item(
        node: Node(
          kind: .process(index), processID: process.processID, sessionID: process.sessionID,
          exitSignal: process.exitSignal), parentID: process.parentID, groupID: process.groupID)
    }
    waiting += zombies.map { zombie in
      Item(
        node: Node(
          kind: .zombie(zombie), processID: zombie.processID, sessionID: zombie.sessionID,
          exitSignal: zombie.exitSignal), parentID: zombie.parentID, groupID: zombie.groupID)
    }
    // Orphans come after the leaders of their sessions.
    while !waiting.isEmpty {
      var later: [Item] = []
      for item in waiting {
        if canAdd(item) { try add(item) } else { later.append(item) }
      }
      guard later.count < waiting.count else {
        let item = later[0]
        throw SnapshotFormatError(
          "process \(item.node.processID) belongs to session \(item.node.sessionID) or has parent \(item.parentID), which is not there"
        )
      }
      waiting = later
    }
    for node in nodes {
      guard let group = node.joins else { continue }
      guard let place = byID[group], nodes[place].leads != .none else {
        throw SnapshotFormatError("process \(node.processID) belongs to group \(group), which its leader has left")
      }
    }
    leaderCount = nodes.dropFirst().count { $0.leads != .none }
    joinCount = nodes.count { $0.joins != nil }
    lastingCount = processes.count + zombies.count - 1
  }

  private func canAdd(_ item: Item) -> Bool {
    guard item.parentID == 1 else { return byID[item.parentID] != nil }
    let session = item.node.sessionID
    return session == item.node.processID || !taken.contains(session) || byID[session] != nil
  }

  private mutating func add(_ item: Item) throws(SnapshotFormatError) {
    var node = item.node
    if node.sessionID == node.processID {
      node.leads = .session
    } else if item.groupID == node.processID {
      node.leads = .group
    } else {
      node.joins = item.groupID
    }
    if item.parentID == 1 {
      try addOrphan(node, groupID: item.groupID)
      return
    }
    guard let parent = byID[item.parentID] else { return }
    let place = append(node)
    if node.leads == .session || node.sessionID == nodes[parent].sessionID {
      nodes[parent].children.append(place)
    } else if nodes[parent].leads == .session, node.sessionID == sessionBefore(parent) {
      nodes[parent].early.append(place)
    } else {
      throw SnapshotFormatError(
        "process \(node.processID) belongs to session \(node.sessionID), in which its parent \(item.parentID) never was"
      )
    }
    try makeLeader(of: node, beside: parent)
  }

  /// The session that a process was born in.
  private func sessionBefore(_ place: Int) -> UInt32? {
    guard let parent = nodes.firstIndex(where: { $0.children.contains(place) || $0.early.contains(place) }) else {
      return nil
    }
    return nodes[parent].early.contains(place) ? sessionBefore(parent) : nodes[parent].sessionID
  }

  /// A group whose leader has ended is led by a process that ends when everybody has joined.
  private mutating func makeLeader(of node: Node, beside parent: Int) throws(SnapshotFormatError) {
    guard let group = node.joins, byID[group] == nil, !taken.contains(group) else { return }
    guard node.sessionID == nodes[parent].sessionID else {
      throw SnapshotFormatError("the leader of group \(group) has ended in another session than its member's parent")
    }
    nodes[parent].children.append(
      append(Node(kind: .passing, processID: group, sessionID: node.sessionID, leads: .group)))
  }

  /// A process whose parent has ended: it is made by one that ends, in its session.
  private mutating func addOrphan(_ new: Node, groupID: UInt32) throws(SnapshotFormatError) {
    var node = new
    let parent: Int
    if node.leads != .session, !taken.contains(node.sessionID) || isPassing(node.sessionID) {
      // The session's leader has ended too.
      if let known = byID[node.sessionID] {
        parent = known
      } else {
        parent = append(Node(kind: .passing, processID: node.sessionID, sessionID: node.sessionID, leads: .session))
        nodes[0].children.append(parent)
      }
      if groupID == node.sessionID { node.joins = nil }
    } else {
      let session = node.leads == .session ? nodes[0].sessionID : node.sessionID
      guard let host = byID[session], nodes[host].leads == .session else {
        throw SnapshotFormatError("process \(node.processID) belongs to session \(session), which its leader has left")
      }
      parent = append(Node(kind: .passing, processID: unusedID(), sessionID: session))
      nodes[host].children.append(parent)
    }
    nodes[parent].children.append(append(node))
    try makeLeader(of: node, beside: parent)
  }

  private func isPassing(_ id: UInt32) -> Bool {
    guard let place = byID[id], case .passing = nodes[place].kind else { return false }
    return true
  }

  private mutating func append(_ node: Node) -> Int {
    nodes.append(node)
    byID[node.processID] = nodes.count - 1
    taken.insert(node.processID)
    return nodes.count - 1
  }

  private func unusedID() -> UInt32 {
    var id: UInt32 = 2
    while taken.contains(id) || reserved.contains(id) { id += 1 }
    return id
  }
}
