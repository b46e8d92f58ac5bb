import Linux
import SnapshotFormat

extension FileLock {
  /// The locks that the `lock:` lines of a descriptor's fdinfo tell (fs/locks.c).
  static func all(process: Int32, number: Int32, _ refuse: (String) -> CheckpointError) throws -> [FileLock] {
    var locks: [FileLock] = []
    for line in try ProcessFiles.text("/proc/\(process)/fdinfo/\(number)").split(separator: "\n") {
      guard line.hasPrefix("lock:") else { continue }
      // "lock:", a number, kind, ADVISORY, READ or WRITE, process, device and inode, first and last byte.
      let fields = line.split(whereSeparator: { $0 == " " || $0 == "\t" })
      let kinds: [Substring: Kind] = ["FLOCK": .flock, "POSIX": .posix, "OFDLCK": .openFile]
      guard fields.count == 9, let kind = kinds[fields[2]], let start = UInt64(fields[7]) else {
        throw refuse("a lock of kind \(fields.count > 2 ? fields[2] : "?") cannot be brought back")
      }
      let last = UInt64(fields[8])  // "EOF" without one
      locks.append(
        FileLock(
          descriptor: UInt32(number), kind: kind, isExclusive: fields[4] == "WRITE", start: start,
          length: last.map { $0 - start + 1 } ?? 0))
    }
    return locks
  }
}
