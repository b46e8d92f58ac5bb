/// A socket that nobody outside the process is connected to.
public struct SocketState: Sendable, Equatable {
  /// The file of a unix socket that is bound to a path.
  public struct File: Sendable, Equatable {
    /// Permission bits.
    public var mode: UInt32
    /// Owner.
    public var userID: UInt32
    /// Group.
    public var groupID: UInt32

    /// A file of these parts.
    public init(mode: UInt32, userID: UInt32, groupID: UInt32) {
      self.mode = mode
      self.userID = userID
      self.groupID = groupID
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
  /// The file it is bound to; nil if it is not bound to a path or the file is gone.
  public var file: File?

  /// A socket of these parts.
  public init(
    family: UInt32, type: UInt32, transport: UInt32, localAddress: [UInt8], remoteAddress: [UInt8],
    backlog: UInt32?, file: File?
  ) {
    self.family = family
    self.type = type
    self.transport = transport
    self.localAddress = localAddress
    self.remoteAddress = remoteAddress
    self.backlog = backlog
    self.file = file
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
    writer.put(file != nil)
    if let file { for number in [file.mode, file.userID, file.groupID] { writer.put(number) } }
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    family = try reader.get()
    type = try reader.get()
    transport = try reader.get()
    localAddress = try reader.data()
    remoteAddress = try reader.data()
    backlog = try reader.flag() ? try reader.get() : nil
    file =
      try reader.flag() ? File(mode: try reader.get(), userID: try reader.get(), groupID: try reader.get()) : nil
  }
}
