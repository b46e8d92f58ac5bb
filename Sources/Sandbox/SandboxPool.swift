public import Logging

/// Keeps a few blank sandboxes ready for each specification that was used lately.
public actor SandboxPool {
  /// A pool that keeps up to `target` blank sandboxes for each of the `specifications` used last.
  public init(jailer: Jailer, target: Int = 4, specifications: Int = 16, logger: Logger) {}

  /// A blank sandbox: a waiting one, else a new one. The pool refills in the background.
  public func acquire(_ specification: SandboxSpecification) async throws -> Sandbox { fatalError("not built yet") }

  /// Makes blank sandboxes for a specification ahead of need.
  public func warm(_ specification: SandboxSpecification) {}

  /// Gives up the waiting sandboxes of a specification that will not be used again.
  public func forget(_ specification: SandboxSpecification) async {}

  /// Ends all waiting sandboxes; `acquire` throws from here on.
  public func shutdown() async {}
}
