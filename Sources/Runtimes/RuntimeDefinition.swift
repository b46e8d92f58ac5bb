internal import SystemPackage

/// A runtime that Thaw knows: where its interpreter is looked for, what is installed for it, how functions are
/// started with it. One file for each family.
protocol RuntimeDefinition: Sendable {
  /// Lambda's identifier, such as `python3.12`.
  var identifier: String { get }
  /// What to do when there is no interpreter: a sentence without its end.
  var remedy: String { get }
  /// The interpreter that would be used; nothing is run or changed. Nil if there is none.
  func interpreter(on host: RuntimeHost) -> FilePath?
  /// Whether nothing is left to be installed.
  func isInstalled(on host: RuntimeHost) -> Bool
  /// Makes the runtime ready, installing what is missing.
  func bundle(on host: RuntimeHost) async throws(RuntimeBundleError) -> RuntimeBundle
}

/// The runtimes that Thaw can run.
enum KnownRuntimes {
  static let all: [any RuntimeDefinition] =
    PythonRuntime.all + JavaRuntime.all + DotnetRuntime.all + CustomRuntime.all

  static func find(_ identifier: String) -> (any RuntimeDefinition)? { all.first { $0.identifier == identifier } }
}
