internal import CLinux
internal import Glibc
public import SystemPackage

/// Files that are written past the page cache (O_DIRECT, `open(2)`): offsets, lengths and memory in whole pages.
public enum PastCache {
  /// Creates a file, or empties it, readable by its owner only. A file system without O_DIRECT writes it as any other.
  public static func create(_ path: FilePath) throws(SystemCallError) -> FileDescriptor {
    let direct = FileDescriptor.OpenOptions(rawValue: 0o40000)
    func open(_ options: FileDescriptor.OpenOptions) throws -> FileDescriptor {
      try FileDescriptor.open(
        path, .writeOnly, options: options.union([.create, .truncate, .closeOnExec]), permissions: .ownerReadWrite)
    }
    return try named("open", path.string) {
      do { return try open(direct) } catch Errno.invalidArgument { return try open([]) }
    }
  }

  /// Has the file system find room for a part of a file (`fallocate(2)`), which is that long then: writes to it neither
  /// have to look for room nor to wait for each other.
  ///
  /// - Returns: whether there is room for all of it; the file may have grown otherwise, too. On a disk that is nearly full
  ///   nothing is asked for: others would find it full meanwhile.
  public static func reserve(_ range: Range<UInt64>, of file: FileDescriptor) -> Bool {
    var disk = statvfs()
    guard fstatvfs(file.rawValue, &disk) == 0, UInt64(disk.f_bavail) * UInt64(disk.f_frsize) / 2 > range.count else {
      return false
    }
    return thaw_syscall(285, UInt(file.rawValue), 0, UInt(range.lowerBound), UInt(range.count), 0, 0) == 0
  }

  /// Writes all of `bytes`; where the file's device wants other lengths than pages, it is from here on written as any other.
  public static func write(
    _ bytes: UnsafeRawBufferPointer, to file: FileDescriptor, at offset: Int64
  ) throws(Errno) {
    do {
      do {
        try file.writeAll(toAbsoluteOffset: offset, bytes)
      } catch Errno.invalidArgument {
        guard fcntl(file.rawValue, F_SETFL, 0) == 0 else { throw Errno.invalidArgument }
        try file.writeAll(toAbsoluteOffset: offset, bytes)
      }
    } catch {
      throw error as? Errno ?? .ioError
    }
  }
}

/// Writes that go on while the caller does (`io_submit(2)`). One thread at a time uses it.
public final class WriteQueue: @unchecked Sendable {
  private var context: UInt = 0

  /// - Parameter depth: how many are under way at most.
  public init(depth: Int) throws(SystemCallError) {
    _ = try checked(
      withUnsafeMutablePointer(to: &context) { thaw_syscall(206, UInt(depth), UInt(bitPattern: $0), 0, 0, 0, 0) },
      "io_setup")
  }

  /// Waits for what is under way.
  deinit { _ = thaw_syscall(207, context, 0, 0, 0, 0, 0) }

  /// Begins to write `bytes`, which stay as they are until the write has ended. On a file that is written through the
  /// page cache it has ended afterwards, on many file systems also if the file becomes longer by it.
  ///
  /// - Parameter tag: what ``ended(waitingForOne:)`` calls it.
  public func begin(
    _ bytes: UnsafeRawBufferPointer, to file: FileDescriptor, at offset: UInt64, tag: Int
  ) throws(SystemCallError) {
    var block = iocb()
    block.aio_data = UInt64(tag)
    block.aio_lio_opcode = 1  // IOCB_CMD_PWRITE
    block.aio_fildes = UInt32(file.rawValue)
    block.aio_buf = UInt64(UInt(bitPattern: bytes.baseAddress))
    block.aio_nbytes = UInt64(bytes.count)
    block.aio_offset = Int64(offset)
    let result = withUnsafeMutablePointer(to: &block) { block in
      withUnsafePointer(to: block) { thaw_syscall(209, context, 1, UInt(bitPattern: $0), 0, 0, 0) }
    }
    _ = try checked(result, "io_submit")
  }

  /// Those that have ended since: how many bytes were written, or a negative errno.
  public func ended(waitingForOne: Bool) throws(SystemCallError) -> [(tag: Int, result: Int)] {
    var events = [io_event](repeating: io_event(), count: 16)
    while true {
      let count = events.withUnsafeMutableBufferPointer {
        thaw_syscall(
          208, context, waitingForOne ? 1 : 0, UInt($0.count), UInt(bitPattern: $0.baseAddress), 0, 0)
      }
      if count == -4 { continue }  // EINTR
      return events[..<(try checked(count, "io_getevents"))].map { (Int($0.data), Int($0.res)) }
    }
  }
}

/// Memory for input and output in huge pages where there are any: a few faults instead of one for each page.
public final class HugeMemory: Sendable {
  /// The memory, zeros at first. It is gone with this object.
  nonisolated(unsafe) public let bytes: UnsafeMutableRawBufferPointer
  private nonisolated(unsafe) let whole: UnsafeMutableRawBufferPointer
  private static let page = 2 << 20

  /// - Parameter bytes: a multiple of 2 MB.
  public init(bytes count: Int) throws(SystemCallError) {
    let size = count + HugeMemory.page
    guard let start = mmap(nil, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), start != MAP_FAILED
    else { throw SystemCallError(call: "mmap", subject: "\(size) bytes", errno: .current) }
    whole = UnsafeMutableRawBufferPointer(start: start, count: size)
    let offset = -Int(bitPattern: start) & (HugeMemory.page - 1)
    bytes = UnsafeMutableRawBufferPointer(rebasing: whole[offset..<(offset + count)])
    madvise(bytes.baseAddress, count, 14)  // MADV_HUGEPAGE
  }

  deinit { munmap(whole.baseAddress, whole.count) }
}
