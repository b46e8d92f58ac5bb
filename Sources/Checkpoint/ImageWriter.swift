import Glibc
import Linux
import SnapshotFormat
import Synchronization
import SystemPackage

/// Writes the image and keeps its checksum: pages are gathered in chunks, which the disk takes meanwhile.
/// One thread uses it at a time.
final class ImageWriter: @unchecked Sendable {
  private let path: FilePath
  private let chunks: ChunkWriter
  /// The chunk that is being filled, and its bytes so far.
  private var chunk: (number: Int, bytes: UnsafeMutableRawBufferPointer)
  private var filled = 0
  private var checksum = ImageChecksum()
  /// Where the chunk begins in the image.
  private var chunkStart: UInt64 = 0

  /// Whether nobody wants it any more.
  var isAbandoned: @Sendable () -> Bool = { false }

  /// What can be had ahead is there afterwards: memory, and room on the disk for as many bytes as are expected.
  init(path: FilePath, expecting bytes: UInt64) throws(SystemCallError) {
    self.path = path
    chunks = try ChunkWriter(path, expecting: bytes)
    chunk = chunks.next()
  }

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

  /// Of as many bytes it is worth to begin a write, or to read them at once.
  private static let piece = 256 << 10

  /// Where the next `length` bytes are to be read to, or a piece of them: a chunk without room for it is written, lest
  /// much be read in small pieces where pages of zeros fall out again; and so is one for which the disk waits.
  private func space(for length: UInt64) throws(SystemCallError) -> UnsafeMutableRawBufferPointer {
    let wanted = Int(min(length, UInt64(Self.piece)))
    if chunk.bytes.count - filled < wanted || filled >= Self.piece && chunks.isIdle { try flush() }
    return UnsafeMutableRawBufferPointer(rebasing: chunk.bytes[filled..<(filled + wanted)])
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
    chunks.write(chunk.number, count: filled, at: chunkStart)
    chunkStart += UInt64(filled)
    filled = 0
    chunk = chunks.next()
    try check()
  }

  private func check() throws(SystemCallError) {
    if isAbandoned() { throw SystemCallError(call: "write", subject: path.string, errno: .canceled) }
    if let errno = chunks.failure { throw SystemCallError(call: "write", subject: path.string, errno: errno) }
  }

  /// Length and checksum of what was appended, after which nothing is. The disk may be at it still.
  func end() throws(SystemCallError) -> (bytes: UInt64, digest: [UInt8]) {
    try flush()
    return (chunkStart, checksum.digest())
  }

  /// Waits until everything is written; it is not durable yet.
  func wait() throws(SystemCallError) {
    chunks.end(at: chunkStart)
    try check()
  }

  /// Makes what was written durable.
  func synchronize() throws(SystemCallError) {
    chunks.synchronize()
    try check()
  }
}

/// Memory for chunks and the queue in which they are written, kept for the next snapshot: new memory may come slowly from
/// the host.
private final class ChunkMemory: Sendable {
  static let chunk = 1 << 20
  static let count = 8
  let memory: HugeMemory
  /// nil if the kernel has none for us.
  let queue: WriteQueue?
  private static let kept = Mutex<ChunkMemory?>(nil)

  private init() throws(SystemCallError) {
    memory = try HugeMemory(bytes: Self.count * Self.chunk)
    queue = try? WriteQueue(depth: Self.count)
    for offset in stride(from: 0, to: memory.bytes.count, by: 4096) { memory.bytes[offset] = 0 }
  }

  static func take() throws(SystemCallError) -> ChunkMemory {
    let kept = kept.withLock { kept in
      defer { kept = nil }
      return kept
    }
    if let kept { return kept }
    return try ChunkMemory()
  }

  /// Nothing is being written.
  func giveBack() { if queue != nil { Self.kept.withLock { $0 = self } } }
}

/// Has chunks written to a file while the caller goes on. After a failure it writes no more.
private final class ChunkWriter {
  private struct Chunk {
    var bytes: UnsafeMutableRawBufferPointer
    /// What is written of it, and where to.
    var count = 0
    var offset: UInt64 = 0
  }
  private let file: FileDescriptor
  private let memory: ChunkMemory
  private var chunks: [Chunk]
  /// The numbers of those that nobody has.
  private var free: [Int]
  /// How many are being written.
  private var underWay = 0
  /// Up to where the file system has found room, and whether it finds more ahead.
  private var reserved: UInt64 = 0
  private var findsRoom = true
  private static let reservation: UInt64 = 64 << 20
  /// What went wrong first.
  private(set) var failure: Errno?

  init(_ path: FilePath, expecting bytes: UInt64) throws(SystemCallError) {
    memory = try ChunkMemory.take()
    file = try PastCache.create(path)
    let all = memory.memory.bytes
    chunks = stride(from: 0, to: all.count, by: ChunkMemory.chunk).map {
      Chunk(bytes: UnsafeMutableRawBufferPointer(rebasing: all[$0..<($0 + ChunkMemory.chunk)]))
    }
    free = Array(chunks.indices)
    if bytes > 0 {
      reserve(upTo: min(bytes, Self.reservation))
      // What is durable already need not be when there is more.
      fsync(file.rawValue)
    }
  }

  /// Waits until one is free, and gives it to be filled.
  func next() -> (number: Int, bytes: UnsafeMutableRawBufferPointer) {
    while free.isEmpty { collect(waitingForOne: true) }
    let number = free.removeFirst()
    return (number, chunks[number].bytes)
  }

  /// Has a part of a chunk written, which is free afterwards.
  func write(_ number: Int, count: Int, at offset: UInt64) {
    chunks[number].count = count
    chunks[number].offset = offset
    let end = offset + UInt64(count)
    if reserved < end { reserve(upTo: end + Self.reservation) }
    guard failure == nil else { return free.append(number) }
    let bytes = UnsafeRawBufferPointer(rebasing: chunks[number].bytes[..<count])
    if let queue = memory.queue, (try? queue.begin(bytes, to: file, at: offset, tag: number)) != nil {
      underWay += 1
    } else {
      finish(number, done: 0)
    }
  }

  private func reserve(upTo end: UInt64) {
    guard findsRoom else { return }
    findsRoom = PastCache.reserve(reserved..<end, of: file)
    if findsRoom {
      reserved = end
    } else {
      // It may have found a part, which others may need.
      ftruncate(file.rawValue, Int(reserved))
    }
  }

  /// Writes what is left of a chunk when `done` bytes of it are, without a queue.
  private func finish(_ number: Int, done: Int) {
    let rest = UnsafeRawBufferPointer(rebasing: chunks[number].bytes[done..<chunks[number].count])
    do {
      if !rest.isEmpty { try PastCache.write(rest, to: file, at: Int64(chunks[number].offset) + Int64(done)) }
    } catch {
      failure = failure ?? error
    }
    free.append(number)
  }

  /// Has those that are written free again.
  private func collect(waitingForOne: Bool) {
    guard underWay > 0, let queue = memory.queue else { return }
    do {
      for (number, result) in try queue.ended(waitingForOne: waitingForOne) {
        underWay -= 1
        // What the queue has not written (where the device wants other lengths than pages, say) is, or fails, without it.
        finish(number, done: max(0, result))
      }
    } catch {
      // What becomes of them is not known.
      failure = failure ?? error.errno
      free = Array(chunks.indices)
      underWay = 0
    }
  }

  /// Whether the disk has nothing to do.
  var isIdle: Bool {
    collect(waitingForOne: false)
    return underWay == 0
  }

  /// Waits until all is written, and gives back the room that was not needed.
  func end(at length: UInt64) {
    wait()
    guard failure == nil, reserved > length else { return }
    if ftruncate(file.rawValue, Int(length)) != 0 { failure = Errno(rawValue: errno) }
  }

  private func wait() {
    while underWay > 0 { collect(waitingForOne: true) }
  }

  /// Has what was written on the disk.
  func synchronize() {
    if failure == nil, fsync(file.rawValue) != 0 { failure = Errno(rawValue: errno) }
  }

  deinit {
    wait()
    try? file.close()
    if failure == nil { memory.giveBack() }
  }
}
