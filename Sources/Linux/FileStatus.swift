internal import CLinux
internal import Glibc
public import SystemPackage

/// What `lstat(2)` or `fstat(2)` says of a file.
public struct FileStatus: Sendable {
  /// The kinds of files that the engine tells apart.
  public enum Kind: Sendable, Equatable {
    case regular, directory, symbolicLink, characterDevice, blockDevice, fifo, socket, other
  }
  /// What it is.
  public var kind: Kind
  /// Permission bits.
  public var mode: UInt32
  /// Owner.
  public var userID: UInt32
  /// Group.
  public var groupID: UInt32
  /// Bytes.
  public var size: UInt64
  /// Last modification, nanoseconds since 1970.
  public var modified: Int64
  /// Inode number.
  public var inode: UInt64
  /// Device number of the file system.
  public var device: UInt64
  /// How many names it has.
  public var links: UInt64

  /// The status of the file at `path`; of a link itself unless `followingLink`.
  public init(path: String, followingLink: Bool = false) throws(SystemCallError) {
    var status = stat()
    let result = followingLink ? stat(path, &status) : lstat(path, &status)
    guard result == 0 else {
      throw SystemCallError(call: followingLink ? "stat" : "lstat", subject: path, errno: .current)
    }
    self.init(status)
  }

  /// The status of an open file.
  public init(_ descriptor: FileDescriptor) throws(SystemCallError) {
    var status = stat()
    guard fstat(descriptor.rawValue, &status) == 0 else {
      throw SystemCallError(call: "fstat", subject: "\(descriptor.rawValue)", errno: .current)
    }
    self.init(status)
  }

  private init(_ status: stat) {
    kind =
      switch status.st_mode & S_IFMT {
      case S_IFREG: .regular
      case S_IFDIR: .directory
      case S_IFLNK: .symbolicLink
      case S_IFCHR: .characterDevice
      case S_IFBLK: .blockDevice
      case S_IFIFO: .fifo
      case S_IFSOCK: .socket
      default: .other
      }
    mode = status.st_mode & 0o7777
    userID = status.st_uid
    groupID = status.st_gid
    size = UInt64(status.st_size)
    modified = Int64(status.st_mtim.tv_sec) * 1_000_000_000 + Int64(status.st_mtim.tv_nsec)
    inode = UInt64(status.st_ino)
    device = UInt64(status.st_dev)
    links = UInt64(status.st_nlink)
  }
}

extension Errno {
  /// The calling thread's `errno`.
  static var current: Errno { Errno(rawValue: Glibc.errno) }
}

/// Copies of directories as they are, for /tmp.
public enum DirectoryCopy {
  /// The names in a directory, without `.` and `..`, sorted.
  public static func names(in path: String) throws(SystemCallError) -> [String] {
    guard let directory = opendir(path) else {
      throw SystemCallError(call: "opendir", subject: path, errno: .current)
    }
    defer { closedir(directory) }
    var names: [String] = []
    while let entry = readdir(directory) {
      let name = withUnsafePointer(to: &entry.pointee.d_name) {
        $0.withMemoryRebound(to: CChar.self, capacity: 256) { String(cString: $0) }
      }
      if name != ".", name != ".." { names.append(name) }
    }
    return names.sorted()
  }

  /// Copies what is in `source` into the existing directory `target`: regular files, directories, symbolic links and
  /// FIFOs with their modes, owners and times. Links are never followed. Sockets are left out: only who binds one can
  /// make it. Each copy keeps its original's inode number in an attribute, where the file system has those: the jailer
  /// gives the files of a sandbox the same numbers (Sources/jailer/seed.c).
  ///
  /// - Throws: for what cannot be copied (a device), with `EOPNOTSUPP` and its path.
  public static func copyContents(of source: String, to target: String) throws(SystemCallError) {
    for name in try names(in: source) {
      let from = "\(source)/\(name)"
      let to = "\(target)/\(name)"
      let status = try FileStatus(path: from)
      switch status.kind {
      case .directory:
        guard mkdir(to, 0o700) == 0 else { throw SystemCallError(call: "mkdir", subject: to, errno: .current) }
        try copyContents(of: from, to: to)
      case .symbolicLink:
        let destination = try ProcessFiles.link(from)
        guard symlink(destination, to) == 0 else {
          throw SystemCallError(call: "symlink", subject: to, errno: .current)
        }
      case .regular: try copyFile(from, to)
      case .fifo:
        guard mkfifo(to, 0o600) == 0 else { throw SystemCallError(call: "mkfifo", subject: to, errno: .current) }
      case .socket: continue
      default: throw SystemCallError(call: "copy", subject: from, errno: .notSupported)
      }
      keepInode(status.inode, of: to)
      _ = lchown(to, status.userID, status.groupID)
      if status.kind != .symbolicLink { _ = chmod(to, status.mode) }
      let time = timespec(tv_sec: Int(status.modified / 1_000_000_000), tv_nsec: Int(status.modified % 1_000_000_000))
      _ = utimensat(AT_FDCWD, to, [time, time], AT_SYMLINK_NOFOLLOW)
    }
  }

  /// Deletes a file or a directory with all that is in it; links are not followed. Nothing happens if it is not
  /// there.
  public static func remove(_ path: String) throws(SystemCallError) {
    if unlink(path) == 0 || Glibc.errno == ENOENT { return }
    guard Glibc.errno == EISDIR || Glibc.errno == EPERM else {
      throw SystemCallError(call: "unlink", subject: path, errno: .current)
    }
    for name in try names(in: path) { try remove("\(path)/\(name)") }
    guard rmdir(path) == 0 else { throw SystemCallError(call: "rmdir", subject: path, errno: .current) }
  }

  /// `lsetxattr(2)`; a file system without attributes keeps no number.
  private static func keepInode(_ inode: UInt64, of path: String) {
    let number = Array(String(inode).utf8)
    _ = path.withCString { path in
      "trusted.thaw.inode".withCString { name in
        number.withUnsafeBytes {
          thaw_syscall(
            189, UInt(bitPattern: path), UInt(bitPattern: name), UInt(bitPattern: $0.baseAddress), UInt($0.count), 0, 0)
        }
      }
    }
  }

  private static func copyFile(_ source: String, _ target: String) throws(SystemCallError) {
    let from = try named("open", source) {
      try FileDescriptor.open(FilePath(source), .readOnly, options: [.closeOnExec, .noFollow])
    }
    defer { try? from.close() }
    let to = try named("open", target) {
      try FileDescriptor.open(
        FilePath(target), .writeOnly, options: [.create, .exclusiveCreate, .closeOnExec], permissions: .ownerReadWrite)
    }
    defer { try? to.close() }
    while true {
      let count = Glibc.sendfile(to.rawValue, from.rawValue, nil, 1 << 24)
      if count == 0 { return }
      guard count > 0 else { throw SystemCallError(call: "sendfile", subject: target, errno: .current) }
    }
  }
}

extension FileDescriptor {
  /// Has the kernel begin to read a part of the file (`posix_fadvise(2)`, POSIX_FADV_WILLNEED), in pieces as small as it
  /// reads at once on any host. It is advice: nothing fails.
  public func readAhead(_ range: Range<Int64>) {
    for start in stride(from: range.lowerBound, to: range.upperBound, by: 128 << 10) {
      _ = posix_fadvise(rawValue, Int(start), Int(min(128 << 10, range.upperBound - start)), 3)
    }
  }
}

/// Makes what was written durable.
public enum Durability {
  /// `syncfs(2)` of the file system that a directory is on.
  public static func synchronizeFileSystem(of path: FilePath) throws(SystemCallError) {
    let directory = try named("open", path.string) {
      try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
    }
    defer { try? directory.close() }
    _ = try checked(thaw_syscall(306, UInt(directory.rawValue), 0, 0, 0, 0, 0), "syncfs", path.string)
  }

  /// `fsync(2)` of a file or directory by path.
  public static func synchronize(_ path: FilePath) throws(SystemCallError) {
    let file = try named("open", path.string) {
      try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
    }
    defer { try? file.close() }
    guard fsync(file.rawValue) == 0 else {
      throw SystemCallError(call: "fsync", subject: path.string, errno: .current)
    }
  }
}
