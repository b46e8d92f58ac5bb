import CRestoreProgram
import SnapshotFormat

/// The processes besides the first. Each is forked of its parent in the clone, when the first one has made all
/// descriptors, and takes from the copy of the template's memory that it got what is its own.
extension ProgramCompiler {
  /// A process of ``SnapshotManifest/processes``, in its own words.
  mutating func instancePhase(ofProcess index: Int, at place: Int) throws(RestoreError) -> [Operation] {
    let fileSlot = try builder.slot()
    var operations = [add(\.made)] + inheritedState()
    operations += family(at: place, lead: lead(place), join: join(place))
    operations += try adoptMemory(index, fileSlot)
    operations.append(
      Operation(number: SystemCallNumber.chdir, arguments: [.value(builder.place(process.workingDirectory))]))
    operations += union.operations(ofProcess: index, process.descriptors, below: descriptorBase)
    operations += try processDescriptors()
    operations += DescriptorCompiler.watched(process.descriptors, &builder)
    operations += try sharedObjects.mappings(ofProcess: index, &builder, parking: &parking)
    operations.append(add(\.mapped))
    operations += ownState()
    return operations
  }

  /// The process's memory comes from where the template has held it; all else that the fork has copied goes.
  private mutating func adoptMemory(_ index: Int, _ fileSlot: Int) throws(RestoreError) -> [Operation] {
    var operations: [Operation] = []
    func unmap(_ start: UInt64, _ end: UInt64) {
      guard start < end else { return }
      operations.append(.unmap(start, end - start))
    }
    let hole = sharedObjects.hole
    let first = manifest.process.vdso
    let library = (first.start, first.start + first.lengths.reduce(0, +))
    var kept: [(UInt64, UInt64)] = [(hole.lowerBound, hole.upperBound), library]
    kept.sort { $0.0 < $1.0 }
    kept.append((SnapshotManifest.top, SnapshotManifest.top))
    var position = UInt64(RESTORER_END)
    for (start, end) in kept {
      unmap(position, start)
      position = end
    }
    // Other processes' memory: a mapping of the executable that the fork has copied would keep it in place.
    let own = sharedObjects.parked[index]
    if let low = own.first, let high = own.last {
      unmap(sharedObjects.parkedStart, low.place)
      unmap(high.place + (high.mapping.end - high.mapping.start), hole.upperBound)
    }
    operations.append(
      Operation(number: UInt16(RESTORE_OP_MOVE_VDSO.rawValue), arguments: [.value(first.start)]))
    for (mapping, place) in sharedObjects.parked[index] {
      let length = mapping.end - mapping.start
      operations.append(  // MREMAP_MAYMOVE | MREMAP_FIXED
        Operation(
          number: SystemCallNumber.mremap,
          arguments: [.value(place), .value(length), .value(length), 3, .value(mapping.start)]))
    }
    return operations + layoutOperations(fileSlot, executable: haveOwnExecutables ? process.executable : nil)
  }

  /// Process descriptors (pidfd_open(2)), when the processes exist.
  mutating func processDescriptors() throws(RestoreError) -> [Operation] {
    let slot = try builder.slot()
    let operations = process.descriptors.flatMap { descriptor -> [Operation] in
      guard case .process(let processID) = descriptor.kind else { return [] }
      let number = UInt64(descriptor.number)
      let onExec: UInt64 = descriptor.closeOnExec ? Flag.closeOnExec : 0
      if descriptor.description < descriptor.number {
        return [
          Operation(
            number: SystemCallNumber.dup3,
            arguments: [.value(UInt64(descriptor.description)), .value(number), .value(onExec)])
        ]
      }
      return [
        Operation(
          number: SystemCallNumber.pidfd_open, resultSlot: slot,
          arguments: [.value(UInt64(processID)), .value(UInt64(descriptor.statusFlags) & Flag.nonBlocking)]),
        Operation(
          number: UInt16(RESTORE_OP_MOVE.rawValue),
          arguments: [.value(UInt64(slot)), .value(number), .value(onExec)]),
        // It is made close-on-exec, and may be where it belongs already. F_SETFD.
        Operation(
          number: SystemCallNumber.fcntl, arguments: [.value(number), 2, descriptor.closeOnExec ? 1 : 0]),
      ]
    }
    return operations.isEmpty || tree.lastingCount == 0 ? operations : [wait(\.made, tree.lastingCount)] + operations
  }

  // MARK: Families

  /// What a process does that has children: makes them, leads, joins, and waits for those that end again.
  ///
  /// A child that has ended would be gone if its parent ignored SIGCHLD: it is the default meanwhile.
  mutating func family(at place: Int, lead: [Operation], join: [Operation]) -> [Operation] {
    let node = tree.nodes[place]
    let hasEnded = (node.early + node.children).contains {
      if case .zombie = tree.nodes[$0].kind { true } else { false }
    }
    var operations: [Operation] = []
    if hasEnded { operations.append(action([0, 0, 0, 0], for: 17)) }
    operations += births(node.early) + lead + births(node.children) + join + settlement(at: place)
    if hasEnded, let own = process.signalActions.first(where: { $0.signal == 17 }) {
      operations.append(action(own.words, for: 17))
    }
    return operations
  }

  /// `rt_sigaction(2)`.
  mutating func action(_ words: [UInt64], for signal: UInt32) -> Operation {
    Operation(
      number: SystemCallNumber.rt_sigaction,
      arguments: [.value(UInt64(signal)), .value(builder.place(words: words)), 0, 8])
  }

  /// Makes these nodes.
  private func births(_ children: [Int]) -> [Operation] {
    children.map { child in
      let end =
        switch tree.nodes[child].kind {
        case .process: RESTORE_STAYS
        case .zombie(let zombie): zombie.status & 0x7f == 0 ? RESTORE_EXITS : RESTORE_MAY_BE_KILLED
        case .passing: RESTORE_EXITS
        }
      return Operation(
        number: UInt16(RESTORE_OP_FORK.rawValue),
        arguments: [
          .value(builder.address(headers[child])), .value(UInt64(tree.nodes[child].exitSignal)),
          .value(UInt64(end.rawValue)),
        ])
    }
  }

  private func lead(_ place: Int) -> [Operation] {
    switch tree.nodes[place].leads {
    case .none: []
    case .group: [Operation(number: SystemCallNumber.setpgid, arguments: [0, 0]), add(\.grouped)]
    case .session: [Operation(number: SystemCallNumber.setsid, arguments: []), add(\.grouped)]
    }
  }

  private func join(_ place: Int) -> [Operation] {
    guard let group = tree.nodes[place].joins else { return [] }
    return [
      wait(\.grouped, tree.leaderCount),
      Operation(number: SystemCallNumber.setpgid, arguments: [0, .value(UInt64(group))]), add(\.joined),
    ]
  }

  /// Waits for the children that end again; of zombies only until they have. The signals that they sent are taken back.
  private mutating func settlement(at place: Int) -> [Operation] {
    var operations: [Operation] = []
    var signals: [UInt32] = []
    for child in tree.nodes[place].early + tree.nodes[place].children {
      let node = tree.nodes[child]
      switch node.kind {
      case .process: continue
      case .passing:  // __WALL of linux/wait.h: it tells its parent nothing
        operations.append(
          Operation(
            number: SystemCallNumber.wait4, arguments: [.value(UInt64(node.processID)), 0, 0x4000_0000, 0]))
      case .zombie:  // P_PID 1; WEXITED 4, WNOWAIT 0x01000000, __WALL
        operations.append(
          Operation(
            number: SystemCallNumber.waitid,
            arguments: [1, .value(UInt64(node.processID)), 0, 0x4100_0004, 0]))
        if node.exitSignal != 0 { signals.append(node.exitSignal) }
      }
    }
    // What they wait for themselves: nobody sees a child that is killed while this one is in the kernel.
    if !operations.isEmpty, tree.joinCount > 0 { operations.insert(wait(\.joined, tree.joinCount), at: 0) }
    let none = builder.place(words: [0, 0])
    for signal in signals {
      // struct timespec of nothing: those of the standard signals that came while one waited are lost.
      let set = builder.place(words: [1 << (UInt64(signal) - 1)])
      operations.append(
        Operation(
          number: SystemCallNumber.rt_sigtimedwait, check: RESTORE_MAY_FAIL.rawValue,
          arguments: [.value(set), 0, .value(none), 8]))
    }
    return operations
  }

  /// A process that ends as it did.
  mutating func ended(_ zombie: Zombie, at place: Int) -> [Operation] {
    var operations = [add(\.made)] + lead(place) + births(tree.nodes[place].children) + join(place)
    if tree.nodes[place].leads != .none { operations.append(wait(\.joined, tree.joinCount)) }
    let signal = UInt64(zombie.status & 0x7f)
    if signal == 0 {
      operations.append(
        Operation(number: SystemCallNumber.exit_group, arguments: [.value(UInt64(zombie.status >> 8 & 0xff))]))
      return operations
    }
    // It must not dump what it has of the others' memory: PR_SET_DUMPABLE 0. SIG_SETMASK 2: the signal comes when none is
    // blocked any more.
    let none = builder.place(words: [0, 0, 0, 0])
    operations.append(Operation(number: SystemCallNumber.prctl, arguments: [4, 0, 0, 0, 0]))
    operations.append(
      Operation(
        number: SystemCallNumber.rt_sigaction, check: RESTORE_MAY_FAIL.rawValue,
        arguments: [.value(signal), .value(none), 0, 8]))
    operations.append(
      Operation(number: SystemCallNumber.kill, arguments: [.value(UInt64(zombie.processID)), .value(signal)]))
    operations.append(
      Operation(number: SystemCallNumber.rt_sigprocmask, arguments: [2, .value(none), 0, 8]))
    operations.append(Operation(number: SystemCallNumber.exit_group, arguments: [.value(128 + signal)]))
    return operations
  }

  /// A process that makes others and ends.
  func passing(at place: Int) -> [Operation] {
    let node = tree.nodes[place]
    var operations = lead(place) + births(node.children)
    if node.leads != .none { operations.append(wait(\.joined, tree.joinCount)) }
    operations.append(Operation(number: SystemCallNumber.exit_group, arguments: [0]))
    return operations
  }

  // MARK: Counters

  /// A counter of the page that all processes share.
  typealias Counter = KeyPath<restore_shared, UInt32>

  private func address(_ counter: Counter) -> UInt64 {
    UInt64(RESTORE_SHARED) + UInt64(MemoryLayout<restore_shared>.offset(of: counter) ?? 0)
  }

  func add(_ counter: Counter) -> Operation {
    Operation(number: UInt16(RESTORE_OP_ADD.rawValue), arguments: [.value(address(counter))])
  }

  func wait(_ counter: Counter, _ count: Int) -> Operation {
    Operation(
      number: UInt16(RESTORE_OP_WAIT.rawValue), arguments: [.value(address(counter)), .value(UInt64(count))])
  }
}

extension Mapping {
  /// The same at another address.
  func moved(to place: UInt64) -> Mapping {
    var result = self
    func move(_ address: UInt64) -> UInt64 { address - start + place }
    result.start = place
    result.end = move(end)
    result.extents = extents.map { Extent(start: move($0.start), length: $0.length, imageOffset: $0.imageOffset) }
    result.guards = guards.map { [move($0[0]), $0[1]] }
    return result
  }
}
