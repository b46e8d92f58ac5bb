internal import Linux
internal import SystemPackage

/// python3.12 and python3.13: an interpreter of this host, with AWS's runtime interface client from PyPI, started by
/// Thaw's bootstrap (Bootstraps/python), which reseeds generators of random numbers in every clone.
struct PythonRuntime: RuntimeDefinition {
  /// The interpreter's version, such as `3.12`.
  var version: String
  /// Packages of PyPI that make an interpreter a Lambda runtime, pinned.
  private let packages = ["awslambdaric==4.2.2", "snapshot-restore-py==1.0.0"]

  private static let script = "thaw_bootstrap.py"

  static var all: [any RuntimeDefinition] { ["3.12", "3.13"].map { PythonRuntime(version: $0) } }

  var identifier: String { "python\(version)" }

  var remedy: String {
    "install it (for example `pyenv install \(version)`), or name one with --runtime \(identifier)=/path/to/python\(version)"
  }

  func interpreter(on host: RuntimeHost) -> FilePath? { candidates(host).first }

  func isInstalled(on host: RuntimeHost) -> Bool { RuntimeHost.exists(target(host)) }

  func bundle(on host: RuntimeHost) async throws(RuntimeBundleError) -> RuntimeBundle {
    var reasons: [String] = []
    for path in candidates(host) {
      switch await probe(path, host) {
      case .success(let found) where found.version == version:
        let bootstrap = try host.bootstrap("python", file: PythonRuntime.script)
        try await install(found, host)
        return bundle(found, packages: target(host), bootstrap: bootstrap)
      case .success(let found): reasons.append("\(path) is Python \(found.version)")
      case .failure(let error): reasons.append("\(path): \(error.message)")
      }
    }
    let found = reasons.isEmpty ? "" : " (\(reasons.joined(separator: "; ")))"
    throw RuntimeBundleError(message: "no Python \(version) was found on this host\(found): \(remedy)")
  }

  private struct Interpreter: Sendable {
    var path: FilePath
    var prefix: FilePath
    var version: String
  }

  /// Where an interpreter may be: as configured, the system's, pyenv's (the highest patch level first).
  private func candidates(_ host: RuntimeHost) -> [FilePath] {
    if let configured = host.interpreters[identifier] { return [configured] }
    var paths = ["/usr/local/bin", "/usr/bin"].map { FilePath("\($0)/python\(version)") }
    let home = RuntimeHost.variable("HOME") ?? "/root"
    let root = FilePath(RuntimeHost.variable("PYENV_ROOT") ?? "\(home)/.pyenv")
    let patches = RuntimeHost.names(in: root.appending("versions")).filter { $0.hasPrefix(version + ".") }
    func patch(_ name: String) -> Int { Int(name.split(separator: ".").last ?? "") ?? 0 }
    for name in patches.sorted(by: { patch($0) > patch($1) }) {
      paths.append(root.appending("versions/\(name)/bin/python\(version)"))
    }
    return paths.filter { RuntimeHost.isExecutable($0) }
  }

  private func probe(_ path: FilePath, _ host: RuntimeHost) async -> Result<Interpreter, RuntimeBundleError> {
    let script = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.base_prefix); print(sys.executable)"
    switch await host.run(path, ["-I", "-c", script]) {
    case .success(let output):
      let lines = output.split(separator: "\n").map(String.init)
      guard lines.count == 3 else { return .failure(RuntimeBundleError(message: "answers '\(output)'")) }
      return .success(Interpreter(path: FilePath(lines[2]), prefix: FilePath(lines[1]), version: lines[0]))
    case .failure(let error): return .failure(error)
    }
  }

  /// Named after what is in it: another pin is another directory.
  private func target(_ host: RuntimeHost) -> FilePath {
    let pins = packages.map { $0.replacing("==", with: "-") }.joined(separator: "_")
    return host.directory.appending("\(identifier)_\(pins)")
  }

  private func install(_ interpreter: Interpreter, _ host: RuntimeHost) async throws(RuntimeBundleError) {
    let target = target(host)
    do throws(RuntimeBundleError) {
      try await host.install(target) { staging throws(RuntimeBundleError) in
        host.announce("installing \(packages.joined(separator: ", ")) for \(identifier)")
        let steps = [
          ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--target", staging.string]
            + packages,
          // Inside everything is read-only: compiled now or never.
          ["-m", "compileall", "-q", "-j", "0", staging.string],
        ]
        for step in steps { _ = try await host.run(interpreter.path, step).get() }
      }
    } catch {
      throw RuntimeBundleError(
        message:
          "the runtime \(identifier) could not be installed: \(error.message). It needs pip for \(interpreter.path) and access to "
          + "PyPI once; try `thaw runtime install \(identifier)`")
    }
  }

  private func bundle(_ interpreter: Interpreter, packages: FilePath, bootstrap: FilePath) -> RuntimeBundle {
    var mounts: [(source: FilePath, target: FilePath)] = [(packages, "/var/runtime"), (bootstrap, "/var/thaw")]
    // /usr is there in any case.
    if !interpreter.prefix.starts(with: "/usr") { mounts.append((interpreter.prefix, interpreter.prefix)) }
    // The function's own packages come before the runtime's, as on AWS.
    let path = "/var/task:/opt/python/lib/python\(version)/site-packages:/opt/python:/var/runtime"
    return RuntimeBundle(
      identifier: identifier, mounts: mounts, summary: "Python \(version) at \(interpreter.path)"
    ) { [identifier] function in
      var environment = [
        "PYTHONUNBUFFERED": "1",
        // BLAS threads sleep when there is no work instead of spinning for milliseconds, which costs a whole CPU in
        // every environment.
        "OPENBLAS_THREAD_TIMEOUT": "4",
      ].merging(function.environment) { $1 }
      // A user's path comes before the runtime's own.
      environment["PYTHONPATH"] = function.environment["PYTHONPATH"].map { "\($0):\(path)" } ?? path
      environment["AWS_EXECUTION_ENV"] = "AWS_Lambda_\(identifier)"
      return RuntimeLaunch(
        arguments: [interpreter.path.string, "/var/thaw/\(PythonRuntime.script)", function.handler],
        environment: environment)
    }
  }
}
