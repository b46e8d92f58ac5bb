import SnapshotFormat

extension Mapping {
  /// Bytes of a huge page, which one entry of a page directory maps; x86-64.
  static let hugePage: UInt64 = 2 << 20

  /// Huge pages of the template's memory: 2 MB ranges that the snapshot fills almost wholly.
  ///
  /// A clone shares them with one entry in its page tables instead of 512 to be copied, so that the cost of cloning does
  /// not grow with the image. A page that a clone writes is copied alone: the kernel splits the clone's mapping of the
  /// huge page. The madvise(2) flag of the mapping stays as the program set it (MADV_COLLAPSE needs none).
  var hugePageRanges: [(start: UInt64, length: UInt64)] {
    let size = Mapping.hugePage
    // Memory in the holes between extents is spent in the template: at most a quarter of each range.
    let enough = size / 4 * 3
    guard backing == .anonymous,
      flags.isDisjoint(with: [.shared, .growsDown, .noHugePage, .dontFork, .wipeOnFork]), guards.isEmpty
    else { return [] }
    var result: [(start: UInt64, length: UInt64)] = []
    var filled: (range: UInt64, bytes: UInt64) = (0, 0)
    func close() {
      guard filled.bytes >= enough else { return }
      if let last = result.last, last.start + last.length == filled.range {
        result[result.count - 1].length += size
      } else {
        result.append((filled.range, size))
      }
    }
    for extent in extents {
      var position = extent.start
      let end = extent.start + extent.length
      while position < end {
        let range = position / size * size
        let next = min(end, range + size)
        if range != filled.range {
          close()
          filled = (range, 0)
        }
        if range >= start, range + size <= self.end { filled.bytes += next - position }
        position = next
      }
    }
    close()
    return result
  }
}
