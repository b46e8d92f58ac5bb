/// A socket that nobody outside the process is connected to.
public struct SocketState: Sendable, Equatable {
  /// One value of `setsockopt(2)`.
  public struct Option: Sendable, Equatable {
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
  /// AF_ number.
  public var family: UInt32
  /// SOCK_ number.
  public var type: UInt32
  /// Protocol number.
  public var transport: UInt32
  /// The address it is bound to, `struct sockaddr`; empty if it is not.
  public var localAddress: [UInt8]
  /// The address it is connected to (datagrams only); empty if it is not.
  public var remoteAddress: [UInt8]
  /// The length of the queue of a listening socket; nil if it does not listen.
  public var backlog: UInt32?
  /// Options that differ from a new socket's.
  public var options: [Option]

  /// A socket of these parts.
  public init(
    family: UInt32, type: UInt32, transport: UInt32, localAddress: [UInt8], remoteAddress: [UInt8],
    backlog: UInt32?, options: [Option]
  ) {
    self.family = family
    self.type = type
    self.transport = transport
    self.localAddress = localAddress
    self.remoteAddress = remoteAddress
    self.backlog = backlog
    self.options = options
  }
}

extension SocketState: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(family)
    writer.put(type)
    writer.put(transport)
    writer.put(localAddress)
    writer.put(remoteAddress)
    writer.put(backlog != nil)
    if let backlog { writer.put(backlog) }
    writer.put(options)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    family = try reader.get()
    type = try reader.get()
    transport = try reader.get()
    localAddress = try reader.data()
    remoteAddress = try reader.data()
    backlog = try reader.flag() ? try reader.get() : nil
    options = try reader.array()
  }
}

extension SocketState.Option: BinaryCodable {
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
