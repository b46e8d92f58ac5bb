internal import CLinux
internal import SystemPackage

/// Files by the handles that the kernel prints for watches (`open_by_handle_at(2)`).
public enum FileHandles {
  /// The path inside a process's root of the file with this handle, on a file system of device `device` (as the
  /// kernel numbers it: major, and minor in 20 bits).
  ///
  /// - Returns: nil if no mount of the process has such a file, or it has no name any more.
  public static func path(
    of process: Int32, device: UInt64, inode: UInt64, type: Int32, handle: [UInt8]
  ) throws(SystemCallError) -> String? {
    let number = "\(device >> 20):\(device & 0xf_ffff)"
    let root = "/proc/\(process)/root"
    // proc_pid_mountinfo(5): id, parent, major:minor, root, mount point.
    for line in try ProcessFiles.text("/proc/\(process)/mountinfo").split(separator: "\n") {
      let fields = line.split(separator: " ")
      guard fields.count > 5, fields[2] == number, !fields[4].contains("\\") else { continue }
      guard let mount = try? ProcessFiles.open(root + fields[4]) else { continue }
      defer { try? mount.close() }
      // struct file_handle: length 4, type 4, bytes. O_PATH | O_CLOEXEC.
      var words = withUnsafeBytes(of: (UInt32(handle.count), type)) { Array($0) } + handle
      let opened = words.withUnsafeMutableBytes {
        thaw_syscall(304, UInt(mount.rawValue), UInt(bitPattern: $0.baseAddress), 0o10000000 | 0o2000000, 0, 0, 0)
      }
      guard opened >= 0 else { continue }
      defer { _ = thaw_syscall(3, UInt(opened), 0, 0, 0, 0, 0) }
      let path = try ProcessFiles.link("/proc/self/fd/\(opened)")
      guard let status = try? FileStatus(path: root + path), status.inode == inode else { continue }
      return path
    }
    return nil
  }
}
