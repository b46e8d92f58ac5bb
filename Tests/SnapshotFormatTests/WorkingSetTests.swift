import SnapshotFormat
import Testing

@Suite("Working sets")
struct WorkingSetTests {
  private let digest = [UInt8](repeating: 7, count: ImageChecksum.byteCount)

  /// 0x10000-0x20000 and 0x20000-0x24000 writable, 0x24000-0x28000 read-only, 0x30000-0x34000 shared.
  private var manifest: SnapshotManifest {
    var manifest = sample()
    manifest.imageDigest = digest
    func mapping(
      _ start: UInt64, _ end: UInt64, _ protection: Mapping.Protection, _ flags: Mapping.Flags,
      _ backing: Mapping.Backing = .anonymous
    ) -> Mapping {
      Mapping(
        start: start, end: end, protection: protection, flags: flags, backing: backing, extents: [], guards: [])
    }
    manifest.process.mappings = [
      mapping(0x10000, 0x20000, [.read, .write], []), mapping(0x20000, 0x24000, [.read, .write], []),
      mapping(0x24000, 0x28000, [.read], []), mapping(0x30000, 0x34000, [.read, .write], [.shared]),
      mapping(0x40000, 0x44000, [.read], [], .file(index: 0, offset: 0)),
    ]
    return manifest
  }

  private func range(_ start: UInt64, _ length: UInt64) -> WorkingSet.Range {
    WorkingSet.Range(start: start, length: length)
  }

  @Test func neighboursAreJoined() {
    let set = WorkingSet(
      written: [range(0x12000, 0x1000), range(0x10000, 0x1000), range(0x11000, 0x1000), range(0x15000, 0)], read: [])
    #expect(set.written == [range(0x10000, 0x3000)])
    #expect(set.bytes == 0x3000)
  }

  @Test func theSmallestAreLeftOut() {
    let many = (0...UInt64(WorkingSet.maximumRanges)).map { range($0 * 0x10000, $0 == 5 ? 0x1000 : 0x2000) }
    let set = WorkingSet(written: many, read: [range(0, 0x1000)])
    #expect(set.written.count == WorkingSet.maximumRanges)
    #expect(set.read.isEmpty)
    #expect(!set.written.contains { $0.start == 0x50000 })
    #expect(zip(set.written, set.written.dropFirst()).allSatisfy { $0.start < $1.start })
  }

  @Test func comesBackAsItWas() throws {
    let set = WorkingSet(
      written: [range(0x10000, 0x2000), range(0x1f000, 0x3000)], read: [range(0x40000, 0x2000)])
    #expect(try WorkingSet(decoding: set.encode(imageDigest: digest), for: manifest) == set)
  }

  @Test(
    arguments: [
      (0x24000, 0x1000), (0x23000, 0x2000), (0x30000, 0x1000), (0x8000, 0x1000), (0x10001, 0x1000), (0x10000, 0x1001),
    ] as [(UInt64, UInt64)])
  func pagesThatCannotBeCopiedAreRefused(_ start: UInt64, _ length: UInt64) {
    let bytes = WorkingSet(written: [range(start, length)], read: []).encode(imageDigest: digest)
    #expect(throws: SnapshotFormatError.self) { try WorkingSet(decoding: bytes, for: manifest) }
  }

  @Test(arguments: [0x10000, 0x3f000, 0x44000] as [UInt64])
  func onlyPagesOfFilesAreMappedAhead(_ start: UInt64) {
    let bytes = WorkingSet(written: [], read: [range(start, 0x1000)]).encode(imageDigest: digest)
    #expect(throws: SnapshotFormatError.self) { try WorkingSet(decoding: bytes, for: manifest) }
  }

  @Test func anotherSnapshotsIsRefused() {
    let bytes = WorkingSet(written: [range(0x10000, 0x1000)], read: []).encode(
      imageDigest: [UInt8](repeating: 8, count: ImageChecksum.byteCount))
    #expect(throws: SnapshotFormatError.self) { try WorkingSet(decoding: bytes, for: manifest) }
  }

  @Test func anyChangedByteAndAnyCutIsRefused() {
    let bytes = WorkingSet(written: [range(0x10000, 0x2000)], read: []).encode(imageDigest: digest)
    for index in bytes.indices {
      var changed = bytes
      changed[index] ^= 0x10
      #expect(throws: SnapshotFormatError.self) { try WorkingSet(decoding: changed, for: manifest) }
      #expect(throws: SnapshotFormatError.self) { try WorkingSet(decoding: Array(bytes[..<index]), for: manifest) }
    }
  }
}
