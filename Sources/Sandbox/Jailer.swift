public import Logging
public import SystemPackage

/// The client of the jailer process, which is the only part with privileges over namespaces, mounts and cgroups.
public final class Jailer: Sendable {
  init() { fatalError("see launch") }

  /// Starts the jailer and waits for its greeting.
  public static func launch(executable: FilePath, logger: Logger) async throws -> Jailer { fatalError("not built yet") }

  /// Makes one blank sandbox.
  public func makeSandbox(_ specification: SandboxSpecification) async throws -> Sandbox { fatalError("not built yet") }

  /// Starts `executable` (a static program) as root in a new mount namespace that looks like a sandbox's with this specification, but in the
  /// jailer's own pid namespace, with `descriptors` as its descriptors 0, 1, 2... Answers its process id. It is killed when the jailer ends.
  public func startTemplate(
    executable: FilePath, specification: SandboxSpecification, descriptors: [FileDescriptor]
  ) async throws -> Int32 { fatalError("not built yet") }

  /// Kills a template process and waits for its end.
  public func endTemplate(processID: Int32) async {}

  /// Ends every sandbox and template, and the jailer.
  public func shutdown() async {}
}
