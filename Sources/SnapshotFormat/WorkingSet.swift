internal import Crypto

/// The pages that a restored process is known to write until its first reply: recorded once from a real one, and
/// copied ahead of need in every later clone. It is advice: a wrong one costs time or memory, never correctness.
///
/// On disk it is the file `working-set` beside the manifest: magic, version, the image's SHA-256, the ranges, and the
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

  /// The pages, by address, apart from each other; at most ``maximumRanges``.
  public private(set) var ranges: [Range]

  /// Most ranges in a set: RESTORE_WORKING_SET_RANGES of restore_program.h.
  public static let maximumRanges = 4096

  /// A set of these pages. Neighbours become one range; where there are more than ``maximumRanges``, the smallest
  /// are left out.
  public init(_ pages: [Range]) {
    var joined: [Range] = []
    for range in pages.sorted(by: { $0.start < $1.start }) where range.length > 0 {
      if let last = joined.last, last.start + last.length >= range.start {
        joined[joined.count - 1].length = max(last.length, range.start + range.length - last.start)
      } else {
        joined.append(range)
      }
    }
    if joined.count > WorkingSet.maximumRanges {
      joined.sort { $0.length > $1.length }
      joined.removeLast(joined.count - WorkingSet.maximumRanges)
      joined.sort { $0.start < $1.start }
    }
    ranges = joined
  }

  /// How many bytes every clone copies ahead.
  public var bytes: UInt64 { ranges.reduce(0) { $0 + $1.length } }

  private static let magic = Array("THAWWSET".utf8)
  private static let version: UInt32 = 1
  private static let digestBytes = 32

  /// The file's bytes; `imageDigest` binds it to the snapshot it was recorded with.
  public func encode(imageDigest: [UInt8]) -> [UInt8] {
    var writer = BinaryWriter()
    writer.bytes = WorkingSet.magic
    writer.put(WorkingSet.version)
    writer.put(imageDigest)
    writer.put(words: ranges.flatMap { [$0.start, $0.length] })
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
    let words = try reader.words(UInt64.self)
    guard words.count.isMultiple(of: 2), words.count / 2 <= WorkingSet.maximumRanges, reader.remaining == 0 else {
      throw SnapshotFormatError("the working set's ranges are malformed")
    }
    self.init(stride(from: 0, to: words.count, by: 2).map { Range(start: words[$0], length: words[$0 + 1]) })
    try validate(manifest)
  }

  private func validate(_ manifest: SnapshotManifest) throws(SnapshotFormatError) {
    let page = SnapshotManifest.pageSize
    let writable = manifest.process.mappings.filter(\.canBeCopiedAhead)
    var next = 0
    for range in ranges {
      let (end, overflow) = range.start.addingReportingOverflow(range.length)
      guard !overflow, range.start % page == 0, range.length % page == 0 else {
        throw SnapshotFormatError("the working set's ranges are malformed")
      }
      // A range may go on from one mapping into the next one beside it.
      var position = range.start
      while position < end {
        while next < writable.count, writable[next].end <= position { next += 1 }
        guard next < writable.count, writable[next].start <= position else {
          throw SnapshotFormatError("the working set names pages outside the writable mappings")
        }
        position = writable[next].end
      }
    }
  }
}

extension Mapping {
  /// Whether a clone's pages of this mapping are its own copies once it writes to them.
  public var canBeCopiedAhead: Bool {
    protection.contains(.write) && flags.isDisjoint(with: [.shared, .wipeOnFork, .dontFork])
  }
}
