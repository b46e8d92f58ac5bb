package import Checkpoint
package import Foundation
internal import Linux
internal import Logging
package import Restore
package import Sandbox
package import SnapshotFormat
package import SystemPackage

/// A place to freeze and restore self-checking programs: a jailer, a directory for snapshots, compiled programs.
package final class EngineBench: Sendable {
  package let jailer: Jailer
  package let directory: FilePath
  package let programs: FilePath
  package let restorer: FilePath

  /// Where `make native` puts thaw-jailer and thaw-restorer: `$THAW_BIN`, or the build directory.
  package static let binaries: FilePath = {
    let candidates = [ProcessInfo.processInfo.environment["THAW_BIN"], ".build/debug", ".build/release"]
    return FilePath(
      candidates.compactMap { $0 }.first { FileManager.default.fileExists(atPath: "\($0)/thaw-jailer") }
        ?? ".build/release")
  }()

  package static var isPossible: Bool {
    getuid() == 0 && FileManager.default.fileExists(atPath: binaries.appending("thaw-jailer").string)
  }

  package init() async throws {
    let name = "thaw-engine-\(UUID().uuidString.prefix(8))"
    directory = FilePath(FileManager.default.temporaryDirectory.path).appending(name)
    programs = directory.appending("programs")
    for path in [directory, programs, directory.appending("root")] {
      try FileManager.default.createDirectory(atPath: path.string, withIntermediateDirectories: true)
    }
    // Readable by the sandbox's user.
    try FileManager.default.setAttributes([.posixPermissions: 0o755], ofItemAtPath: directory.string)
    let here = FilePath(FileManager.default.currentDirectoryPath)
    restorer = (EngineBench.binaries.isAbsolute ? EngineBench.binaries : here.pushing(EngineBench.binaries)).appending(
      "thaw-restorer")
    jailer = try await Jailer.launch(
      executable: EngineBench.binaries.appending("thaw-jailer"), rootDirectory: directory.appending("root"),
      instance: name, logger: Logger(label: "test"))
  }

  /// Gives a body a bench, which is ended whatever comes of it.
  package static func use(_ body: @Sendable (EngineBench) async throws -> Void) async throws {
    let bench = try await EngineBench()
    do {
      try await body(bench)
    } catch {
      await bench.end()
      throw error
    }
    await bench.end()
  }

  package func end() async {
    await jailer.shutdown()
    try? FileManager.default.removeItem(atPath: directory.string)
  }

  /// Compiles a program of Integration/programs.
  package func compile(_ name: String) throws -> FilePath {
    let target = programs.appending(name)
    if FileManager.default.fileExists(atPath: target.string) { return target }
    let source = FilePath(#filePath).removingLastComponent().removingLastComponent().appending("programs").appending(
      "\(name).c")
    let process = Process()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/cc")
    process.arguments = ["-O1", "-pthread", "-o", target.string, source.string, "-lrt"]
    try process.run()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else { throw EngineBenchError("cc \(source) failed") }
    return target
  }

  /// CPython 3.12: of pyenv, where the newest of its versions is taken, or of the system.
  package static let interpreter: FilePath? = {
    let versions = "/root/.pyenv/versions"
    let installed = ((try? FileManager.default.contentsOfDirectory(atPath: versions)) ?? []).filter {
      $0.hasPrefix("3.12.")
    }
    let candidates = installed.sorted().reversed().map { "\(versions)/\($0)/bin/python3.12" } + ["/usr/bin/python3.12"]
    return candidates.first { FileManager.default.isExecutableFile(atPath: $0) }.map { FilePath($0) }
  }()

  /// Puts a script of Integration/programs where programs are.
  package func copy(_ name: String) throws {
    let source = FilePath(#filePath).removingLastComponent().removingLastComponent().appending("programs").appending(
      name)
    try FileManager.default.copyItem(atPath: source.string, toPath: programs.appending(name).string)
  }

  package var specification: SandboxSpecification {
    SandboxSpecification(
      mounts: [SandboxSpecification.Mount(source: programs, target: "/var/task")], memoryBytes: 256 << 20)
  }

  /// Starts a program in a sandbox, and waits until it says that it is ready for its snapshot.
  package func start(_ name: String, arguments: [String] = []) async throws -> HeldProgram {
    _ = try compile(name)
    return try await start(arguments: ["/var/task/\(name)"] + arguments, specification: specification)
  }

  package func start(arguments: [String], specification: SandboxSpecification) async throws -> HeldProgram {
    try await start(arguments: arguments, in: try await jailer.makeSandbox(specification))
  }

  package func start(arguments: [String], in sandbox: Sandbox) async throws -> HeldProgram {
    let processID = try await sandbox.start(
      arguments: arguments, environment: ["PATH=/usr/bin:/bin", "LANG=C.UTF-8", "OPENBLAS_NUM_THREADS=4"],
      workingDirectory: "/")
    let server = try await blocking { try RuntimeStandIn.acceptReady(sandbox, except: sandbox.connectionPort) }
    return HeldProgram(
      sandbox: sandbox, processID: processID, connection: server.connection, port: server.port, others: server.others)
  }

  /// Takes the program's snapshot into a directory of its own.
  package func snapshot(
    _ program: HeldProgram, name: String = UUID().uuidString, quiescenceLimit: Duration = .seconds(10)
  ) async throws -> (directory: FilePath, manifest: SnapshotManifest, timings: CheckpointTimings) {
    let target = directory.appending(name)
    try FileManager.default.createDirectory(atPath: target.string, withIntermediateDirectories: false)
    let (manifest, timings) = try await Checkpoint.take(
      processID: program.processID, initProcessID: program.sandbox.initProcessID,
      supplied: [
        SuppliedDescriptor(
          role: .output, identity: .pipe(inode: try FileStatus(program.sandbox.output).inode)),
        SuppliedDescriptor(role: .connection, identity: .tcp(localPort: program.port)),
      ], directory: target, quiescenceLimit: quiescenceLimit)
    return (target, manifest, timings)
  }

  /// Queues SIGRTMIN with a value, sigqueue(3); false if there is no room for it.
  package static func queueSignal(to process: Int32, value: Int32) -> Bool {
    var content = sigval()
    withUnsafeMutableBytes(of: &content) { $0.storeBytes(of: value, as: Int32.self) }
    return sigqueue(process, 34, content) == 0
  }

  /// The page of a file that the first process has mapped at `address`, zeros past the file's end; nil if none is.
  package func fileBytes(of manifest: SnapshotManifest, at address: UInt64) throws -> Data? {
    guard let mapping = manifest.process.mappings.first(where: { ($0.start..<$0.end).contains(address) }),
      case .file(let index, let offset) = mapping.backing
    else { return nil }
    var path = manifest.compatibility.files[Int(index)].path
    if path.hasPrefix("/var/task/") { path = programs.string + path.dropFirst("/var/task".count) }
    let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
    defer { try? file.close() }
    var bytes = [UInt8](repeating: 0, count: 4096)
    _ = try bytes.withUnsafeMutableBytes {
      try file.read(fromAbsoluteOffset: Int64(offset + address - mapping.start), into: $0)
    }
    return Data(bytes)
  }

  package func template(_ snapshot: FilePath, _ base: SandboxSpecification? = nil) async throws -> Template {
    try await Template.build(
      directory: snapshot, jailer: jailer, specification: withSeed(snapshot, base), restorer: restorer,
      logger: Logger(label: "test"))
  }

  package func withSeed(_ snapshot: FilePath, _ base: SandboxSpecification? = nil) -> SandboxSpecification {
    var specification = base ?? specification
    let seed = snapshot.appending("tmp")
    if FileManager.default.fileExists(atPath: seed.string) { specification.temporarySeed = seed }
    return specification
  }

  /// The pages that one clone writes until it has answered.
  package func recordWorkingSet(
    _ template: Template, _ specification: SandboxSpecification, _ manifest: SnapshotManifest
  ) async throws -> WorkingSet {
    let sandbox = try await jailer.makeSandbox(specification)
    let connection = try await blocking { try RuntimeStandIn.accept(sandbox, port: sandbox.connectionPort) }
    defer { try? connection.close() }
    try RuntimeStandIn.send("go\n", to: connection)
    let process = try await template.restore(into: sandbox)
    _ = try await blocking { try RuntimeStandIn.line(connection) }
    let workingSet = try WorkingSet(usedBy: process.processID, of: manifest)
    await sandbox.terminate()
    return try WorkingSet(decoding: workingSet.encode(imageDigest: manifest.imageDigest), for: manifest)
  }

  /// Restores one clone, and answers what it says after "go". An armed one is shown to say nothing before it is let
  /// go.
  package func check(_ template: Template, _ specification: SandboxSpecification, arming: Bool = false) async throws
    -> String
  {
    let sandbox = try await jailer.makeSandbox(specification)
    let connection = try await blocking { try RuntimeStandIn.accept(sandbox, port: sandbox.connectionPort) }
    let reply: String
    do {
      try RuntimeStandIn.send("go\n", to: connection)
      if arming {
        let armed = try await template.arm(into: sandbox)
        try await Task.sleep(for: .milliseconds(50))
        var item = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
        guard poll(&item, 1, 0) == 0 else { throw EngineBenchError("an armed clone ran before it was let go") }
        _ = try await armed.release()
      } else {
        _ = try await template.restore(into: sandbox)
      }
      reply = try await blocking { try RuntimeStandIn.line(connection) }
    } catch {
      try? connection.close()
      await sandbox.terminate()
      throw error
    }
    try? connection.close()
    await sandbox.terminate()
    return reply
  }
}

package struct EngineBenchError: Error, CustomStringConvertible {
  package let description: String
  package init(_ description: String) { self.description = description }
}

/// A program that waits to be frozen.
package struct HeldProgram: Sendable {
  package let sandbox: Sandbox
  package let processID: Int32
  package let connection: FileDescriptor
  /// Its end's port.
  package let port: UInt16
  package let others: [FileDescriptor]

  /// A program in a sandbox with the connection on which it waits.
  package init(
    sandbox: Sandbox, processID: Int32, connection: FileDescriptor, port: UInt16, others: [FileDescriptor]
  ) {
    self.sandbox = sandbox
    self.processID = processID
    self.connection = connection
    self.port = port
    self.others = others
  }

  package func end() async {
    for descriptor in [connection] + others { try? descriptor.close() }
    await sandbox.terminate()
  }
}

/// Runs something that blocks on a thread of Dispatch's.
package func blocking<Value: Sendable>(_ body: @escaping @Sendable () throws -> Value) async throws -> Value {
  try await withCheckedThrowingContinuation { continuation in
    DispatchQueue.global().async { continuation.resume(with: Result { try body() }) }
  }
}

/// The server's side of the harness, on plain blocking sockets.
package enum RuntimeStandIn {
  package static func accept(_ sandbox: Sandbox, port: UInt16) throws -> FileDescriptor {
    while true {
      let (connection, peer) = try acceptNext(sandbox)
      if peer == port { return connection }
      try connection.close()
    }
  }

  private static func acceptNext(_ sandbox: Sandbox) throws -> (FileDescriptor, UInt16) {
    var item = pollfd(fd: sandbox.listener.rawValue, events: Int16(POLLIN), revents: 0)
    guard poll(&item, 1, 20000) == 1 else { throw EngineBenchError("nobody connected: \(output(sandbox))") }
    var address = sockaddr_in()
    var length = socklen_t(MemoryLayout<sockaddr_in>.size)
    let connection = withUnsafeMutablePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) { Glibc.accept(sandbox.listener.rawValue, $0, &length) }
    }
    guard connection >= 0 else { throw EngineBenchError("accept: errno \(errno)") }
    return (FileDescriptor(rawValue: connection), UInt16(bigEndian: address.sin_port))
  }

  /// The connection that says "ready"; earlier ones are kept open.
  package static func acceptReady(
    _ sandbox: Sandbox, except: UInt16
  ) throws -> (connection: FileDescriptor, port: UInt16, others: [FileDescriptor]) {
    var open: [(FileDescriptor, UInt16)] = []
    let deadline = Date().addingTimeInterval(30)
    while Date() < deadline {
      var items = open.map { pollfd(fd: $0.0.rawValue, events: Int16(POLLIN), revents: 0) }
      items.append(pollfd(fd: sandbox.listener.rawValue, events: Int16(POLLIN), revents: 0))
      guard poll(&items, nfds_t(items.count), 10000) > 0 else { break }
      if items[items.count - 1].revents != 0 { open.append(try acceptNext(sandbox)) }
      for (index, entry) in open.enumerated() where index < items.count - 1 && items[index].revents != 0 {
        let text = try line(entry.0)
        guard text == "ready" else { throw EngineBenchError("it said '\(text)': \(output(sandbox))") }
        return (entry.0, entry.1, open.filter { $0.0 != entry.0 }.map(\.0))
      }
    }
    throw EngineBenchError("it did not get ready: \(output(sandbox))")
  }

  package static func send(_ text: String, to connection: FileDescriptor) throws {
    _ = try connection.writeAll(Array(text.utf8))
  }

  package static func line(_ connection: FileDescriptor) throws -> String {
    var bytes: [UInt8] = []
    while bytes.last != 10 {
      var item = pollfd(fd: connection.rawValue, events: Int16(POLLIN), revents: 0)
      guard poll(&item, 1, 30000) == 1 else { throw EngineBenchError("no line came within 30 s") }
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = try buffer.withUnsafeMutableBytes { try connection.read(into: $0) }
      guard count > 0 else {
        throw EngineBenchError("the connection was closed after '\(String(decoding: bytes, as: UTF8.self))'")
      }
      bytes += buffer[..<count]
    }
    return String(decoding: bytes.dropLast(), as: UTF8.self)
  }

  /// What the program printed.
  package static func output(_ sandbox: Sandbox) -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = (try? buffer.withUnsafeMutableBytes { try sandbox.output.read(into: $0) }) ?? 0
    return "its output was '\(String(decoding: buffer[..<count], as: UTF8.self))'"
  }
}
