internal import CLinux
internal import SystemPackage

/// A file of another process, opened once more through /proc: with a position of its own, so that reading it does not
/// move the other's.
public struct OpenFile: ~Copyable {
  private let file: FileDescriptor
  private let path: String

  /// Opens descriptor `number` of a process, for reading, whatever it was opened for there.
  public init(descriptor number: Int32, of process: Int32) throws(SystemCallError) {
    try self.init(path: "/proc/\(process)/fd/\(number)")
  }

  /// Opens what a process has mapped at [start, end), with or without a name (`/proc/PID/map_files`, which takes
  /// CAP_CHECKPOINT_RESTORE).
  public init(mappedFrom start: UInt64, to end: UInt64, by process: Int32) throws(SystemCallError) {
    let range = String(start, radix: 16) + "-" + String(end, radix: 16)
    try self.init(path: "/proc/\(process)/map_files/\(range)")
  }

  /// Opens a file by its path.
  public init(path: String) throws(SystemCallError) {
    self.path = path
    // What turns out to be a FIFO must not make anybody wait.
    file = try named("open", path) {
      try FileDescriptor.open(FilePath(path), .readOnly, options: [.closeOnExec, .nonBlocking])
    }
  }

  deinit { try? file.close() }

  /// What `fstat(2)` says.
  public func status() throws(SystemCallError) -> FileStatus { try FileStatus(file) }

  /// The path the kernel shows for it; a deleted one ends with ` (deleted)`.
  public func name() throws(SystemCallError) -> String { try ProcessFiles.link(path) }

  /// Seals of a file in memory (`fcntl(2)`, F_GET_SEALS); nil if it is no such file.
  public var seals: UInt32? {
    let result = thaw_syscall(72, UInt(file.rawValue), 1034, 0, 0, 0, 0)
    return result < 0 ? nil : UInt32(result)
  }

  /// The type of its file system, linux/magic.h (`fstatfs(2)`).
  public func fileSystemType() throws(SystemCallError) -> UInt64 {
    var words = [UInt64](repeating: 0, count: 15)  // struct statfs is 120 bytes; the type is the first word
    let result = words.withUnsafeMutableBytes {
      thaw_syscall(138, UInt(file.rawValue), UInt(bitPattern: $0.baseAddress), 0, 0, 0, 0)
    }
    _ = try checked(result, "fstatfs", path)
    return words[0]
  }

  /// The next run of bytes from `offset` on that is not a hole (`lseek(2)`, SEEK_DATA and SEEK_HOLE); nil if there is
  /// none.
  public func data(from offset: UInt64) throws(SystemCallError) -> Range<UInt64>? {
    let start = thaw_syscall(8, UInt(file.rawValue), UInt(offset), 3, 0, 0, 0)
    if start == -6 { return nil }  // ENXIO
    let first = try checked(start, "lseek SEEK_DATA", path)
    let end = try checked(thaw_syscall(8, UInt(file.rawValue), UInt(first), 4, 0, 0, 0), "lseek SEEK_HOLE", path)
    return UInt64(first)..<UInt64(end)
  }

  /// Fills `buffer` from `offset` on; what lies past the end of the file reads as zeros.
  public func read(at offset: UInt64, into buffer: UnsafeMutableRawBufferPointer) throws(SystemCallError) {
    var done = 0
    while done < buffer.count {
      let rest = UnsafeMutableRawBufferPointer(rebasing: buffer[done...])
      let position = Int64(offset) + Int64(done)
      let count = try named("pread", path) { try file.read(fromAbsoluteOffset: position, into: rest) }
      if count == 0 { break }
      done += count
    }
    if done < buffer.count {
      UnsafeMutableRawBufferPointer(rebasing: buffer[done...]).initializeMemory(as: UInt8.self, repeating: 0)
    }
  }
}
