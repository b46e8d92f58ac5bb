import Checkpoint
import EngineHarness
import Foundation
import Restore
import Sandbox
import SnapshotFormat
import SystemPackage
import Testing

/// Real processes that hold something, are frozen, restored by three clones at once, and check themselves in each.
@Suite(
  "Engine", .serialized,
  .enabled(
    if: EngineBench.isPossible,
    "needs root and thaw-jailer and thaw-restorer (make native; THAW_BIN names their directory)"))
struct EngineTests {
  @Test(arguments: [
    "threads", "signals", "descriptors", "memory", "timers", "pending", "shared", "sockets", "files", "held",
    "many", "tree", "kin",
  ])
  func comesBack(_ name: String) async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start(name)
      try await comesBack(program, bench, bench.specification)
    }
  }

  /// What never is quiet is frozen at its work, and goes on with it in every clone.
  @Test func whatIsBusyGoesOn() async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start("busy")
      try await comesBack(program, bench, bench.specification, quiescenceLimit: .milliseconds(200))
    }
  }

  /// Clones that begin long after the snapshot: no clock shows them the time between.
  @Test func clocksGoOn() async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start("clocks")
      let snapshot = try await bench.snapshot(program)
      await program.end()
      try await Task.sleep(for: .seconds(5))
      let template = try await bench.template(snapshot.directory)
      for arming in [false, true] {
        #expect(try await bench.check(template, bench.withSeed(snapshot.directory), arming: arming) == "ok")
      }
      await template.close()
    }
  }

  /// A child that is killed while the tree is made is noticed by who made it.
  @Test func aChildKilledOnItsWayIsNoticed() async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start("kin")
      let snapshot = try await bench.snapshot(program)
      await program.end()
      let template = try await bench.template(snapshot.directory)
      var messages: [String] = []
      // The child that is caught may be whole already, or one that ends anyway: again, until one was missed.
      let end = ContinuousClock.now + .seconds(60)
      while ContinuousClock.now < end, !messages.contains(where: { $0.contains("was killed while it was restored") }) {
        let sandbox = try await bench.jailer.makeSandbox(bench.withSeed(snapshot.directory))
        let killer = Task.detached { await killOneGrandchild(otherThan: template.processID) }
        do throws(RestoreError) {
          _ = try await template.restore(into: sandbox)
        } catch {
          messages.append(error.message)
        }
        killer.cancel()
        await killer.value
        await sandbox.terminate()
      }
      #expect(messages.contains { $0.contains("was killed while it was restored") }, "\(messages)")
      // The template is none the worse for it.
      #expect(try await bench.check(template, bench.withSeed(snapshot.directory), arming: false) == "ok")
      await template.close()
    }
  }

  private func children(of process: Int32) -> [Int32] {
    let tasks = (try? FileManager.default.contentsOfDirectory(atPath: "/proc/\(process)/task")) ?? []
    return tasks.flatMap { task in
      let text = try? String(contentsOfFile: "/proc/\(process)/task/\(task)/children", encoding: .utf8)
      return (text ?? "").split(separator: " ").compactMap { Int32($0) }
    }
  }

  /// Kills the first process that appears below a clone: a clone is the jailer's child, as a sandbox's init and a
  /// template are.
  private func killOneGrandchild(otherThan template: Int32) async {
    func name(_ process: Int32) -> String? { try? String(contentsOfFile: "/proc/\(process)/comm", encoding: .utf8) }
    guard let jailer = children(of: getpid()).first(where: { name($0) == "thaw-jailer\n" }) else { return }
    while !Task.isCancelled {
      // Not what a sandbox's init has adopted: nobody looks after that.
      let clones = children(of: jailer).filter { $0 != template && name($0) != "thaw-init\n" }
      if let found = clones.flatMap(children).first {
        kill(found, SIGKILL)
        return
      }
      await Task.yield()
    }
  }

  /// A template whose spare is killed, at any moment, clones itself; and one that is killed leaves no spare behind.
  @Test func aKilledSpareIsNotMissed() async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start("threads")
      let snapshot = try await bench.snapshot(program)
      await program.end()
      let template = try await bench.template(snapshot.directory)
      let seeded = bench.withSeed(snapshot.directory)
      template.use(try await bench.recordWorkingSet(template, seeded, snapshot.manifest))
      var kills = 0
      for round in 0..<20 {
        let spares = await spares(of: template)
        if round.isMultiple(of: 4) { for spare in spares where kill(spare, SIGKILL) == 0 { kills += 1 } }
        let killer = Task.detached {
          for spare in spares {
            try? await Task.sleep(for: .microseconds(round * 20))
            if round % 4 == 1 { kill(spare, SIGKILL) }
          }
        }
        do {
          #expect(try await bench.check(template, seeded) == "ok")
        } catch let error as RestoreError {
          // It was killed when it had cloned itself but not said so yet: the sandbox has the clone already.
          let isUnsure = error.message.hasSuffix("clone itself into the sandbox: \(Errno.noChildProcess)")
          #expect(round % 4 == 1 && isUnsure, "\(error)")
        }
        await killer.value
      }
      #expect(kills > 0)
      // Whatever became of the last one: it is noticed with an order, and there is another one afterwards.
      for _ in 0..<2 { #expect(try await bench.check(template, seeded) == "ok") }
      let last = await spares(of: template)
      #expect(!last.isEmpty)
      // None that a killed one had opened are left: its socket, itself, and the two of the spare that is there.
      let settled = ContinuousClock.now + .seconds(10)
      while try descriptors(of: template) != 4, .now < settled { try await Task.sleep(for: .milliseconds(5)) }
      #expect(try descriptors(of: template) == 4)
      kill(template.processID, SIGKILL)
      let end = ContinuousClock.now + .seconds(10)
      while last.contains(where: { kill($0, 0) == 0 }), .now < end { try await Task.sleep(for: .milliseconds(5)) }
      #expect(last.allSatisfy { kill($0, 0) != 0 })
      await template.close()
    }
  }

  /// How many descriptors a template has.
  private func descriptors(of template: Template) throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/\(template.processID)/fd").count
  }

  /// The template's children that live: it makes one soon, unless it does not know yet that the one before was killed.
  private func spares(of template: Template) async -> [Int32] {
    for _ in 0..<300 {
      let found = children(of: template.processID).filter { process in
        let text = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
        return text.map { !$0.contains(") Z ") } ?? false
      }
      if !found.isEmpty { return found }
      try? await Task.sleep(for: .milliseconds(1))
    }
    return []
  }

  /// The original goes on as if nothing had been: signals that come at any moment of its snapshot reach it, each once.
  @Test func signalsMeanwhileAreNotLost() async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start("late")
      let sender = Task.detached {
        var sent = 0
        while !Task.isCancelled {
          if EngineBench.queueSignal(to: program.processID, value: 0) { sent += 1 }
          try? await Task.sleep(for: .microseconds(100))
        }
        return sent
      }
      for _ in 0..<3 { _ = try await bench.snapshot(program, quiescenceLimit: .milliseconds(100)) }
      sender.cancel()
      let sent = await sender.value
      #expect(EngineBench.queueSignal(to: program.processID, value: -1))
      try RuntimeStandIn.send("go\n", to: program.connection)
      let received = try await blocking { try RuntimeStandIn.line(program.connection) }
      #expect(received == "\(sent + 1) ok")
      #expect(sent > 100)
      await program.end()
    }
  }

  /// A process that is killed at any moment of its snapshot leaves none, or a whole one.
  @Test func aProcessKilledMeanwhileLeavesNoHoles() async throws {
    try await EngineBench.use { bench in
      var failures = 0
      for delay in stride(from: 0, to: 8000, by: 400) {
        let program = try await bench.start("memory")
        let killer = Task.detached {
          // The process is stopped (t) as soon as it is frozen.
          func isStopped() -> Bool {
            let stat = try? String(contentsOfFile: "/proc/\(program.processID)/stat", encoding: .utf8)
            return stat?.contains(") t ") ?? true
          }
          while !isStopped() { usleep(50) }
          usleep(UInt32(delay))
          kill(program.processID, SIGKILL)
        }
        do {
          let snapshot = try await bench.snapshot(program)
          await killer.value
          let template = try await bench.template(snapshot.directory)
          #expect(try await bench.check(template, bench.withSeed(snapshot.directory)) == "ok", "after \(delay) us")
          await template.close()
        } catch let error as CheckpointError {
          failures += 1
          await killer.value
          #expect(error.code != .refused, "\(error)")
        }
        await program.end()
      }
      #expect(failures > 0)
    }
  }

  /// An armed clone that is killed while it waits, or the template's end, is told to whoever lets it go.
  @Test func aLostArmedCloneIsTold() async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start("signals")
      let snapshot = try await bench.snapshot(program)
      await program.end()
      let template = try await bench.template(snapshot.directory)
      let specification = bench.withSeed(snapshot.directory)
      let sandbox = try await bench.jailer.makeSandbox(specification)
      let armed = try await template.arm(into: sandbox)
      kill(armed.processID, SIGKILL)
      _ = await sandbox.waitForExit()
      await #expect(throws: RestoreError.self) { try await armed.release() }
      await sandbox.terminate()
      // Clones that wait hold the template's socket open: its end is seen all the same.
      let second = try await bench.jailer.makeSandbox(specification)
      let waiting = try await template.arm(into: second)
      kill(template.processID, SIGKILL)
      await bench.jailer.waitForTemplate(processID: template.processID)
      await #expect(throws: RestoreError.self) {
        // The end may come in while an order is under way; after it none is taken.
        while true {
          let third = try await bench.jailer.makeSandbox(specification)
          do { _ = try await template.restore(into: third) } catch {
            await third.terminate()
            throw error
          }
          await third.terminate()
        }
      }
      await #expect(throws: RestoreError.self) { try await waiting.release() }
      await second.terminate()
      await template.close()
    }
  }

  /// CPython 3.12 with an event loop, threads, SQLite and mapped memory in use.
  @Test(
    .enabled(if: EngineBench.interpreter != nil, "needs CPython 3.12 of pyenv or of the system"),
    arguments: ["interpreter.py", "family.py"])
  func interpreterComesBack(_ name: String) async throws {
    try await EngineBench.use { bench in
      let interpreter = try #require(EngineBench.interpreter)
      var specification = bench.specification
      if !interpreter.starts(with: "/usr") {
        let prefix = interpreter.removingLastComponent().removingLastComponent()
        specification.mounts.append(SandboxSpecification.Mount(source: prefix, target: prefix))
      }
      for file in ["harness.py", name] { try bench.copy(file) }
      let program = try await bench.start(
        arguments: [interpreter.string, "/var/task/\(name)"], specification: specification)
      try await comesBack(program, bench, specification)
    }
  }

  /// Freezes a program, restores it three times at once, and asks each clone; then four times with its working set
  /// copied ahead, two of them armed.
  private func comesBack(
    _ program: HeldProgram, _ bench: EngineBench, _ specification: SandboxSpecification,
    quiescenceLimit: Duration = .seconds(10)
  ) async throws {
    let snapshot = try await bench.snapshot(program, quiescenceLimit: quiescenceLimit)
    #expect(snapshot.manifest.warnings.contains { $0.contains("still busy") } == (quiescenceLimit < .seconds(1)))
    await program.end()
    let template = try await bench.template(snapshot.directory, specification)
    let seeded = bench.withSeed(snapshot.directory, specification)
    let replies = try await withThrowingTaskGroup(of: String.self) { group in
      for _ in 0..<3 { group.addTask { try await bench.check(template, seeded) } }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(replies == ["ok", "ok", "ok"])
    template.use(try await bench.recordWorkingSet(template, seeded, snapshot.manifest))
    #expect(template.workingSet?.bytes ?? 0 > 0)
    let later = try await withThrowingTaskGroup(of: String.self) { group in
      for number in 0..<4 {
        group.addTask { try await bench.check(template, seeded, arming: number.isMultiple(of: 2)) }
      }
      return try await group.reduce(into: []) { $0.append($1) }
    }
    #expect(later == ["ok", "ok", "ok", "ok"])
    // One after the other: the template has made a spare meanwhile, which has the pages that are written.
    for _ in 0..<4 {
      #expect(try await bench.check(template, seeded) == "ok")
      if let workingSet = template.workingSet { template.use(workingSet) }
    }
    await template.close()
  }

  /// What cannot be brought back is refused with a message that names it.
  @Test(arguments: [
    ("stopped", "is stopped by a signal"), ("vfork", "waits in the kernel"), ("memory", "share their memory"),
    ("table", "share their descriptors"), ("session", "in which its parent"),
    ("inotify", "no path leads to"), ("pidfd", "has been waited for"), ("hugetlb", "hugetlb"),
    ("directory", "current directory"),
    ("fifo", "nobody can read"), ("lostfifo", "not a regular file"), ("filter", "socket filter"),
    ("secret", "secretmem"), ("sysv", "System V shared memory"), ("semaphore", "System V semaphore"),
    ("linked", "has another name"), ("shmdir", "/dev/shm/directory"),
    ("unsent", "carries descriptors"), ("sender", "who sent"), ("named", "nobody knows who sent"),
    ("lease", "a lock of kind LEASE"), ("threadtimer", "counts the CPU time of a thread"),
  ])
  func isRefused(_ what: String, _ expected: String) async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start("refused", arguments: [what])
      await #expect {
        _ = try await bench.snapshot(program)
      } throws: { error in
        (error as? CheckpointError)?.code == .refused && "\(error)".contains(expected)
      }
      await program.end()
    }
  }

  /// Original and clone, frozen at the same instruction and compared: every value of the kernel's and every byte of
  /// memory. The clone is not the first one: it is made of a spare that has the pages that are written. The differences that
  /// there may be: inode numbers of pipes and sockets, the rseq areas, in which the kernel notes on which CPU a
  /// thread runs, memory that a fork wipes, and pages of files that are the template's own copies.
  @Test(arguments: [
    "threads", "signals", "descriptors", "timers", "pending", "shared", "sockets", "files", "held", "many",
    "tree", "kin",
  ])
  func cloneEqualsOriginal(_ name: String) async throws {
    try await EngineBench.use { bench in
      let program = try await bench.start(name)
      let original = try await bench.snapshot(program)
      await program.end()
      let template = try await bench.template(original.directory)
      let seeded = bench.withSeed(original.directory)
      if name == "many" {
        // By the time that a clone has answered, what the others wait for is over: this is the first one, and not watched.
        template.use(WorkingSet(written: [], read: []))
      } else {
        template.use(try await bench.recordWorkingSet(template, seeded, original.manifest))
        for _ in 0..<2 { #expect(try await bench.check(template, seeded) == "ok") }
      }
      let sandbox = try await bench.jailer.makeSandbox(seeded)
      let connection = try await blocking { try RuntimeStandIn.accept(sandbox, port: sandbox.connectionPort) }
      let process = try await template.restore(into: sandbox)
      let clone = HeldProgram(
        sandbox: sandbox, processID: process.processID, connection: connection, port: sandbox.connectionPort, others: []
      )
      let copy = try await bench.snapshot(clone)
      #expect(original.manifest.processes.count == copy.manifest.processes.count)
      #expect(original.manifest.zombies == copy.manifest.zombies)
      for (process, other) in zip(sorted(original.manifest), sorted(copy.manifest)) { compare(process, other) }
      #expect(comparable(original.manifest.objects) == comparable(copy.manifest.objects))
      let areEqual = comparable(original.manifest) == comparable(copy.manifest)
      #expect(areEqual)
      #expect(original.manifest.compatibility == copy.manifest.compatibility)
      let before = try pages(original)
      let after = try pages(copy)
      let kept = Set(
        original.manifest.processes.flatMap { process in
          process.threads.compactMap { thread in
            thread.restartableSequence.map { Place(process: process.processID, address: $0.address / 4096 * 4096) }
          }
            + process.mappings.filter { $0.flags.contains(.wipeOnFork) }.flatMap { mapping in
              stride(from: mapping.start, to: mapping.end, by: 4096).map {
                Place(process: process.processID, address: $0)
              }
            }
        })
      // A page that only the clone has stored must be the template's copy of the file's.
      let areOwnCopies = try after.filter { before[$0.key] == nil && !kept.contains($0.key) }
        .allSatisfy { try bench.fileBytes(of: original.manifest, at: $0.key.address) == $0.value }
      #expect(areOwnCopies)
      let different = before.keys.filter { before[$0] != after[$0] && !kept.contains($0) }
      #expect(different.isEmpty, "\(different.map { "\($0.process): " + String($0.address, radix: 16) }.sorted())")
      #expect(before.count > 10)
      await clone.end()
      await template.close()
    }
  }

  /// Field by field, for a readable failure.
  private func compare(_ process: ProcessState, _ copy: ProcessState) {
    for (one, other) in zip(process.threads, copy.threads) {
      for register in Registers.Name.allCases where one.registers[register] != other.registers[register] {
        Issue.record(
          "thread \(one.threadID): \(register) is \(one.registers[register]), in the clone \(other.registers[register])"
        )
      }
    }
    var names: [UInt64: UInt64] = [0: 0]
    var otherNames = names
    for (one, other) in zip(
      Mirror(reflecting: comparable(process, &names)).children,
      Mirror(reflecting: comparable(copy, &otherNames)).children)
    where "\(one.value)" != "\(other.value)" {
      let difference =
        zip("\(one.value)", "\(other.value)").enumerated().first { $0.element.0 != $0.element.1 }?.offset ?? 0
      func around(_ value: Any) -> Substring { "\(value)".dropFirst(max(0, difference - 120)).prefix(240) }
      Issue.record(
        "\(one.label ?? "") of process \(process.processID): \(around(one.value)), in the clone \(around(other.value))")
    }
  }

  private func comparable(_ manifest: SnapshotManifest) -> [ProcessState] {
    var names: [UInt64: UInt64] = [0: 0]
    return sorted(manifest).map { comparable($0, &names) }
  }

  /// By process id, for orphans come in no certain order; places in that order become ids.
  private func sorted(_ manifest: SnapshotManifest) -> [ProcessState] {
    manifest.processes.sorted { $0.processID < $1.processID }.map { process in
      var process = process
      for index in process.descriptors.indices {
        guard let origin = process.descriptors[index].origin else { continue }
        process.descriptors[index].origin?.process = manifest.processes[Int(origin.process)].processID
      }
      return process
    }
  }

  private func comparable(_ objects: [SharedObject]) -> [SharedObject] {
    objects.map { object in
      var object = object
      object.extents = []
      return object
    }
  }

  /// A process's state without what is new in every clone: identities of pipes and sockets become numbers of
  /// descriptors, those of the processes before it included.
  private func comparable(_ process: ProcessState, _ names: inout [UInt64: UInt64]) -> ProcessState {
    var result = process
    let base = UInt64(process.processID) * 10_000_000
    func name(_ identity: UInt64, _ number: UInt32) -> UInt64 {
      names[identity, default: base + UInt64(number)]
    }
    for descriptor in process.descriptors {
      switch descriptor.kind {
      case .fifo(_, let pipe, _, _): names[pipe] = name(pipe, descriptor.number)
      case .pipe(let pipe, _, _, _): names[pipe] = name(pipe, descriptor.number)
      case .socketPair(let socket, _, _, _, _): names[socket] = name(socket, descriptor.number)
      default: break
      }
    }
    // Time goes on for timers: what is left of it is not compared, but that there is some is.
    func armed(_ setting: [UInt64]) -> [UInt64] { Array(setting[..<2]) + [setting[2] + setting[3] > 0 ? 1 : 0, 0] }
    result.descriptors = process.descriptors.map { descriptor in
      var descriptor = descriptor
      // A connection that comes back closed is one over IPv4, which has no options of IPv6.
      if descriptor.kind == .closedConnection { descriptor.socketOptions.removeAll { $0.level == 41 } }
      // The jailer sets TCP_NODELAY for the connection that every clone is given.
      if descriptor.kind == .supplied(.connection) {
        descriptor.socketOptions.removeAll { $0.level == 6 && $0.name == 1 }
      }
      switch descriptor.kind {
      case .pipe(let pipe, let writes, let waiting, let capacity):
        descriptor.kind = .pipe(pipe: names[pipe] ?? 0, writes: writes, waiting: waiting, capacity: capacity)
      case .socketPair(let socket, let peer, let type, let waiting, let shutdown):
        // The end that is closed has no descriptor, and so no name.
        descriptor.kind = .socketPair(
          socket: names[socket] ?? 0, peer: names[peer] ?? 0, type: type, waiting: waiting, shutdown: shutdown)
      case .fifo(let path, let pipe, let waiting, let capacity):
        descriptor.kind = .fifo(path: path, pipe: names[pipe] ?? 0, waiting: waiting, capacity: capacity)
      case .epoll(let entries):
        // The kernel lists them by the addresses of its own objects.
        descriptor.kind = .epoll(entries.sorted { $0.target < $1.target })
      // Every process has opened its own.
      case .process: descriptor.origin = nil
      case .timer(var timer):
        timer.setting = armed(timer.setting)
        // Absolute times come back as the time that remained, but for those of the wall clock.
        if timer.clock != 0 { timer.flags = 0 }
        timer.expirations = min(timer.expirations, 1)
        descriptor.kind = .timer(timer)
      default: break
      }
      return descriptor
    }
    result.mappings = process.mappings.map { mapping in
      var mapping = mapping
      mapping.extents = []
      return mapping
    }
    // XSTATE_BV at 512: which vector components the processor found in their initial state. Their bytes are compared all the same.
    for index in result.threads.indices {
      result.threads[index].vectorState.replaceSubrange(512..<520, with: [UInt8](repeating: 0, count: 8))
    }
    result.intervalTimers = process.intervalTimers.map(armed)
    for index in result.timers.indices { result.timers[index].setting = armed(result.timers[index].setting) }
    return result
  }

  /// Where a stored page belongs: in a process, or (at its offset) in an object, whose number comes after all theirs.
  private struct Place: Hashable {
    var process: UInt32
    var address: UInt64
  }

  /// Every stored page.
  private func pages(
    _ snapshot: (directory: FilePath, manifest: SnapshotManifest, timings: CheckpointTimings)
  ) throws -> [Place: Data] {
    let image = try Data(contentsOf: URL(fileURLWithPath: snapshot.directory.appending("image").string))
    var pages: [Place: Data] = [:]
    func add(_ extents: [Mapping.Extent], _ process: UInt32) {
      for extent in extents {
        for offset in stride(from: 0, to: extent.length, by: 4096) {
          let start = Int(extent.imageOffset + offset)
          pages[Place(process: process, address: extent.start + offset)] = image[start..<start + 4096]
        }
      }
    }
    let manifest = snapshot.manifest
    for process in manifest.processes {
      for mapping in process.mappings { add(mapping.extents, process.processID) }
    }
    for (index, object) in manifest.objects.enumerated() {
      add(object.extents, (1 << 30) + UInt32(index))
    }
    return pages
  }
}
