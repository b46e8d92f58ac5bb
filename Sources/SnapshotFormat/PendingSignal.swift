/// A signal that was sent and not yet delivered.
public struct PendingSignal: Sendable, Equatable {
  /// Bytes of the kernel's `siginfo_t`, asm-generic/siginfo.h.
  public static let size = 128
  /// The `siginfo_t`, raw.
  public var information: [UInt8]

  /// A pending signal with this `siginfo_t`.
  public init(information: [UInt8]) { self.information = information }

  /// Its number, `si_signo`.
  public var signal: UInt32 {
    information.prefix(4).reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }
}

extension PendingSignal: BinaryCodable {
  func encode(into writer: inout BinaryWriter) { writer.put(information) }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) { information = try reader.data() }
}
