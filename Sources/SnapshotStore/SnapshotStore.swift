internal import Glibc
internal import Linux
public import SystemPackage

/// Where snapshots live: one directory each, made aside and renamed into place when whole.
public actor SnapshotStore {
  /// One stored snapshot.
  public struct Entry: Sendable {
    /// Its name.
    public var id: String
    /// Where it is.
    public var directory: FilePath
    /// Bytes on disk of manifest and image.
    public var bytes: Int
    /// Seconds since 1970 when it was made.
    public var created: Double
  }

  private let directory: FilePath
  private static let stagingPrefix = ".staging-"

  /// Opens the store in `directory`, which is made; what was left half-made by a daemon that died is removed.
  public init(directory: FilePath) throws {
    self.directory = directory
    try SnapshotStore.makeDirectory(directory, mode: 0o700, mayExist: true)
    for name in try DirectoryCopy.names(in: directory.string) where name.hasPrefix(SnapshotStore.stagingPrefix) {
      try DirectoryCopy.remove(directory.appending(name).string)
    }
  }

  /// An empty directory to write a snapshot into.
  public func begin(id: String) throws -> FilePath {
    let staging = try staging(id)
    try DirectoryCopy.remove(staging.string)
    try SnapshotStore.makeDirectory(staging, mode: 0o700, mayExist: false)
    return staging
  }

  /// Makes what was written since `begin` the snapshot `id`, durably; one that was there before is replaced.
  public func commit(id: String) throws -> FilePath {
    let staging = try staging(id)
    let target = directory.appending(id)
    let old = directory.appending(SnapshotStore.stagingPrefix + "old-" + id)
    try Durability.synchronize(staging)
    // rename(2) replaces only empty directories: the old one steps aside, and goes at the next start if we die here.
    if rename(target.string, old.string) != 0, errno != ENOENT { throw failure("rename", target) }
    guard rename(staging.string, target.string) == 0 else { throw failure("rename", staging) }
    try Durability.synchronize(directory)
    try DirectoryCopy.remove(old.string)
    return target
  }

  /// Throws away what was written since `begin`.
  public func abandon(id: String) {
    if let staging = try? staging(id) { try? DirectoryCopy.remove(staging.string) }
  }

  /// The directory of a whole snapshot, or nil.
  public func find(id: String) -> FilePath? {
    let path = directory.appending(id)
    guard isName(id), (try? FileStatus(path: path.string))?.kind == .directory else { return nil }
    return path
  }

  /// Puts a file beside a snapshot's own, durably; one of that name is replaced. Does nothing if the snapshot is gone.
  public func attach(_ bytes: [UInt8], as name: String, to id: String) throws {
    guard let directory = find(id: id) else { return }
    let path = directory.appending(name)
    let aside = directory.appending(".\(name).new")
    let file = try FileDescriptor.open(
      aside, .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: [.ownerReadWrite])
    try file.closeAfter { _ = try file.writeAll(bytes) }
    try Durability.synchronize(aside)
    guard rename(aside.string, path.string) == 0 else { throw failure("rename", aside) }
    try Durability.synchronize(directory)
  }

  /// Deletes a snapshot, if there is one.
  public func remove(id: String) throws {
    guard isName(id) else { return }
    let target = directory.appending(id)
    let old = directory.appending(SnapshotStore.stagingPrefix + "old-" + id)
    if rename(target.string, old.string) != 0 {
      if errno == ENOENT { return }
      throw failure("rename", target)
    }
    try DirectoryCopy.remove(old.string)
  }

  /// All of them, by name.
  public func list() throws -> [Entry] {
    try DirectoryCopy.names(in: directory.string).compactMap { name in
      let path = directory.appending(name)
      guard isName(name), let status = try? FileStatus(path: path.string), status.kind == .directory else { return nil }
      let sizes = ["manifest", "image"].map { try? FileStatus(path: path.appending($0).string).size }
      let made = (try? FileStatus(path: path.appending("manifest").string).modified) ?? status.modified
      return Entry(
        id: name, directory: path, bytes: sizes.reduce(0) { $0 + Int($1 ?? 0) },
        created: Double(made) / 1_000_000_000)
    }
  }

  /// Whether a name can be a snapshot's: nothing hidden, nothing with a slash.
  private func isName(_ id: String) -> Bool {
    !id.isEmpty && id.utf8.count <= 200 && !id.hasPrefix(".") && !id.contains("/")
  }

  private func staging(_ id: String) throws -> FilePath {
    guard isName(id) else {
      throw SystemCallError(call: "open", subject: "snapshot '\(id)'", errno: .invalidArgument)
    }
    return directory.appending(SnapshotStore.stagingPrefix + id)
  }

  private func failure(_ call: String, _ path: FilePath) -> SystemCallError {
    SystemCallError(call: call, subject: path.string, errno: Errno(rawValue: errno))
  }

  private static func makeDirectory(_ path: FilePath, mode: mode_t, mayExist: Bool) throws {
    if mkdir(path.string, mode) == 0 || (mayExist && errno == EEXIST) { return }
    throw SystemCallError(call: "mkdir", subject: path.string, errno: Errno(rawValue: errno))
  }
}
