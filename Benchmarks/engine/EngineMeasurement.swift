import Checkpoint
import EngineHarness
import Foundation
import Restore
import Sandbox
import SnapshotFormat
import SystemPackage

/// The engine's own speed, without anything of Lambda's: `make bench` runs it with a JSON list of subjects on standard
/// input, and reads a line of JSON for each.
@main
struct EngineMeasurement {
  struct Subject: Codable {
    var name: String
    /// The program and its arguments inside the sandbox. It answers each "go" with a line, and "fork 1" with JSON.
    var arguments: [String]
    /// Whether it cannot fork itself, as virtual machines of many threads cannot.
    var cannotFork: Bool?
    /// Other ways of starting it, each by name: the same program without having done anything before.
    var cold: [String: [String]]?
    /// Host directories shown inside, as source and target.
    var mounts: [[String]]
    var rounds: Int
    /// Clones that are there beside the measured ones.
    var alive: Int
    /// Snapshots that are taken in turn with writing as many bytes to the same disk; nothing else is measured then.
    var snapshots: Int?
  }

  struct Figures: Codable {
    var name: String
    /// Microseconds from the order to the first byte of the clone's reply, from the template, which had time to make a
    /// spare.
    var restore: [Double]
    /// The same for the second of two clones that are ordered at once, while the first one has the spare.
    var second: [Double] = []
    /// The same for a clone that was armed: from the order to run.
    var armed: [Double]
    /// Microseconds from before fork() of the same warm process to the first byte of its child's reply, in turn
    /// with the restores.
    var fork: [Double]
    /// The same for each cold start: from the order to start the program to the first byte of its first reply.
    var cold: [String: [Double]] = [:]
    /// Medians of the steps of a restore from the template, microseconds.
    var steps: [String: Double]
    /// Bytes that every clone has of its own ahead of need.
    var workingSet: UInt64
    /// Bytes of the image, and milliseconds, for each snapshot: how long the process stood still for it, until it was on
    /// the disk; and how long as many bytes took.
    var image: UInt64
    var frozen: [Double] = []
    var taken: [Double] = []
    var written: [Double] = []
    /// Milliseconds that the template took, checksums included.
    var template: Double
    /// Proportional set size of an idle clone beside the others, in bytes.
    var clonePSS: Double
  }

  static func main() async throws {
    guard EngineBench.isPossible else {
      throw EngineBenchError("needs root, and thaw-jailer and thaw-restorer in $THAW_BIN (make native)")
    }
    let input = FileHandle.standardInput.readDataToEndOfFile()
    for subject in try JSONDecoder().decode([Subject].self, from: input) {
      try await EngineBench.use { bench in
        let figures = try await EngineMeasurement().measure(subject, bench)
        print(String(decoding: try JSONEncoder().encode(figures), as: UTF8.self))
        fflush(nil)
      }
    }
  }

  private func measure(_ subject: Subject, _ bench: EngineBench) async throws -> Figures {
    let specification = SandboxSpecification(
      mounts: subject.mounts.map {
        SandboxSpecification.Mount(source: FilePath($0[0]), target: FilePath($0[1]))
      }, memoryBytes: 4 << 30)
    let program = try await bench.start(arguments: subject.arguments, specification: specification)
    if let count = subject.snapshots {
      let figures = try await measureSnapshots(count, of: program, named: subject.name, bench)
      await program.end()
      return figures
    }
    let snapshot = try await bench.snapshot(program)
    let building = ContinuousClock.now
    let template = try await bench.template(snapshot.directory, specification)
    let built = ContinuousClock.now - building
    let seeded = bench.withSeed(snapshot.directory, specification)
    var figures = Figures(
      name: subject.name, restore: [], armed: [], fork: [], steps: [:], workingSet: 0,
      image: snapshot.manifest.imageBytes, template: built / .milliseconds(1), clonePSS: 0)
    figures.add(snapshot.timings)
    // The first clone shows which pages are written, as in the fleet.
    let first = try await start(template, in: seeded, bench) { process in
      template.use(try WorkingSet(usedBy: process.processID, of: snapshot.manifest))
    }
    precondition(!first.timings.wasArmed)
    figures.workingSet = template.workingSet?.bytes ?? 0
    var steps: [String: [Double]] = [:]
    var alive: [(sandbox: Sandbox, connection: FileDescriptor, process: RestoredProcess)] = []
    for _ in 0..<subject.alive { alive.append(try await begin(template, in: seeded, bench)) }
    figures.clonePSS = try alive.first.map { try PageUse.proportional(of: $0.process.processID) } ?? 0
    for _ in 0..<subject.rounds {
      let restored = try await start(template, in: seeded, bench)
      figures.restore.append(restored.microseconds)
      let timings = restored.timings
      for (name, time) in [
        ("cloned", timings.cloned), ("entered", timings.entered), ("mapped", timings.mapped),
        ("instance", timings.instance),
        ("threads", timings.threads), ("done", timings.done),
      ] { steps[name, default: []].append(time / .microseconds(1)) }
      figures.second.append(try await startTwo(template, in: seeded, bench))
      figures.armed.append(try await start(template, in: seeded, bench, arming: true).microseconds)
      for (name, arguments) in subject.cold ?? [:] {
        figures.cold[name, default: []].append(try await startCold(arguments, in: specification, bench))
      }
      guard subject.cannotFork != true else { continue }
      try RuntimeStandIn.send("fork 1\n", to: program.connection)
      let reply = try await blocking { try RuntimeStandIn.line(program.connection) }
      let forked = try JSONDecoder().decode([String: [Double]].self, from: Data(reply.utf8))
      figures.fork += forked["fork_us"] ?? []
    }
    figures.steps = steps.mapValues { $0.sorted()[$0.count / 2] }
    for clone in alive {
      // They all still answer.
      try RuntimeStandIn.send("go\n", to: clone.connection)
      _ = try await blocking { try RuntimeStandIn.line(clone.connection) }
      try clone.connection.close()
      await clone.sandbox.terminate()
    }
    await template.close()
    await program.end()
    return figures
  }

  private func measureSnapshots(
    _ count: Int, of program: HeldProgram, named name: String, _ bench: EngineBench
  ) async throws -> Figures {
    var figures = Figures(
      name: name, restore: [], armed: [], fork: [], steps: [:], workingSet: 0, image: 0, template: 0, clonePSS: 0)
    // Nothing that a disk could make smaller: numbers of a xorshift generator.
    var state = UInt64.random(in: 1 ... .max)
    let pattern = (0..<(64 << 20) / 8).map { _ in
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      return state
    }
    for _ in 0..<count {
      sync()
      let snapshot = try await bench.snapshot(program)
      figures.add(snapshot.timings)
      figures.image = snapshot.manifest.imageBytes
      try FileManager.default.removeItem(atPath: snapshot.directory.string)
      sync()
      figures.written.append(
        try pattern.withUnsafeBytes { try writeDurably($0, Int(figures.image), in: bench.directory) })
    }
    return figures
  }

  /// Milliseconds to write as many bytes to a new file and have them on the disk, its name too.
  private func writeDurably(
    _ pattern: UnsafeRawBufferPointer, _ count: Int, in directory: FilePath
  ) throws -> Double {
    let path = directory.appending("written")
    let begin = ContinuousClock.now
    let file = try FileDescriptor.open(
      path, .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: .ownerReadWrite)
    var done = 0
    while done < count {
      let start = done % pattern.count
      let piece = pattern[start..<(start + min(1 << 20, count - done, pattern.count - start))]
      done += try file.writeAll(UnsafeRawBufferPointer(rebasing: piece))
    }
    guard fsync(file.rawValue) == 0 else { throw EngineBenchError("fsync: \(errno)") }
    try file.close()
    let parent = try FileDescriptor.open(directory, .readOnly, options: .closeOnExec)
    guard fsync(parent.rawValue) == 0 else { throw EngineBenchError("fsync: \(errno)") }
    try parent.close()
    let time = (ContinuousClock.now - begin) / .milliseconds(1)
    try FileManager.default.removeItem(atPath: path.string)
    return time
  }

  /// One start in a blank sandbox, from the order to the first byte of the reply.
  private func start(
    _ template: Template, in specification: SandboxSpecification, _ bench: EngineBench, arming: Bool = false,
    afterwards: (RestoredProcess) throws -> Void = { _ in }
  ) async throws -> (microseconds: Double, timings: RestoreTimings) {
    let (sandbox, connection) = try await ready(specification, bench)
    let armed = arming ? try await template.arm(into: sandbox) : nil
    async let replied = reply(connection)
    // The reader is in poll(2) before the order is given.
    try await Task.sleep(for: .milliseconds(5))
    let ordered = ContinuousClock.now
    let process =
      if let armed { try await armed.release() } else { try await template.restore(into: sandbox) }
    let time = (try await replied - ordered) / .microseconds(1)
    try afterwards(process)
    try connection.close()
    await sandbox.terminate()
    return (time, process.timings)
  }

  /// Two starts that are ordered at once: microseconds until the later one has replied.
  private func startTwo(
    _ template: Template, in specification: SandboxSpecification, _ bench: EngineBench
  ) async throws -> Double {
    let (first, connection) = try await ready(specification, bench)
    let (second, otherConnection) = try await ready(specification, bench)
    async let replied = (reply(connection), reply(otherConnection))
    try await Task.sleep(for: .milliseconds(5))
    let ordered = ContinuousClock.now
    async let restored = template.restore(into: first)
    _ = try await (template.restore(into: second), restored)
    let times = try await replied
    for connection in [connection, otherConnection] { try connection.close() }
    for sandbox in [first, second] { await sandbox.terminate() }
    return (max(times.0, times.1) - ordered) / .microseconds(1)
  }

  /// A blank sandbox, and the connection on which the program that will be in it has been told to do its work.
  private func ready(
    _ specification: SandboxSpecification, _ bench: EngineBench
  ) async throws -> (sandbox: Sandbox, connection: FileDescriptor) {
    let sandbox = try await bench.jailer.makeSandbox(specification)
    let connection = try await blocking { try RuntimeStandIn.accept(sandbox, port: sandbox.connectionPort) }
    try RuntimeStandIn.send("go\n", to: connection)
    return (sandbox, connection)
  }

  /// When the first byte of the reply came.
  private func reply(_ connection: FileDescriptor) async throws -> ContinuousClock.Instant {
    try await blocking {
      var item = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
      guard poll(&item, 1, 20000) == 1 else { throw EngineBenchError("no reply") }
      return .now
    }
  }

  /// A cold start in a blank sandbox, from the order to the first byte of the reply.
  private func startCold(
    _ arguments: [String], in specification: SandboxSpecification, _ bench: EngineBench
  ) async throws -> Double {
    let sandbox = try await bench.jailer.makeSandbox(specification)
    let ordered = ContinuousClock.now
    let program = try await bench.start(arguments: arguments, in: sandbox)
    try RuntimeStandIn.send("go\n", to: program.connection)
    _ = try await blocking { try RuntimeStandIn.line(program.connection) }
    let time = (ContinuousClock.now - ordered) / .microseconds(1)
    await program.end()
    return time
  }

  /// A clone that has answered once and waits.
  private func begin(
    _ template: Template, in specification: SandboxSpecification, _ bench: EngineBench
  ) async throws -> (sandbox: Sandbox, connection: FileDescriptor, process: RestoredProcess) {
    let (sandbox, connection) = try await ready(specification, bench)
    let process = try await template.restore(into: sandbox)
    _ = try await blocking { try RuntimeStandIn.line(connection) }
    return (sandbox, connection, process)
  }
}

extension EngineMeasurement.Figures {
  fileprivate mutating func add(_ timings: CheckpointTimings) {
    frozen.append(timings.frozen / .milliseconds(1))
    taken.append((timings.total - timings.quiesce) / .milliseconds(1))
  }
}

private enum PageUse {
  /// The Pss: line of smaps_rollup, in bytes.
  static func proportional(of process: Int32) throws -> Double {
    let text = try String(contentsOfFile: "/proc/\(process)/smaps_rollup", encoding: .utf8)
    let line = text.split(separator: "\n").first { $0.hasPrefix("Pss:") }
    return (line?.split(separator: " ").dropFirst().first).flatMap { Double($0) }.map { $0 * 1024 } ?? 0
  }
}
