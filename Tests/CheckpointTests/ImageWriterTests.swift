import Foundation
import Linux
import SnapshotFormat
import SystemPackage
import Testing

@testable import Checkpoint

/// Images as the disk gets them, of this process's own memory.
@Suite("Image writer", .timeLimit(.minutes(1)))
struct ImageWriterTests {
  private static let page = 4096

  /// Runs `body` with memory of random bytes whose every seventh page is zeros.
  private func withMemory(megabytes: Int, _ body: (UnsafeMutableRawBufferPointer) throws -> Void) throws {
    let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: megabytes << 20, alignment: Self.page)
    defer { memory.deallocate() }
    var state = UInt64.random(in: 1 ... .max)
    for word in 0..<(memory.count / 8) {
      state ^= state << 13
      state ^= state >> 7
      state ^= state << 17
      memory.storeBytes(of: word * 8 / Self.page % 7 == 6 ? 0 : state, toByteOffset: word * 8, as: UInt64.self)
    }
    try body(memory)
  }

  /// Appends memory as a process's snapshot does, in two parts.
  private func append(_ memory: UnsafeMutableRawBufferPointer, to writer: ImageWriter) throws -> [Mapping.Extent] {
    let source = try ProcessMemory(process: getpid())
    let start = UInt64(UInt(bitPattern: memory.baseAddress))
    let middle = start + UInt64(memory.count / 3 / Self.page * Self.page)
    var extents: [Mapping.Extent] = []
    for (from, to) in [(start, middle), (middle, start + UInt64(memory.count))] {
      try writer.append(from: from, to: to, of: source, droppingZeros: true, extents: &extents)
    }
    return extents
  }

  /// The disk holds what was read, in the places that are told, and no room is kept that is not needed: with too little
  /// expected (the file grows beyond it several times), far too much, and nothing.
  @Test(arguments: [1 << 20, 63 << 20, 0] as [UInt64])
  func writesWhatItReads(expecting expected: UInt64) throws {
    let path = FilePath("/var/tmp/thaw-image-\(UUID())")
    defer { unlink(path.string) }
    try withMemory(megabytes: expected > 2 << 20 ? 5 : 150) { memory in
      let writer = try ImageWriter(path: path, expecting: expected)
      let extents = try append(memory, to: writer)
      let (bytes, digest) = try writer.end()
      try writer.wait()
      try writer.synchronize()
      let image = try Data(contentsOf: URL(fileURLWithPath: path.string), options: .alwaysMapped)
      #expect(image.count == Int(bytes))
      #expect(extents.reduce(0) { $0 + $1.length } == bytes)
      let start = UInt64(UInt(bitPattern: memory.baseAddress))
      image.withUnsafeBytes { (image: UnsafeRawBufferPointer) in
        for extent in extents {
          let from = Int(extent.start - start)
          let original = UnsafeRawBufferPointer(rebasing: memory[from..<(from + Int(extent.length))])
          let written = UnsafeRawBufferPointer(
            rebasing: image[Int(extent.imageOffset)..<Int(extent.imageOffset + extent.length)])
          #expect(original.elementsEqual(written))
        }
        var checksum = ImageChecksum()
        checksum.update(image)
        #expect(checksum.digest() == digest)
      }
      var status = stat()
      #expect(stat(path.string, &status) == 0)
      #expect(status.st_blocks * 512 <= Int(bytes) + 64 << 10)
    }
  }

  /// /dev/full has no room, and refuses to be written in the background as well.
  @Test func aFullDiskIsSaid() throws {
    try withMemory(megabytes: 9) { memory in
      let writer = try ImageWriter(path: "/dev/full", expecting: UInt64(memory.count))
      let failure = #expect(throws: SystemCallError.self) {
        _ = try append(memory, to: writer)
        _ = try writer.end()
        try writer.wait()
      }
      #expect(failure?.errno == .noSpace)
    }
  }
}
