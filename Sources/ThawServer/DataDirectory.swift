internal import Foundation
public import LambdaAPI
internal import Linux
public import SystemPackage

/// An error that ends the program, with its remedy.
public struct StartError: Error, Sendable, CustomStringConvertible {
  /// One line: what is wrong and what helps.
  public var description: String
  /// An error.
  public init(_ description: String) { self.description = description }
}

/// Everything a daemon keeps: where it is, whose it is, and the key pair of its clients.
public struct DataDirectory: Sendable {
  /// The directory.
  public let path: FilePath

  /// Opens the data directory, which is made (only its owner may look inside).
  ///
  /// - Parameter path: nil for `$XDG_DATA_HOME/thaw`, or `~/.local/share/thaw`.
  public init(_ path: String?) throws(StartError) {
    let environment = ProcessInfo.processInfo.environment
    let standard =
      environment["XDG_DATA_HOME"].map { "\($0)/thaw" } ?? "\(environment["HOME"] ?? "/root")/.local/share/thaw"
    let given = FilePath(path ?? standard)
    self.path = given.isAbsolute ? given : FilePath(FileManager.default.currentDirectoryPath).pushing(given)
    do {
      try FileManager.default.createDirectory(
        atPath: self.path.string, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
    } catch {
      throw StartError(
        "the data directory \(self.path) cannot be made (\(error.localizedDescription)); choose another with --data-dir"
      )
    }
  }

  /// SQLite's file.
  public var catalog: FilePath { path.appending("catalog.sqlite") }
  /// Unpacked code.
  public var code: FilePath { path.appending("code") }
  /// Snapshots.
  public var snapshots: FilePath { path.appending("snapshots") }
  /// Runtime bundles.
  public var runtimes: FilePath { path.appending("runtimes") }
  /// Functions' logs.
  public var logs: FilePath { path.appending("logs") }
  /// Where the address of the running daemon is written.
  var endpointFile: FilePath { path.appending("endpoint") }

  /// An empty directory for the jailer's mounts.
  func makeRootDirectory() throws -> FilePath {
    let root = path.appending("run").appending("root")
    try FileManager.default.createDirectory(atPath: root.string, withIntermediateDirectories: true)
    return root
  }

  /// Names this data directory's cgroups: a hash of its path (FNV-1a).
  var instance: String {
    let hash = path.string.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
    return String(hash, radix: 16)
  }

  /// The key pair, made when there is none.
  public func credentials() throws(StartError) -> Credentials {
    let file = path.appending("credentials")
    if let text = FileManager.default.contents(atPath: file.string).map({ String(decoding: $0, as: UTF8.self) }) {
      let lines = text.split(separator: "\n").map(String.init)
      guard lines.count == 2, lines[0].count == 20, lines[1].count == 40 else {
        throw StartError("\(file) is malformed; delete it to have a new key pair made")
      }
      return Credentials(accessKeyID: lines[0], secretAccessKey: lines[1])
    }
    let capitals = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZ234567")
    let all = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/")
    var generator = SystemRandomNumberGenerator()
    func random(_ alphabet: [Character], _ count: Int) -> String {
      String((0..<count).map { _ in alphabet[Int.random(in: 0..<alphabet.count, using: &generator)] })
    }
    let credentials = Credentials(accessKeyID: "AKIA" + random(capitals, 16), secretAccessKey: random(all, 40))
    let text = "\(credentials.accessKeyID)\n\(credentials.secretAccessKey)\n"
    do {
      let open = try FileDescriptor.open(
        file, .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec], permissions: .ownerReadWrite)
      _ = try open.closeAfter { try open.writeAll(Array(text.utf8)) }
    } catch {
      throw StartError("the key pair cannot be written to \(file) (\(error)); is the disk full?")
    }
    return credentials
  }

  /// Shell exports that lead AWS clients to the daemon of this directory.
  public func exports(region: String) throws(StartError) -> [String] {
    let credentials = try credentials()
    return [
      "export AWS_ENDPOINT_URL_LAMBDA=\(endpoint)",
      "export AWS_ACCESS_KEY_ID=\(credentials.accessKeyID)",
      "export AWS_SECRET_ACCESS_KEY=\(credentials.secretAccessKey)",
      "export AWS_REGION=\(region)",
      "export AWS_DEFAULT_REGION=\(region)",
    ]
  }

  /// Takes the directory for this daemon; nobody else may have it until the descriptor is closed.
  func lock() throws(StartError) -> FileDescriptor {
    let file = path.appending("lock")
    let descriptor: FileDescriptor
    do {
      descriptor = try FileDescriptor.open(
        file, .readWrite, options: [.create, .closeOnExec], permissions: .ownerReadWrite)
    } catch {
      throw StartError("the data directory \(path) cannot be written to (\(error)); choose another with --data-dir")
    }
    guard flock(descriptor.rawValue, LOCK_EX | LOCK_NB) == 0 else {
      try? descriptor.close()
      throw StartError("another daemon uses the data directory \(path); stop it, or choose another with --data-dir")
    }
    return descriptor
  }

  /// Writes the running daemon's address.
  func write(endpoint: String) {
    try? Data(endpoint.utf8).write(to: URL(fileURLWithPath: endpointFile.string), options: .atomic)
  }

  /// The address of the daemon that runs or ran last, or the standard one.
  public var endpoint: String {
    FileManager.default.contents(atPath: endpointFile.string).map { String(decoding: $0, as: UTF8.self) }
      ?? "http://\(ServerConfiguration.standardListen)"
  }
}
