internal import CLinux
internal import SystemPackage

/// What /proc says of a process, parsed. See proc_pid_status(5) and its neighbours.
public enum ProcessFiles {
  /// Opens a file to read it, close-on-exec.
  static func open(_ path: String) throws(SystemCallError) -> FileDescriptor {
    try named("open", path) { try FileDescriptor.open(FilePath(path), .readOnly, options: .closeOnExec) }
  }

  /// All bytes of a file, of whatever length.
  public static func bytes(_ path: String) throws(SystemCallError) -> [UInt8] {
    let file = try open(path)
    defer { try? file.close() }
    // The kernel gives such files in pieces of a page or less.
    var result = [UInt8](repeating: 0, count: 8192)
    var filled = 0
    while true {
      let count = try named("read", path) {
        try result.withUnsafeMutableBytes {
          try file.read(into: UnsafeMutableRawBufferPointer(rebasing: $0[filled...]))
        }
      }
      if count == 0 {
        result.removeLast(result.count - filled)
        return result
      }
      filled += count
      if filled == result.count { result.append(contentsOf: repeatElement(0, count: 3 * filled)) }
    }
  }

  /// A file as text.
  public static func text(_ path: String) throws(SystemCallError) -> String {
    String(decoding: try bytes(path), as: UTF8.self)
  }

  /// Where a symbolic link leads, as text; /proc has links that are no paths, such as `pipe:[123]`.
  public static func link(_ path: String) throws(SystemCallError) -> String {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let result = path.withCString { path in
      buffer.withUnsafeMutableBytes {
        thaw_syscall(89, UInt(bitPattern: path), UInt(bitPattern: $0.baseAddress), 4096, 0, 0, 0)
      }
    }
    return String(decoding: buffer[..<(try checked(result, "readlink", path))], as: UTF8.self)
  }

  /// The names in a directory that are numbers, sorted: descriptors, threads.
  public static func numbers(in path: String) throws(SystemCallError) -> [Int32] {
    var buffer = [UInt8](repeating: 0, count: 32768)
    let directory = try open(path)
    defer { try? directory.close() }
    var result: [Int32] = []
    while true {
      let count = try checked(
        buffer.withUnsafeMutableBytes {
          thaw_syscall(217, UInt(directory.rawValue), UInt(bitPattern: $0.baseAddress), 32768, 0, 0, 0)
        }, "getdents64", path)
      if count == 0 { return result.sorted() }
      // struct linux_dirent64: inode 8, offset 8, record length 2, type 1, name.
      var position = 0
      while position < count {
        let length = Int(buffer[position + 16]) | Int(buffer[position + 17]) << 8
        let name = buffer[(position + 19)..<(position + length)].prefix { $0 != 0 }
        if let number = Int32(String(decoding: name, as: UTF8.self)) { result.append(number) }
        position += length
      }
    }
  }
}

/// `Name: value` lines, as in /proc/PID/status and fdinfo. They are looked for when they are asked for: most never are.
public struct ProcessFields: Sendable {
  private let lines: [UInt8]

  /// Reads the lines of a file.
  public init(path: String) throws(SystemCallError) { lines = try ProcessFiles.bytes(path) }

  /// The value as it stands, of the first line of that name.
  public subscript(name: String) -> String? {
    let name = Array(name.utf8)
    var start = 0
    while start < lines.count {
      let end = lines[start...].firstIndex(of: 10) ?? lines.count
      let colon = start + name.count
      if colon < end, lines[colon] == UInt8(ascii: ":"), lines[start..<colon].elementsEqual(name) {
        return String(decoding: lines[(colon + 1)..<end].drop { $0 == 32 || $0 == 9 }, as: UTF8.self)
      }
      start = end + 1
    }
    return nil
  }

  /// The value as a number.
  public func number(_ name: String, radix: Int = 10) -> UInt64? {
    self[name].flatMap { $0.split(whereSeparator: { $0 == " " || $0 == "\t" }).first }.flatMap {
      UInt64($0, radix: radix)
    }
  }

  /// The value as a row of numbers.
  public func numbers(_ name: String) -> [UInt32] {
    (self[name] ?? "").split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { UInt32($0) }
  }
}

/// One mapping as /proc/PID/maps or smaps shows it.
public struct MemoryArea: Sendable {
  /// First address.
  public var start: UInt64
  /// First address past it.
  public var end: UInt64
  /// The four letters, such as `rw-p`.
  public var permissions: String
  /// Offset in the file.
  public var offset: UInt64
  /// Device, `major:minor` in hexadecimal.
  public var device: String
  /// Inode of the file; 0 for none.
  public var inode: UInt64
  /// Path, `[stack]`, or empty.
  public var name: String
  /// The two-letter flags of VmFlags; empty unless it is `detailed`.
  public var flags: Set<String>
  /// The protection key, pkeys(7); 0 unless it is `detailed`.
  public var protectionKey: UInt32 = 0

  /// All mappings of a process, by address. The details cost the kernel a walk through all its pages.
  public static func all(of process: Int32, detailed: Bool) throws(SystemCallError) -> [MemoryArea] {
    var areas: [MemoryArea] = []
    // With details some twenty lines for each mapping, of which three are of use: they are told apart as bytes.
    for line in try ProcessFiles.bytes("/proc/\(process)/\(detailed ? "smaps" : "maps")").split(separator: 10) {
      switch line[line.startIndex] {
      case UInt8(ascii: "V") where line.starts(with: flagsName) && !areas.isEmpty:
        let words = line.dropFirst(flagsName.count).split(separator: 32)
        areas[areas.count - 1].flags = Set(words.map { String(decoding: $0, as: UTF8.self) })
      case UInt8(ascii: "P") where line.starts(with: keyName) && !areas.isEmpty:
        areas[areas.count - 1].protectionKey = UInt32(number(line.dropFirst(keyName.count), radix: 10) ?? 0)
      case UInt8(ascii: "A")...UInt8(ascii: "Z"): continue
      default: if let area = MemoryArea(line: line) { areas.append(area) }
      }
    }
    return areas
  }

  private static let flagsName = Array("VmFlags:".utf8)
  private static let keyName = Array("ProtectionKey:".utf8)

  /// A number after spaces.
  private static func number(_ text: ArraySlice<UInt8>, radix: UInt64) -> UInt64? {
    var value: UInt64 = 0
    let digits = text.drop { $0 == 32 }
    for byte in digits {
      let digit = UInt64(byte < 58 ? byte &- 48 : byte &- 87)
      guard digit < radix, !value.multipliedReportingOverflow(by: radix).overflow else { return nil }
      value = value * radix + digit
    }
    return digits.isEmpty ? nil : value
  }

  private init?(line: ArraySlice<UInt8>) {
    let fields = line.split(separator: 32, maxSplits: 5)
    guard fields.count >= 5, let dash = fields[0].firstIndex(of: UInt8(ascii: "-")),
      let start = MemoryArea.number(fields[0][..<dash], radix: 16),
      let end = MemoryArea.number(fields[0][(dash + 1)...], radix: 16),
      let offset = MemoryArea.number(fields[2], radix: 16), let inode = MemoryArea.number(fields[4], radix: 10)
    else { return nil }
    self.start = start
    self.end = end
    self.permissions = String(decoding: fields[1], as: UTF8.self)
    self.offset = offset
    self.device = String(decoding: fields[3], as: UTF8.self)
    self.inode = inode
    self.name = fields.count > 5 ? String(decoding: fields[5].drop { $0 == 32 }, as: UTF8.self) : ""
    self.flags = []
  }
}

/// The host's memory, /proc/meminfo.
public enum MemoryInformation {
  /// MemAvailable and MemTotal, in bytes.
  public static func read() throws(SystemCallError) -> (available: UInt64, total: UInt64) {
    let fields = try ProcessFields(path: "/proc/meminfo")
    func bytes(_ name: String) -> UInt64 {
      fields[name]?.split(separator: " ").first.flatMap { UInt64($0) }.map { $0 << 10 } ?? 0
    }
    return (bytes("MemAvailable"), bytes("MemTotal"))
  }
}
