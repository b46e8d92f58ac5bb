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
    var result: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = try named("read", path) { try buffer.withUnsafeMutableBytes { try file.read(into: $0) } }
      if count == 0 { return result }
      result.append(contentsOf: buffer[..<count])
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

/// `Name: value` lines, as in /proc/PID/status and fdinfo.
public struct ProcessFields: Sendable {
  private var fields: [String: String] = [:]

  /// Reads the lines of a file.
  public init(path: String) throws(SystemCallError) { self.init(text: try ProcessFiles.text(path)) }

  /// Reads the lines of a text.
  public init(text: String) {
    for line in text.split(separator: "\n") {
      guard let colon = line.firstIndex(of: ":") else { continue }
      let value = line[line.index(after: colon)...].drop { $0 == " " || $0 == "\t" }
      fields[String(line[..<colon])] = String(value)
    }
  }

  /// The value as it stands.
  public subscript(name: String) -> String? { fields[name] }

  /// The value as a number.
  public func number(_ name: String, radix: Int = 10) -> UInt64? {
    fields[name].flatMap { $0.split(whereSeparator: { $0 == " " || $0 == "\t" }).first }.flatMap {
      UInt64($0, radix: radix)
    }
  }

  /// The value as a row of numbers.
  public func numbers(_ name: String) -> [UInt32] {
    (fields[name] ?? "").split(whereSeparator: { $0 == " " || $0 == "\t" }).compactMap { UInt32($0) }
  }
}

/// One mapping as /proc/PID/smaps shows it.
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
  /// The two-letter flags of VmFlags.
  public var flags: Set<String>
  /// The protection key, pkeys(7).
  public var protectionKey: UInt32 = 0

  /// All mappings of a process, by address.
  public static func all(of process: Int32) throws(SystemCallError) -> [MemoryArea] {
    let text = try ProcessFiles.bytes("/proc/\(process)/smaps")
    var areas: [MemoryArea] = []
    var lineStart = 0
    while lineStart < text.count {
      let lineEnd = text[lineStart...].firstIndex(of: 10) ?? text.count
      let line = text[lineStart..<lineEnd]
      lineStart = lineEnd + 1
      guard let first = line.first else { continue }
      if first >= 0x41, first <= 0x5a {  // a field: upper-case letter
        guard !areas.isEmpty else { continue }
        if line.starts(with: Array("ProtectionKey:".utf8)) {
          let value = String(decoding: line.dropFirst(14), as: UTF8.self).drop { $0 == " " }
          areas[areas.count - 1].protectionKey = UInt32(value) ?? 0
        }
        guard line.starts(with: Array("VmFlags:".utf8)) else { continue }
        let words = String(decoding: line.dropFirst(8), as: UTF8.self).split(separator: " ")
        areas[areas.count - 1].flags = Set(words.map(String.init))
      } else if let area = MemoryArea(line: String(decoding: line, as: UTF8.self)) {
        areas.append(area)
      }
    }
    return areas
  }

  private init?(line: String) {
    let fields = line.split(separator: " ", maxSplits: 5, omittingEmptySubsequences: true)
    guard fields.count >= 5 else { return nil }
    let range = fields[0].split(separator: "-")
    guard range.count == 2, let start = UInt64(range[0], radix: 16), let end = UInt64(range[1], radix: 16),
      let offset = UInt64(fields[2], radix: 16), let inode = UInt64(fields[4])
    else { return nil }
    self.start = start
    self.end = end
    self.permissions = String(fields[1])
    self.offset = offset
    self.device = String(fields[3])
    self.inode = inode
    self.name = fields.count > 5 ? String(fields[5].drop { $0 == " " }) : ""
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
