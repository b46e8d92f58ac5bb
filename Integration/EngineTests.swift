import Checkpoint
import Foundation
import Restore
import Sandbox
import SnapshotFormat
import SystemPackage
import Testing

/// Real processes that hold something, are frozen, restored by three clones at once, and check themselves in each.
@Suite(
  "Engine", .serialized,
  .enabled(if: EngineBench.isPossible, "needs root and thaw-jailer and thaw-restorer (make native; THAW_BIN names their directory)"))
struct EngineTests {
  @Test(arguments: ["threads", "signals", "descriptors", "memory"])
  func comesBack(_ name: String) async throws {
    let bench = try await EngineBench()
    do {
      let program = try await bench.start(name)
      let snapshot = try await bench.snapshot(program)
      await program.end()
      let template = try await bench.template(snapshot.directory)
      let specification = bench.withSeed(snapshot.directory)
      let replies = try await withThrowingTaskGroup(of: String.self) { group in
        for _ in 0..<3 { group.addTask { try await bench.check(template, specification) } }
        return try await group.reduce(into: []) { $0.append($1) }
      }
      #expect(replies == ["ok", "ok", "ok"])
      await template.close()
    } catch {
      await bench.end()
      throw error
    }
    await bench.end()
  }
}
