import Linux
import SnapshotFormat

extension Descriptor.InotifyWatch {
  /// The watches of an inotify instance, by number: fdinfo (fs/notify/fdinfo.c) names inodes, whose paths are looked
  /// up in the sandbox.
  static func all(process: Int32, number: Int32, _ refuse: (String) -> CheckpointError) throws -> [Self] {
    var watches: [Self] = []
    for line in try ProcessFiles.text("/proc/\(process)/fdinfo/\(number)").split(separator: "\n") {
      guard line.hasPrefix("inotify ") else { continue }
      var fields: [Substring: Substring] = [:]
      for field in line.split(separator: " ") {
        let parts = field.split(separator: ":", maxSplits: 1)
        if parts.count == 2 { fields[parts[0]] = parts[1] }
      }
      func value(_ name: Substring) -> UInt64? { fields[name].flatMap { UInt64($0, radix: 16) } }
      guard let watch = value("wd"), let inode = value("ino"), let device = value("sdev"), let mask = value("mask"),
        let type = value("fhandle-type"), let text = fields["f_handle"]
      else { throw refuse("its watches are not told as they should be") }
      let digits = text.utf8.compactMap { Character(UnicodeScalar($0)).hexDigitValue }
      let handle = stride(from: 0, to: digits.count - 1, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
      guard
        let path = try FileHandles.path(
          of: process, device: device, inode: inode, type: Int32(type), handle: handle)
      else { throw refuse("no path leads to inode \(inode), which its watch \(watch) is of") }
      watches.append(Self(number: UInt32(watch), path: path, mask: UInt32(mask)))
    }
    return watches.sorted { $0.number < $1.number }
  }
}
