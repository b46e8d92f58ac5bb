internal import Linux
internal import SystemPackage

/// java11 to java25: a JDK or JRE of this host, with AWS's runtime interface client from the function's archive, or
/// else Thaw's own bootstrap (Bootstraps/java).
struct JavaRuntime: RuntimeDefinition {
  /// The feature release, such as 17.
  var release: Int

  static var all: [any RuntimeDefinition] { [11, 17, 21, 25].map { JavaRuntime(release: $0) } }

  var identifier: String { "java\(release)" }

  var remedy: String {
    "install it (for example `apt-get install openjdk-\(release)-jre-headless`), or name one with --runtime \(identifier)=/path/to/jdk\(release)"
  }

  func interpreter(on host: RuntimeHost) -> FilePath? { homes(host).first?.path.appending("bin/java") }

  func isInstalled(on host: RuntimeHost) -> Bool { true }

  func bundle(on host: RuntimeHost) async throws(RuntimeBundleError) -> RuntimeBundle {
    guard let home = homes(host).first else {
      let configured = host.interpreters[identifier].map { " at \($0)" } ?? " on this host"
      throw RuntimeBundleError(message: "no Java \(release) was found\(configured): \(remedy)")
    }
    let bootstrap = try host.bootstrap("java", file: JavaRuntime.archive)
    var mounts: [(source: FilePath, target: FilePath)] = [(bootstrap, "/var/runtime")]
    if !home.path.starts(with: "/usr") { mounts.append((home.path, home.path)) }
    for directory in home.configuration { mounts.append((directory, directory)) }
    let java = home.path.appending("bin/java").string
    return RuntimeBundle(
      identifier: identifier, mounts: mounts, summary: "Java \(home.version) at \(home.path)"
    ) { [self] function in
      RuntimeLaunch(
        arguments: [java] + JavaRuntime.options(function) + program(function) + [function.handler],
        environment: ["AWS_EXECUTION_ENV": "AWS_Lambda_\(identifier)"])
    }
  }

  private static let archive = "thaw-java.jar"

  // MARK: Finding a JDK

  private struct Home: Sendable {
    var path: FilePath
    var version: String
    /// Directories outside that its files are links into, as Debian has them in /etc.
    var configuration: [FilePath]
  }

  /// Java homes of this release: as configured, `JAVA_HOME`, or in /usr/lib/jvm.
  private func homes(_ host: RuntimeHost) -> [Home] {
    if let configured = host.interpreters[identifier] {
      // The home itself, or the program in it.
      let isProgram = configured.lastComponent == "java"
      return home(at: isProgram ? configured.removingLastComponent().removingLastComponent() : configured).map { [$0] }
        ?? []
    }
    let root: FilePath = "/usr/lib/jvm"
    let own = RuntimeHost.variable("JAVA_HOME").map { [FilePath($0)] } ?? []
    var seen: Set<FilePath> = []
    return (own + RuntimeHost.names(in: root).sorted().map { root.appending($0) }).compactMap { home(at: $0) }
      .filter { seen.insert($0.path).inserted }
  }

  private func home(at path: FilePath) -> Home? {
    guard let path = RuntimeHost.resolved(path), RuntimeHost.isExecutable(path.appending("bin/java")),
      let text = RuntimeHost.text(path.appending("release")),
      let line = text.split(separator: "\n").first(where: { $0.hasPrefix("JAVA_VERSION=") })
    else { return nil }
    let version = line.dropFirst("JAVA_VERSION=".count).filter { $0 != "\"" }
    guard version.prefix(while: \.isNumber) == "\(release)" else { return nil }
    let samples = ["conf/security/java.security", "conf/net.properties", "lib/jvm.cfg"]
    let outside = samples.compactMap { RuntimeHost.resolved(path.appending($0)) }.compactMap { file -> FilePath? in
      // /etc/NAME of /etc/NAME/security/java.security.
      let parts = file.components.prefix(2).map(\.string)
      return parts.first == "etc" && parts.count == 2 ? FilePath("/" + parts.joined(separator: "/")) : nil
    }
    return Home(path: path, version: String(version), configuration: Set(outside).sorted { $0.string < $1.string })
  }

  // MARK: The command line

  /// What suits snapshots. HotSpot lets the command line win over `JAVA_TOOL_OPTIONS`, so what the user's options speak
  /// of is left out here.
  static func options(_ function: RuntimeFunction) -> [String] {
    let user = (function.environment["JAVA_TOOL_OPTIONS"] ?? "").split(whereSeparator: \.isWhitespace).map(String.init)
    func mentions(_ texts: String...) -> Bool {
      user.contains { option in texts.contains { option.contains($0) } }
    }
    var options = [
      // A map of /tmp/hsperfdata_USER/PID shared with the host's tools: another JVM would unlink it.
      "-XX:-UsePerfData"
    ]
    if !user.contains(where: { $0.hasPrefix("-XX:+Use") && $0.hasSuffix("GC") }) { options.append("-XX:+UseSerialGC") }
    // A restored process waits on a connection of IPv4.
    if !mentions("preferIPv4Stack") { options.append("-Djava.net.preferIPv4Stack=true") }
    // One compiler thread, and no profiling code to be replaced in every clone.
    if !mentions("TieredStopAtLevel", "TieredCompilation", "-Xint", "-Xcomp") {
      options.append("-XX:TieredStopAtLevel=1")
    }
    // The part of MemorySize that AWS's own runtimes give the heap. It begins small and grows at need: what garbage has
    // written to is in the image, and the standard size is a part of the host's memory.
    if !mentions("-Xmx", "-Xms", "-Xmn", "HeapSize", "NewSize", "MaxRAM", "InitialRAM") {
      options += ["-XX:InitialHeapSize=16m", "-XX:MaxHeapSize=\(function.memoryMegabytes * 1024 * 85 / 100)k"]
    }
    return options
  }

  /// The class path and the main class.
  private func program(_ function: RuntimeFunction) -> [String] {
    let libraries = RuntimeHost.names(in: function.codeDirectory.appending("lib"))
    let client = "com/amazonaws/services/lambda/runtime/api/client/AWSLambda.class"
    let hasClient =
      RuntimeHost.exists(function.codeDirectory.appending(client))
      || libraries.contains { name in
        name.hasSuffix(".jar") && JarFile(function.codeDirectory.appending("lib/\(name)")).contains(client)
      }
    guard hasClient else {
      // Finds the function's classes itself. -D: where org.crac looks for who runs its resources.
      return [
        // Opened for thaw.runtime.Randomness, which reseeds the JDK's generators after a restore.
        "--add-opens=java.base/java.lang=ALL-UNNAMED", "--add-opens=java.base/java.util=ALL-UNNAMED",
        "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED", "-Dorg.crac.Core.Compat=thaw.crac", "-cp",
        "/var/runtime/\(JavaRuntime.archive)", "thaw.runtime.Bootstrap",
      ]
    }
    return [
      "-Dorg.crac.Core.Compat=com.amazonaws.services.lambda.crac", "--add-opens=java.base/java.io=ALL-UNNAMED",
      "-cp", "/var/task:/var/task/lib/*", "com.amazonaws.services.lambda.runtime.api.client.AWSLambda",
    ]
  }
}
