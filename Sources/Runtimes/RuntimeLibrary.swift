internal import Glibc
internal import Linux
public import Logging
internal import Subprocess
public import SystemPackage

/// The runtimes of this host: finds interpreters, installs what makes them Lambda runtimes, and keeps it in the
/// data directory.
public actor RuntimeLibrary {
  /// What is known of one runtime.
  public struct Status: Sendable {
    /// Lambda's identifier.
    public var identifier: String
    /// The interpreter, if one was found.
    public var interpreter: FilePath?
    /// Whether the packages are installed.
    public var isInstalled: Bool
    /// Where they are, or would be.
    public var directory: FilePath
  }

  private let directory: FilePath
  private let interpreters: [String: FilePath]
  private let logger: Logger
  private var ready: [String: RuntimeBundle] = [:]
  private var underWay: [String: Task<Result<RuntimeBundle, RuntimeBundleError>, Never>] = [:]

  /// A library in `directory` (`runtimes/` of the data directory).
  ///
  /// - Parameter interpreters: paths by runtime identifier that come before those that are found.
  public init(directory: FilePath, interpreters: [String: FilePath], logger: Logger) {
    self.directory = directory
    self.interpreters = interpreters
    self.logger = logger
  }

  /// What is there, without changing anything.
  public func list() -> [Status] {
    RuntimeDefinition.all.map { definition in
      let target = target(definition)
      return Status(
        identifier: definition.identifier, interpreter: candidates(definition).first,
        isInstalled: (try? FileStatus(path: target.string)) != nil, directory: target)
    }
  }

  /// The bundle of a runtime, installed if it was not: many may ask at once, it is installed once.
  public func bundle(_ identifier: String) async throws(RuntimeBundleError) -> RuntimeBundle {
    if let bundle = ready[identifier] { return bundle }
    guard let definition = RuntimeDefinition.find(identifier) else {
      let known = RuntimeDefinition.all.map(\.identifier).joined(separator: ", ")
      throw RuntimeBundleError(message: "the runtime \(identifier) is not supported yet; there are \(known)")
    }
    let task =
      underWay[identifier]
      ?? Task {
        do throws(RuntimeBundleError) {
          return .success(try await self.make(definition))
        } catch {
          return .failure(error)
        }
      }
    underWay[identifier] = task
    let result = await task.value
    underWay[identifier] = nil
    let bundle = try result.get()
    ready[identifier] = bundle
    return bundle
  }

  private func make(_ definition: RuntimeDefinition) async throws(RuntimeBundleError) -> RuntimeBundle {
    var reasons: [String] = []
    for interpreter in candidates(definition) {
      switch await probe(interpreter) {
      case .success(let found) where found.version == definition.version:
        try await install(definition, found)
        return bundle(definition, found)
      case .success(let found): reasons.append("\(interpreter) is Python \(found.version)")
      case .failure(let error): reasons.append("\(interpreter): \(error.message)")
      }
    }
    let found = reasons.isEmpty ? "" : " (\(reasons.joined(separator: "; ")))"
    throw RuntimeBundleError(
      message:
        "no Python \(definition.version) was found on this host\(found). Install it (for example `pyenv install \(definition.version)`), "
        + "or name it with --python \(definition.identifier)=/path/to/python\(definition.version)")
  }

  // MARK: Interpreters

  private struct Interpreter: Sendable {
    var path: FilePath
    var prefix: FilePath
    var version: String
  }

  /// Where an interpreter may be: as configured, the system's, pyenv's (the highest patch level first).
  private func candidates(_ definition: RuntimeDefinition) -> [FilePath] {
    if let configured = interpreters[definition.identifier] { return [configured] }
    var paths = ["/usr/local/bin", "/usr/bin"].map { FilePath("\($0)/python\(definition.version)") }
    let home = getenv("HOME").map { String(cString: $0) } ?? "/root"
    let root = getenv("PYENV_ROOT").map { String(cString: $0) } ?? "\(home)/.pyenv"
    let versions = (try? DirectoryCopy.names(in: "\(root)/versions")) ?? []
    let patches = versions.filter { $0.hasPrefix(definition.version + ".") }
    func patch(_ name: String) -> Int { Int(name.split(separator: ".").last ?? "") ?? 0 }
    for name in patches.sorted(by: { patch($0) > patch($1) }) {
      paths.append(FilePath("\(root)/versions/\(name)/bin/python\(definition.version)"))
    }
    return paths.filter { access($0.string, X_OK) == 0 }
  }

  private func probe(_ path: FilePath) async -> Result<Interpreter, RuntimeBundleError> {
    let script = "import sys; print('%d.%d' % sys.version_info[:2]); print(sys.base_prefix); print(sys.executable)"
    switch await run(path, ["-I", "-c", script]) {
    case .success(let output):
      let lines = output.split(separator: "\n").map(String.init)
      guard lines.count == 3 else { return .failure(RuntimeBundleError(message: "answers '\(output)'")) }
      return .success(Interpreter(path: FilePath(lines[2]), prefix: FilePath(lines[1]), version: lines[0]))
    case .failure(let error): return .failure(error)
    }
  }

  private func run(_ path: FilePath, _ arguments: [String]) async -> Result<String, RuntimeBundleError> {
    do {
      let result = try await Subprocess.run(
        .path(path), arguments: Arguments(arguments), output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
      if case .exited(0) = result.terminationStatus { return .success(result.standardOutput) }
      let lines = result.standardError.split(separator: "\n")
      let text = lines.filter { $0.contains("ERROR") }.last ?? lines.last ?? "no message"
      return .failure(RuntimeBundleError(message: "\(result.terminationStatus): \(text)"))
    } catch {
      return .failure(RuntimeBundleError(message: "\(error)"))
    }
  }

  // MARK: Packages

  /// Named after what is in it: another pin is another directory.
  private func target(_ definition: RuntimeDefinition) -> FilePath {
    let pins = definition.packages.map { $0.replacing("==", with: "-") }.joined(separator: "_")
    return directory.appending("\(definition.identifier)_\(pins)")
  }

  private func install(_ definition: RuntimeDefinition, _ interpreter: Interpreter) async throws(RuntimeBundleError) {
    let target = target(definition)
    if (try? FileStatus(path: target.string)) != nil { return }
    let staging = directory.appending(".staging-\(definition.identifier)-\(getpid())")
    func fail(_ message: String) -> RuntimeBundleError {
      RuntimeBundleError(
        message:
          "the runtime \(definition.identifier) could not be installed: \(message). It needs pip for \(interpreter.path) and access to "
          + "PyPI once; try `thaw runtime install \(definition.identifier)`")
    }
    do {
      try DirectoryCopy.remove(staging.string)
      mkdir(directory.string, 0o755)
      guard mkdir(staging.string, 0o755) == 0 else {
        throw SystemCallError(call: "mkdir", subject: staging.string, errno: Errno(rawValue: errno))
      }
    } catch { throw fail("\(error)") }
    logger.info("installing \(definition.packages.joined(separator: ", ")) for \(definition.identifier)")
    let steps = [
      ["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--target", staging.string]
        + definition.packages,
      // Inside everything is read-only: compiled now or never.
      ["-m", "compileall", "-q", "-j", "0", staging.string],
    ]
    for step in steps {
      if case .failure(let error) = await run(interpreter.path, step) {
        try? DirectoryCopy.remove(staging.string)
        throw fail(error.message)
      }
    }
    guard rename(staging.string, target.string) == 0 || errno == ENOTEMPTY || errno == EEXIST else {
      throw fail("rename: \(Errno(rawValue: errno))")
    }
    logger.info("\(definition.identifier) is installed in \(target)")
  }

  private func bundle(_ definition: RuntimeDefinition, _ interpreter: Interpreter) -> RuntimeBundle {
    var mounts: [(source: FilePath, target: FilePath)] = [(target(definition), "/var/runtime")]
    // /usr is there in any case.
    if !interpreter.prefix.starts(with: "/usr") {
      mounts.append((interpreter.prefix, interpreter.prefix))
    }
    return RuntimeBundle(
      identifier: definition.identifier, mounts: mounts,
      command: [interpreter.path.string, "-m", "awslambdaric"],
      environment: [
        // The function's own packages come before the runtime's, as on AWS.
        "PYTHONPATH": "/var/task:/opt/python/lib/python\(definition.version)/site-packages:/opt/python:/var/runtime",
        "PYTHONUNBUFFERED": "1",
        // BLAS threads sleep when there is no work instead of spinning for milliseconds, which costs a whole CPU in
        // every environment.
        "OPENBLAS_THREAD_TIMEOUT": "4",
        "AWS_EXECUTION_ENV": "AWS_Lambda_\(definition.identifier)",
      ])
  }
}
