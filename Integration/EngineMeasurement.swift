import Checkpoint
import Foundation
import Restore
import Sandbox
import SnapshotFormat
import SystemPackage
import Testing

/// The engine's own speed, without anything of Lambda's: run by `make bench`, which sets THAW_ENGINE_BENCH to a
/// JSON list of programs.
@Suite("Engine measurement", .serialized, .enabled(if: ProcessInfo.processInfo.environment["THAW_ENGINE_BENCH"] != nil))
struct EngineMeasurement {
  struct Subject: Codable {
    var name: String
    /// Unpacked code, with the module `app`.
    var code: String
    var interpreter: String
    var prefix: String
    /// The directory with engine_server.py.
    var server: String
    var rounds: Int
  }

  struct Figures: Codable {
    var name: String
    /// Microseconds from the order to the first byte of the clone's reply, cloned from the template.
    var restore: [Double]
    /// The same for a clone that was armed: from the order to run.
    var armed: [Double]
    /// Microseconds from before fork() of the same warm process to the first byte of its child's reply, in turn
    /// with the restores.
    var fork: [Double]
    /// Medians of the steps of a restore from the template, microseconds.
    var steps: [String: Double]
    /// Bytes that every clone copies ahead of need.
    var workingSet: UInt64
  }

  @Test func orderToReply() async throws {
    let text = ProcessInfo.processInfo.environment["THAW_ENGINE_BENCH"] ?? "[]"
    for subject in try JSONDecoder().decode([Subject].self, from: Data(text.utf8)) {
      let bench = try await EngineBench()
      do {
        let figures = try await measure(subject, bench)
        print("ENGINE \(String(decoding: try JSONEncoder().encode(figures), as: UTF8.self))")
      } catch {
        await bench.end()
        throw error
      }
      await bench.end()
    }
  }

  private func measure(_ subject: Subject, _ bench: EngineBench) async throws -> Figures {
    var specification = SandboxSpecification(
      mounts: [
        SandboxSpecification.Mount(source: FilePath(subject.code), target: "/var/task"),
        SandboxSpecification.Mount(source: FilePath(subject.server), target: "/opt"),
      ], memoryBytes: 2 << 30)
    if !subject.prefix.hasPrefix("/usr") {
      specification.mounts.append(
        SandboxSpecification.Mount(source: FilePath(subject.prefix), target: FilePath(subject.prefix)))
    }
    let program = try await bench.start(
      arguments: [subject.interpreter, "/opt/engine_server.py", "app"], specification: specification)
    let snapshot = try await bench.snapshot(program)
    let template = try await bench.template(snapshot.directory, specification)
    let seeded = bench.withSeed(snapshot.directory, specification)
    var figures = Figures(name: subject.name, restore: [], armed: [], fork: [], steps: [:], workingSet: 0)
    // The first clone shows which pages are written, as in the fleet.
    let first = try await start(template, in: seeded, bench) { process in
      template.use(try WorkingSet(usedBy: process.processID, of: snapshot.manifest))
    }
    try #require(first.timings.wasArmed == false)
    figures.workingSet = template.workingSet?.bytes ?? 0
    var steps: [String: [Double]] = [:]
    for _ in 0..<subject.rounds {
      let restored = try await start(template, in: seeded, bench)
      figures.restore.append(restored.microseconds)
      let timings = restored.timings
      for (name, time) in [
        ("cloned", timings.cloned), ("entered", timings.entered), ("mapped", timings.mapped),
        ("instance", timings.instance),
        ("threads", timings.threads), ("done", timings.done),
      ] { steps[name, default: []].append(time / .microseconds(1)) }
      figures.armed.append(try await start(template, in: seeded, bench, arming: true).microseconds)
      try RuntimeStandIn.send("fork 1\n", to: program.connection)
      let reply = try await blocking { try RuntimeStandIn.line(program.connection) }
      let forked = try JSONDecoder().decode([String: [Double]].self, from: Data(reply.utf8))
      figures.fork += forked["fork_us"] ?? []
    }
    figures.steps = steps.mapValues { $0.sorted()[$0.count / 2] }
    await template.close()
    await program.end()
    return figures
  }

  /// One start in a blank sandbox, from the order to the first byte of the reply.
  private func start(
    _ template: Template, in specification: SandboxSpecification, _ bench: EngineBench, arming: Bool = false,
    afterwards: (RestoredProcess) throws -> Void = { _ in }
  ) async throws -> (microseconds: Double, timings: RestoreTimings) {
    let sandbox = try await bench.jailer.makeSandbox(specification)
    let connection = try await blocking { try RuntimeStandIn.accept(sandbox, port: sandbox.connectionPort) }
    try RuntimeStandIn.send("go\n", to: connection)
    let armed = arming ? try await template.arm(into: sandbox) : nil
    async let replied = blocking { () -> ContinuousClock.Instant in
      var item = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
      guard poll(&item, 1, 20000) == 1 else { throw EngineBenchError("no reply") }
      return .now
    }
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
}
