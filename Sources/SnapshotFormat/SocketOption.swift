/// One value of `setsockopt(2)`.
public struct SocketOption: Sendable, Equatable {
  /// SOL_SOCKET or a protocol.
  public var level: UInt32
  /// The option's number.
  public var name: UInt32
  /// Its value, raw.
  public var value: [UInt8]

  /// An option.
  public init(level: UInt32, name: UInt32, value: [UInt8]) {
    self.level = level
    self.name = name
    self.value = value
  }
}

extension SocketOption: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(level)
    writer.put(name)
    writer.put(value)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    level = try reader.get()
    name = try reader.get()
    value = try reader.data()
  }
}
