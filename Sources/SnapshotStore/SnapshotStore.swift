public import SystemPackage

/// Where snapshots live: one directory each, made aside and renamed into place when whole.
public actor SnapshotStore {
  /// One stored snapshot.
  public struct Entry: Sendable {
    /// Its name.
    public var id: String
    /// Where it is.
    public var directory: FilePath
    /// Bytes on disk.
    public var bytes: Int
    /// Seconds since 1970 when it was made.
    public var created: Double
  }

  /// Opens the store in `directory`, which is made; what was left half-made by a daemon that died is removed.
  public init(directory: FilePath) throws { fatalError("not built yet") }

  /// An empty directory to write a snapshot into.
  public func begin(id: String) throws -> FilePath { fatalError("not built yet") }

  /// Makes what was written since `begin` the snapshot `id`, durably; one that was there before is replaced.
  public func commit(id: String) throws -> FilePath { fatalError("not built yet") }

  /// Throws away what was written since `begin`.
  public func abandon(id: String) {}

  /// The directory of a whole snapshot, or nil.
  public func find(id: String) -> FilePath? { fatalError("not built yet") }

  /// Deletes a snapshot, if there is one.
  public func remove(id: String) throws {}

  /// All of them, by name.
  public func list() throws -> [Entry] { fatalError("not built yet") }
}
