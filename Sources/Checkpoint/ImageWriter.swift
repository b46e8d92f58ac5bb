import Dispatch
import Glibc
import Linux
import SnapshotFormat
import Synchronization
import SystemPackage

/// Writes the image and keeps its checksum: pages are gathered in chunks, which another thread writes to the disk meanwhile.
/// One thread uses it at a time.
final class ImageWriter: @unchecked Sendable {
  private let path: FilePath
  private let chunks: ChunkWriter
  /// The chunk that is being filled, and its bytes so far.
  private var chunk: Chunk
  private var filled = 0
  private var checksum = ImageChecksum()
  /// Where the chunk begins in the image.
  private var chunkStart: UInt64 = 0

  /// Whether nobody wants it any more.
  private let isAbandoned: @Sendable () -> Bool

  init(path: FilePath, isAbandoned: @escaping @Sendable () -> Bool) throws(SystemCallError) {
    self.path = path
    self.isAbandoned = isAbandoned
    let memory = try ChunkMemory.take()
    chunks = ChunkWriter(try PastCache.create(path), memory)
    chunk = chunks.next()
  }

  deinit { chunks.close() }

  /// Appends the pages of [start, end) of a process and lists them as extents, neighbours joined.
  func append(
    from start: UInt64, to end: UInt64, of memory: borrowing ProcessMemory, droppingZeros: Bool,
    extents: inout [Mapping.Extent]
  ) throws {
    var address = start
    while address < end {
      let space = try self.space(for: end - address)
      try memory.read(at: address, into: space)
      try keep(space, at: address, droppingZeros: droppingZeros, &extents)
      address += UInt64(space.count)
    }
  }

  /// Appends the pages of a file that are not all zeros; extents begin at offsets in it.
  func append(_ file: borrowing OpenFile, extents: inout [Mapping.Extent]) throws {
    let page = SnapshotManifest.pageSize
    var offset: UInt64 = 0
    while let data = try file.data(from: offset) {
      var position = data.lowerBound / page * page
      offset = (data.upperBound + page - 1) / page * page
      while position < offset {
        let space = try self.space(for: offset - position)
        try file.read(at: position, into: space)
        try keep(space, at: position, droppingZeros: true, &extents)
        position += UInt64(space.count)
      }
    }
  }

  /// Where the next `length` bytes are to be read to, or as many of them as the chunk has room for: a chunk that is
  /// nearly full is written, lest much be read in small pieces where pages of zeros fall out again.
  private func space(for length: UInt64) throws(SystemCallError) -> UnsafeMutableRawBufferPointer {
    let room = chunk.bytes.count - filled
    if room < chunk.bytes.count / 4, room < length { try flush() }
    let end = min(chunk.bytes.count, filled + Int(min(length, UInt64(chunk.bytes.count))))
    return UnsafeMutableRawBufferPointer(rebasing: chunk.bytes[filled..<end])
  }

  /// Keeps what was read to the chunk's free part, moved together where pages of zeros fall out.
  private func keep(
    _ bytes: UnsafeMutableRawBufferPointer, at address: UInt64, droppingZeros: Bool, _ extents: inout [Mapping.Extent]
  ) throws(SystemCallError) {
    let page = Int(SnapshotManifest.pageSize)
    var offset = 0
    while offset < bytes.count {
      let start = offset
      while offset < bytes.count, !(droppingZeros && isZero(bytes, at: offset)) { offset += page }
      if offset > start {
        let run = UnsafeRawBufferPointer(rebasing: bytes[start..<offset])
        let target = UnsafeMutableRawBufferPointer(rebasing: chunk.bytes[filled..<(filled + run.count)])
        if target.baseAddress != bytes.baseAddress?.advanced(by: start) { target.copyMemory(from: run) }
        list(address + UInt64(start), UInt64(run.count), in: &extents)
        filled += run.count
      }
      if offset < bytes.count { offset += page }
    }
    if filled == chunk.bytes.count { try flush() }
  }

  private func list(_ address: UInt64, _ length: UInt64, in extents: inout [Mapping.Extent]) {
    let position = chunkStart + UInt64(filled)
    if let last = extents.last, last.start + last.length == address, last.imageOffset + last.length == position {
      extents[extents.count - 1].length += length
    } else {
      extents.append(Mapping.Extent(start: address, length: length, imageOffset: position))
    }
  }

  private func isZero(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
    for word in stride(from: offset, to: offset + Int(SnapshotManifest.pageSize), by: 8)
    where bytes.load(fromByteOffset: word, as: UInt64.self) != 0 {
      return false
    }
    return true
  }

  /// Has what was appended written meanwhile, if the chunk holds anything, and takes the next one.
  func flush() throws(SystemCallError) {
    guard filled > 0 else { return }
    checksum.update(UnsafeRawBufferPointer(rebasing: chunk.bytes[..<filled]))
    chunks.write(chunk, count: filled, at: chunkStart)
    chunkStart += UInt64(filled)
    filled = 0
    chunk = chunks.next()
    try check()
  }

  private func check() throws(SystemCallError) {
    if isAbandoned() { throw SystemCallError(call: "write", subject: path.string, errno: .canceled) }
    if let errno = chunks.failure { throw SystemCallError(call: "write", subject: path.string, errno: errno) }
  }

  /// Length and checksum of what was appended, after which nothing is. It is written and synced meanwhile.
  func end() throws(SystemCallError) -> (bytes: UInt64, digest: [UInt8]) {
    try flush()
    chunks.synchronize()
    return (chunkStart, checksum.digest())
  }

  /// Waits until everything is on the disk.
  func wait() throws(SystemCallError) {
    chunks.wait()
    try check()
  }
}

/// Memory for chunks, kept for the next snapshot: new memory may come slowly from the host.
enum ChunkMemory {
  private static let kept = Mutex<HugeMemory?>(nil)

  static func take() throws(SystemCallError) -> HugeMemory {
    let memory = kept.withLock { kept in
      defer { kept = nil }
      return kept
    }
    if let memory { return memory }
    return try HugeMemory(bytes: 4 << 20)
  }

  static func giveBack(_ memory: HugeMemory) { kept.withLock { $0 = memory } }

  /// Has memory ready for a snapshot that is about to be taken.
  static func prepare() {
    guard let memory = try? take() else { return }
    for offset in stride(from: 0, to: memory.bytes.count, by: 4096) { memory.bytes[offset] = 0 }
    giveBack(memory)
  }
}

/// A piece of memory that is read into and written from.
private final class Chunk: Sendable {
  /// Touched by whoever took it.
  nonisolated(unsafe) let bytes: UnsafeMutableRawBufferPointer

  init(_ bytes: Slice<UnsafeMutableRawBufferPointer>) { self.bytes = UnsafeMutableRawBufferPointer(rebasing: bytes) }
}

/// Writes chunks to a file on a thread of its own, in their order. After a failure it writes no more.
private final class ChunkWriter: Sendable {
  private let file: FileDescriptor
  private let queue = DispatchQueue(label: "thaw.image", qos: .userInitiated)
  private let memory: HugeMemory
  private let chunks: [Chunk]
  private let turn = Atomic(0)
  /// Counts the chunks that nobody has.
  private let free = DispatchSemaphore(value: 0)
  private let firstFailure = Mutex<Errno?>(nil)

  init(_ file: FileDescriptor, _ memory: HugeMemory) {
    self.file = file
    self.memory = memory
    chunks = stride(from: 0, to: memory.bytes.count, by: 1 << 20).map {
      Chunk(memory.bytes[$0..<($0 + 1 << 20)])
    }
    for _ in chunks { free.signal() }
  }

  /// The next one in turn, once it is written.
  func next() -> Chunk {
    free.wait()
    return chunks[turn.wrappingAdd(1, ordering: .relaxed).newValue % chunks.count]
  }

  func write(_ chunk: Chunk, count: Int, at offset: UInt64) {
    queue.async { [self] in
      defer { free.signal() }
      attempt { () throws(Errno) in
        try PastCache.write(UnsafeRawBufferPointer(rebasing: chunk.bytes[..<count]), to: file, at: Int64(offset))
      }
    }
  }

  /// Has what was written on the disk.
  func synchronize() {
    queue.async { [self] in
      attempt { () throws(Errno) in if fsync(file.rawValue) != 0 { throw Errno(rawValue: errno) } }
    }
  }

  private func attempt(_ body: () throws(Errno) -> Void) {
    guard failure == nil else { return }
    do throws(Errno) { try body() } catch { firstFailure.withLock { $0 = error } }
  }

  /// What went wrong first.
  var failure: Errno? { firstFailure.withLock(\.self) }

  /// Waits until all is written.
  func wait() { queue.sync {} }

  /// Nothing is written afterwards.
  func close() {
    wait()
    try? file.close()
    ChunkMemory.giveBack(memory)
  }
}
