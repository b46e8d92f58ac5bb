internal import Crypto

/// The pages that a restored process is known to use until its first reply: recorded once from a real one; those that
/// it wrote every later clone has as its own ahead of need, the pages of files that it read are mapped. It is advice: a
/// wrong one costs time or memory, never correctness.
///
/// On disk it is the file `working-set` beside the manifest: magic, version, the image's checksum, the ranges, and the
/// SHA-256 of everything before.
public struct WorkingSet: Sendable, Equatable {
  /// A run of pages.
  public struct Range: Sendable, Equatable {
    /// Address of the first page.
    public var start: UInt64
    /// Bytes, a multiple of the page size.
    public var length: UInt64

    /// A run of pages.
    public init(start: UInt64, length: UInt64) {
      self.start = start
      self.length = length
    }
  }

  /// The pages that are written, by address, apart from each other.
  public private(set) var written: [Range]
  /// The pages of mapped files that are read, likewise; both together at most ``maximumRanges``.
  public private(set) var read: [Range]

  /// Most ranges in a set: RESTORE_WORKING_SET_RANGES of restore_program.h.
  public static let maximumRanges = 4096

  /// A set of these pages. Neighbours become one range; where there are more than ``maximumRanges``, the smallest
  /// are left out, those that are only read first.
  public init(written: [Range], read: [Range]) {
    self.written = WorkingSet.joined(written, atMost: WorkingSet.maximumRanges)
    self.read = WorkingSet.joined(read, atMost: WorkingSet.maximumRanges - self.written.count)
  }

  private static func joined(_ pages: [Range], atMost limit: Int) -> [Range] {
    var joined: [Range] = []
    for range in pages.sorted(by: { $0.start < $1.start }) where range.length > 0 {
      if let last = joined.last, last.start + last.length >= range.start {
        joined[joined.count - 1].length = max(last.length, range.start + range.length - last.start)
      } else {
        joined.append(range)
      }
    }
    guard joined.count > limit else { return joined }
    joined.sort { $0.length > $1.length }
    return joined.prefix(limit).sorted { $0.start < $1.start }
  }

  /// The pages of files in windows of 64 KB: what a disk had better read of them.
  public var readWindows: [Range] {
    let window: UInt64 = 64 << 10
    let windows = read.map { range in
      let start = range.start / window * window
      return Range(start: start, length: (range.start + range.length - start + window - 1) / window * window)
    }
    return WorkingSet.joined(windows, atMost: .max)
  }

  /// How many bytes every clone has of its own ahead of need.
  public var bytes: UInt64 { written.reduce(0) { $0 + $1.length } }

  private static let magic = Array("THAWWSET".utf8)
  private static let version: UInt32 = 2
  private static let digestBytes = 32

  /// The file's bytes; `imageDigest` binds it to the snapshot it was recorded with.
  public func encode(imageDigest: [UInt8]) -> [UInt8] {
    var writer = BinaryWriter()
    writer.bytes = WorkingSet.magic
    writer.put(WorkingSet.version)
    writer.put(imageDigest)
    for ranges in [written, read] { writer.put(words: ranges.flatMap { [$0.start, $0.length] }) }
    return writer.bytes + Array(SHA256.hash(data: writer.bytes))
  }

  /// Reads a file's bytes. Refuses what is damaged, of another snapshot, or not within `manifest`'s private writable
  /// mappings.
  public init(decoding bytes: [UInt8], for manifest: SnapshotManifest) throws(SnapshotFormatError) {
    guard bytes.count >= WorkingSet.magic.count + WorkingSet.digestBytes, bytes.starts(with: WorkingSet.magic) else {
      throw SnapshotFormatError("this is not a working set")
    }
    let content = Array(bytes.dropLast(WorkingSet.digestBytes))
    guard Array(SHA256.hash(data: content)) == Array(bytes.suffix(WorkingSet.digestBytes)) else {
      throw SnapshotFormatError("the working set's checksum is wrong")
    }
    var reader = BinaryReader(Array(content.dropFirst(WorkingSet.magic.count)))
    guard try reader.get(UInt32.self) == WorkingSet.version else {
      throw SnapshotFormatError("the working set has another version")
    }
    guard try reader.data() == manifest.imageDigest else {
      throw SnapshotFormatError("the working set is of another snapshot")
    }
    var lists: [[Range]] = []
    for _ in 0..<2 {
      let words = try reader.words(UInt64.self)
      guard words.count.isMultiple(of: 2), words.count / 2 <= WorkingSet.maximumRanges else {
        throw SnapshotFormatError("the working set's ranges are malformed")
      }
      lists.append(
        stride(from: 0, to: words.count, by: 2).map { Range(start: words[$0], length: words[$0 + 1]) })
    }
    guard reader.remaining == 0 else { throw SnapshotFormatError("the working set has bytes too many") }
    for (ranges, fits) in zip(lists, [\Mapping.canBeCopiedAhead, \Mapping.canBeMappedAhead]) {
      try WorkingSet.validate(ranges, within: manifest.process.mappings.filter { $0[keyPath: fits] })
    }
    self.init(written: lists[0], read: lists[1])
  }

  /// Whole pages that lie in mappings; both by address.
  private static func validate(_ ranges: [Range], within mappings: [Mapping]) throws(SnapshotFormatError) {
    let page = SnapshotManifest.pageSize
    var next = 0
    var lowest: UInt64 = 0
    for range in ranges {
      let (end, overflow) = range.start.addingReportingOverflow(range.length)
      guard !overflow, range.start >= lowest, range.start % page == 0, range.length % page == 0 else {
        throw SnapshotFormatError("the working set's ranges are malformed")
      }
      lowest = end
      // A range may go on from one mapping into the next one beside it.
      var position = range.start
      while position < end {
        while next < mappings.count, mappings[next].end <= position { next += 1 }
        guard next < mappings.count, mappings[next].start <= position else {
          throw SnapshotFormatError("the working set names pages outside the mappings that it is for")
        }
        position = mappings[next].end
      }
    }
  }
}

extension Mapping {
  /// Whether a clone's pages of this mapping are its own copies once it writes to them.
  public var canBeCopiedAhead: Bool {
    if case .object = backing { return false }  // made only when the working set has been copied
    return protection.contains(.write) && flags.isDisjoint(with: [.shared, .wipeOnFork, .dontFork])
  }

  /// Whether its file's pages can be mapped before they are needed.
  public var canBeMappedAhead: Bool {
    guard case .file = backing else { return false }
    return protection.contains(.read) && flags.isDisjoint(with: [.wipeOnFork, .dontFork])
  }
}
