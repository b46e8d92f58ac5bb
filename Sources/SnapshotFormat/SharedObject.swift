/// Memory or a file that has no lasting name or is written through mappings: every clone gets its own, with the
/// snapshot's content.
public struct SharedObject: Sendable, Equatable {
  /// What it is.
  public enum Kind: Sendable, Equatable {
    /// `mmap(2)` with MAP_SHARED | MAP_ANONYMOUS.
    case sharedMemory
    /// `memfd_create(2)`: its name, and its seals (F_SEAL_ bits of linux/fcntl.h).
    case memoryFile(name: String, seals: UInt32)
    /// A file that was deleted while it was open or mapped; it is made at `path` and deleted again.
    case deletedFile(path: String)
    /// A file that never had a name, O_TMPFILE, in this directory.
    case unnamedFile(directory: String)
    /// A file that is there, in a directory that every clone has its own copy of; its content is not in the image.
    case file(path: String)
    /// A file of /dev/shm, which every clone finds empty.
    case namedFile(path: String)
  }
  /// What it is.
  public var kind: Kind
  /// Bytes.
  public var size: UInt64
  /// Permission bits.
  public var mode: UInt32
  /// Owner.
  public var userID: UInt32
  /// Group.
  public var groupID: UInt32
  /// Pages that are not all zeros; ``Mapping/Extent/start`` is the offset in the object.
  public var extents: [Mapping.Extent]

  /// An object of these parts.
  public init(
    kind: Kind, size: UInt64, mode: UInt32, userID: UInt32, groupID: UInt32, extents: [Mapping.Extent]
  ) {
    self.kind = kind
    self.size = size
    self.mode = mode
    self.userID = userID
    self.groupID = groupID
    self.extents = extents
  }
}

extension SharedObject: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    switch kind {
    case .sharedMemory: writer.put(0 as UInt8)
    case .memoryFile(let name, let seals):
      writer.put(1 as UInt8)
      writer.put(name)
      writer.put(seals)
    case .deletedFile(let path):
      writer.put(2 as UInt8)
      writer.put(path)
    case .unnamedFile(let directory):
      writer.put(3 as UInt8)
      writer.put(directory)
    case .file(let path):
      writer.put(4 as UInt8)
      writer.put(path)
    case .namedFile(let path):
      writer.put(5 as UInt8)
      writer.put(path)
    }
    writer.put(size)
    writer.put(mode)
    writer.put(userID)
    writer.put(groupID)
    writer.put(extents)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    switch try reader.get(UInt8.self) {
    case 0: kind = .sharedMemory
    case 1: kind = .memoryFile(name: try reader.string(), seals: try reader.get())
    case 2: kind = .deletedFile(path: try reader.string())
    case 3: kind = .unnamedFile(directory: try reader.string())
    case 4: kind = .file(path: try reader.string())
    case 5: kind = .namedFile(path: try reader.string())
    case let other: throw SnapshotFormatError("unknown kind \(other) of a shared object")
    }
    size = try reader.get()
    mode = try reader.get()
    userID = try reader.get()
    groupID = try reader.get()
    extents = try reader.array()
  }
}
