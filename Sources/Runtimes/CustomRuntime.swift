internal import Linux
internal import SystemPackage

/// provided.al2 and provided.al2023: the function brings its own runtime, an executable named `bootstrap`.
///
/// AWS Lambda Developer Guide, "Building a custom runtime for AWS Lambda".
struct CustomRuntime: RuntimeDefinition {
  var identifier: String

  static var all: [any RuntimeDefinition] {
    ["provided.al2", "provided.al2023"].map { CustomRuntime(identifier: $0) }
  }

  var remedy: String { "put an executable file named bootstrap at the top of the function's archive" }

  func interpreter(on host: RuntimeHost) -> FilePath? { CustomRuntime.bootstrap }

  func isInstalled(on host: RuntimeHost) -> Bool { true }

  func bundle(on host: RuntimeHost) async throws(RuntimeBundleError) -> RuntimeBundle {
    RuntimeBundle(identifier: identifier, mounts: [], summary: "the function's own \(CustomRuntime.bootstrap)") {
      function throws(RuntimeLaunchError) in
      try CustomRuntime.check(function.codeDirectory.appending("bootstrap"))
      return RuntimeLaunch(arguments: [CustomRuntime.bootstrap.string], environment: function.environment)
    }
  }

  private static let bootstrap: FilePath = "/var/task/bootstrap"

  /// What Lambda says of a bootstrap that cannot be started.
  private static func check(_ path: FilePath) throws(RuntimeLaunchError) {
    func invalid(_ text: String) -> RuntimeLaunchError {
      RuntimeLaunchError(type: "Runtime.InvalidEntrypoint", message: text)
    }
    guard let status = try? FileStatus(path: path.string), status.kind != .directory else {
      throw invalid("Couldn't find valid bootstrap(s): [\(bootstrap) /opt/bootstrap]")
    }
    guard RuntimeHost.isExecutable(path) else { throw invalid("fork/exec \(bootstrap): permission denied") }
  }
}
