/// A lock on an open file.
public struct FileLock: Sendable, Equatable {
  /// Who holds it.
  public enum Kind: UInt8, Sendable {
    /// The open file description, `flock(2)`.
    case flock = 0
    /// The process, `fcntl(2)` F_SETLK.
    case posix = 1
    /// The open file description, `fcntl(2)` F_OFD_SETLK.
    case openFile = 2
  }
  /// A descriptor of the file.
  public var descriptor: UInt32
  /// Who holds it.
  public var kind: Kind
  /// Exclusive, not shared.
  public var isExclusive: Bool
  /// First byte.
  public var start: UInt64
  /// Bytes; 0 means to the end of the file.
  public var length: UInt64

  /// A lock.
  public init(descriptor: UInt32, kind: Kind, isExclusive: Bool, start: UInt64, length: UInt64) {
    self.descriptor = descriptor
    self.kind = kind
    self.isExclusive = isExclusive
    self.start = start
    self.length = length
  }
}

extension FileLock: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(descriptor)
    writer.put(kind.rawValue)
    writer.put(isExclusive)
    writer.put(start)
    writer.put(length)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    descriptor = try reader.get()
    let raw = try reader.get(UInt8.self)
    guard let kind = Kind(rawValue: raw) else { throw SnapshotFormatError("unknown kind \(raw) of a file lock") }
    self.kind = kind
    isExclusive = try reader.flag()
    start = try reader.get()
    length = try reader.get()
  }
}
