/// The part a supplied descriptor plays.
public enum SuppliedRole: UInt8, Sendable, Hashable, CaseIterable {
  /// Standard output and standard error: the writing end of the sandbox's pipe.
  case output = 0
  /// The connection on which the process waits to be restored.
  case connection = 1
}

/// What a snapshot is. (Being written: fields follow.)
public struct SnapshotManifest: Sendable {
  /// Number of threads.
  public var threadCount: Int
  /// Bytes of memory in the image.
  public var imageBytes: Int
  /// Number of mappings.
  public var mappingCount: Int
  /// Things that come back changed, such as connections that come back closed; for the user.
  public var warnings: [String]
}
