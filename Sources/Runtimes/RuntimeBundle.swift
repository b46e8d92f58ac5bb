public import SystemPackage

/// A runtime that is ready to be started: what must be visible in a sandbox, and how to start it.
public struct RuntimeBundle: Sendable {
  /// Lambda's identifier, such as `python3.12`.
  public var identifier: String
  /// Host directories to show inside, read-only.
  public var mounts: [(source: FilePath, target: FilePath)]
  /// The program and its arguments before the handler.
  public var command: [String]
  /// Variables that the runtime itself needs.
  public var environment: [String: String]

  /// The whole command line for a handler.
  public func arguments(handler: String) -> [String] { command + [handler] }
}

/// Why a runtime cannot be used here.
public struct RuntimeBundleError: Error, Sendable, CustomStringConvertible {
  /// What is missing, and the remedy.
  public var message: String
  public var description: String { message }
}

/// A kind of runtime: where its interpreter is looked for and what is installed for it.
public struct RuntimeDefinition: Sendable {
  /// Lambda's identifier.
  public var identifier: String
  /// The interpreter's version, such as `3.12`.
  public var version: String
  /// Packages of PyPI that make an interpreter a Lambda runtime, pinned.
  public var packages: [String]

  /// All runtimes that Thaw can run.
  public static let all: [RuntimeDefinition] = ["3.12", "3.13"].map {
    RuntimeDefinition(
      identifier: "python\($0)", version: $0, packages: ["awslambdaric==4.2.2", "snapshot-restore-py==1.0.0"])
  }

  /// The runtime of that identifier, if Thaw can run it.
  public static func find(_ identifier: String) -> RuntimeDefinition? { all.first { $0.identifier == identifier } }
}
