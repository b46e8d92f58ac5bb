import Checkpoint
import Foundation
import Restore
import Sandbox
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
    /// Microseconds from the order to the first byte of the clone's reply.
    var restore: [Double]
    /// Microseconds from before fork() of the same warm process to the first byte of its child's reply, in turn
    /// with the restores.
    var fork: [Double]
    /// Medians of the steps of a restore, microseconds.
    var steps: [String: Double]
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
    var figures = Figures(name: subject.name, restore: [], fork: [], steps: [:])
    var steps: [String: [Double]] = [:]
    for _ in 0..<subject.rounds {
      let sandbox = try await bench.jailer.makeSandbox(seeded)
      let connection = try await blocking { try RuntimeStandIn.accept(sandbox, port: sandbox.connectionPort) }
      try RuntimeStandIn.send("go\n", to: connection)
      async let replied = blocking { () -> ContinuousClock.Instant in
        var item = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
        guard poll(&item, 1, 20000) == 1 else { throw EngineBenchError("no reply") }
        return .now
      }
      // The reader is in poll(2) before the order is given.
      try await Task.sleep(for: .milliseconds(5))
      let ordered = ContinuousClock.now
      let process = try await template.restore(into: sandbox)
      figures.restore.append((try await replied - ordered) / .microseconds(1))
      for (name, time) in [
        ("cloned", process.timings.cloned), ("mapped", process.timings.mapped), ("instance", process.timings.instance),
        ("threads", process.timings.threads), ("done", process.timings.done),
      ] { steps[name, default: []].append(time / .microseconds(1)) }
      try connection.close()
      await sandbox.terminate()
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
}
