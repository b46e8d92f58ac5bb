/// Why bytes are not a manifest.
public struct SnapshotFormatError: Error, Sendable, Equatable, CustomStringConvertible {
  /// What is wrong, and where.
  public var message: String

  /// An error with its message.
  public init(_ message: String) { self.message = message }

  public var description: String { message }
}

/// Appends little-endian values to bytes.
struct BinaryWriter {
  var bytes: [UInt8] = []

  mutating func put<Value: FixedWidthInteger>(_ value: Value) {
    withUnsafeBytes(of: value.littleEndian) { bytes.append(contentsOf: $0) }
  }
  mutating func put(_ value: Bool) { put(value ? 1 : 0 as UInt8) }
  mutating func put(_ value: [UInt8]) {
    put(UInt32(value.count))
    bytes.append(contentsOf: value)
  }
  mutating func put(_ value: String) { put(Array(value.utf8)) }
  mutating func put<Element: FixedWidthInteger>(words value: [Element]) {
    put(UInt32(value.count))
    for element in value { put(element) }
  }
  mutating func put<Element: BinaryCodable>(_ value: [Element]) {
    put(UInt32(value.count))
    for element in value { element.encode(into: &self) }
  }
}

/// Reads little-endian values from bytes that nobody has vouched for: every length is checked against what is left
/// before anything is allocated.
struct BinaryReader {
  private let bytes: [UInt8]
  private(set) var position = 0

  init(_ bytes: [UInt8]) { self.bytes = bytes }

  var remaining: Int { bytes.count - position }

  private mutating func take(_ count: Int) throws(SnapshotFormatError) -> Range<Int> {
    guard count <= remaining else { throw SnapshotFormatError("cut short at byte \(position)") }
    position += count
    return position - count..<position
  }

  mutating func get<Value: FixedWidthInteger>(_ type: Value.Type = Value.self) throws(SnapshotFormatError) -> Value {
    let range = try take(MemoryLayout<Value>.size)
    var value: Value = 0
    for index in range.reversed() { value = (value << 8) | Value(truncatingIfNeeded: bytes[index]) }
    return value
  }

  mutating func flag() throws(SnapshotFormatError) -> Bool {
    switch try get(UInt8.self) {
    case 0: return false
    case 1: return true
    case let other: throw SnapshotFormatError("\(other) at byte \(position - 1) is not a truth value")
    }
  }

  /// A count of elements of which each takes at least `size` bytes.
  mutating func count(of size: Int) throws(SnapshotFormatError) -> Int {
    let count = Int(try get(UInt32.self))
    guard count <= remaining / max(size, 1) else {
      throw SnapshotFormatError("a count of \(count) at byte \(position - 4) is more than the rest can hold")
    }
    return count
  }

  mutating func data() throws(SnapshotFormatError) -> [UInt8] {
    let count = try count(of: 1)
    return Array(bytes[try take(count)])
  }

  mutating func string() throws(SnapshotFormatError) -> String {
    let start = position
    guard let text = String(validating: try data(), as: UTF8.self) else {
      throw SnapshotFormatError("the text at byte \(start) is not UTF-8")
    }
    return text
  }

  mutating func words<Element: FixedWidthInteger>(
    _ type: Element.Type = Element.self, exactly expected: Int? = nil
  ) throws(SnapshotFormatError) -> [Element] {
    let count = try count(of: MemoryLayout<Element>.size)
    if let expected, count != expected {
      throw SnapshotFormatError("\(count) words at byte \(position - 4) where there must be \(expected)")
    }
    var result: [Element] = []
    result.reserveCapacity(count)
    for _ in 0..<count { result.append(try get()) }
    return result
  }

  mutating func byteStrings() throws(SnapshotFormatError) -> [[UInt8]] {
    var result: [[UInt8]] = []
    for _ in 0..<(try count(of: 4)) { result.append(try data()) }
    return result
  }

  mutating func array<Element: BinaryCodable>(
    of type: Element.Type = Element.self
  ) throws(SnapshotFormatError) -> [Element] {
    let count = try count(of: 1)
    var result: [Element] = []
    for _ in 0..<count { result.append(try Element(from: &self)) }
    return result
  }
}

/// A value with a place in the manifest's bytes.
protocol BinaryCodable {
  func encode(into writer: inout BinaryWriter)
  init(from reader: inout BinaryReader) throws(SnapshotFormatError)
}
