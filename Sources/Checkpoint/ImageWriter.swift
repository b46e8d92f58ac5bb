import Crypto
import Dispatch
import Linux
import SnapshotFormat
import Synchronization
import SystemPackage

/// Writes the image and keeps its digest.
struct ImageWriter: ~Copyable {
  private let file: FileDescriptor
  private let path: FilePath
  private let chunks: ChunkRing
  private let digest: ImageDigest
  private var position: UInt64 = 0

  init(path: FilePath) throws(SystemCallError) {
    self.path = path
    do {
      file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: [.ownerReadWrite])
    } catch {
      throw SystemCallError(call: "open", subject: path.string, errno: error as? Errno ?? .ioError)
    }
    chunks = ChunkRing()
    digest = ImageDigest(file: file)
  }

  deinit {
    // Nobody reads a chunk or the file any more.
    digest.wait()
    try? file.close()
  }

  /// Appends the pages of [start, end) of a process and lists them as extents, neighbours joined.
  mutating func append(
    from start: UInt64, to end: UInt64, of memory: borrowing ProcessMemory, droppingZeros: Bool,
    extents: inout [Mapping.Extent]
  ) throws {
    var address = start
    while address < end {
      let chunk = chunks.next()
      let length = min(chunk.bytes.count, Int(end - address))
      let bytes = UnsafeMutableRawBufferPointer(rebasing: chunk.bytes[..<length])
      try memory.read(at: address, into: bytes)
      try append(bytes, of: chunk, at: address, droppingZeros: droppingZeros, extents: &extents)
      address += UInt64(length)
    }
  }

  /// Appends the pages of a file that are not all zeros; extents begin at offsets in it.
  mutating func append(_ file: borrowing OpenFile, extents: inout [Mapping.Extent]) throws {
    let page = SnapshotManifest.pageSize
    var offset: UInt64 = 0
    while let data = try file.data(from: offset) {
      var position = data.lowerBound / page * page
      let end = (data.upperBound + page - 1) / page * page
      while position < end {
        let chunk = chunks.next()
        let length = min(chunk.bytes.count, Int(end - position))
        let bytes = UnsafeMutableRawBufferPointer(rebasing: chunk.bytes[..<length])
        try file.read(at: position, into: bytes)
        try append(bytes, of: chunk, at: position, droppingZeros: true, extents: &extents)
        position += UInt64(length)
      }
      offset = end
    }
  }

  private mutating func append(
    _ bytes: UnsafeMutableRawBufferPointer, of chunk: Chunk, at address: UInt64, droppingZeros: Bool,
    extents: inout [Mapping.Extent]
  ) throws {
    let page = Int(SnapshotManifest.pageSize)
    var written: [Range<Int>] = []
    var offset = 0
    while offset < bytes.count {
      if droppingZeros, isZero(bytes, at: offset) {
        offset += page
        continue
      }
      var runEnd = offset + page
      while runEnd < bytes.count, !(droppingZeros && isZero(bytes, at: runEnd)) { runEnd += page }
      written.append(offset..<runEnd)
      offset = runEnd
    }
    guard !written.isEmpty else { return }
    digest.add(written, of: chunk)
    for run in written {
      try write(UnsafeRawBufferPointer(rebasing: bytes[run]), at: address + UInt64(run.lowerBound), &extents)
    }
    digest.written(upTo: position)
  }

  private mutating func write(
    _ bytes: UnsafeRawBufferPointer, at address: UInt64, _ extents: inout [Mapping.Extent]
  ) throws {
    do {
      try file.writeAll(bytes)
    } catch {
      throw SystemCallError(call: "write", subject: path.string, errno: error as? Errno ?? .ioError)
    }
    let length = UInt64(bytes.count)
    if let last = extents.last, last.start + last.length == address, last.imageOffset + last.length == position {
      extents[extents.count - 1].length += length
    } else {
      extents.append(Mapping.Extent(start: address, length: length, imageOffset: position))
    }
    position += length
  }

  private func isZero(_ bytes: UnsafeMutableRawBufferPointer, at offset: Int) -> Bool {
    for word in stride(from: offset, to: offset + Int(SnapshotManifest.pageSize), by: 8)
    where bytes.load(fromByteOffset: word, as: UInt64.self) != 0 {
      return false
    }
    return true
  }

  /// Length and digest of what was written, which is synced.
  consuming func finish() throws(SystemCallError) -> (bytes: UInt64, digest: [UInt8]) {
    let hash = digest.finalize()
    try Durability.synchronize(path)
    return (position, hash)
  }
}

/// A piece of memory that is read into, written from and hashed.
private final class Chunk: Sendable {
  /// Touched by the writer before it is given to the digest, read by both afterwards.
  nonisolated(unsafe) let bytes = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
  private let isFree = DispatchSemaphore(value: 1)

  deinit { bytes.deallocate() }

  /// Waits until nobody reads it any more.
  func take() { isFree.wait() }
  /// It has been read.
  func letGo() { isFree.signal() }
}

/// A few chunks, used in turn.
private final class ChunkRing {
  private let chunks = (0..<8).map { _ in Chunk() }
  private var turn = 0

  /// One that is free: the digest has read it, or it was not given to it.
  func next() -> Chunk {
    turn = (turn + 1) % chunks.count
    let chunk = chunks[turn]
    chunk.take()
    chunk.letGo()
    return chunk
  }
}

/// Hashes the image on a thread of its own: SHA-256 takes longer than reading and writing together. It also has the
/// kernel begin to write to the disk what waits for that.
private final class ImageDigest: Sendable {
  private let hash = Mutex(SHA256())
  private let queue = DispatchQueue(label: "thaw.image-digest", qos: .userInitiated)
  private let file: FileDescriptor
  private let started = Mutex(UInt64(0))
  /// Bytes after which writing to the disk is begun.
  private static let stride: UInt64 = 8 << 20

  init(file: FileDescriptor) { self.file = file }

  /// Hashes these bytes, and lets go of the chunk then.
  func add(_ runs: [Range<Int>], of chunk: Chunk) {
    chunk.take()
    queue.async { [self] in
      hash.withLock { hash in
        for run in runs { hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: chunk.bytes[run])) }
      }
      chunk.letGo()
    }
  }

  /// So much of the file is written.
  func written(upTo end: UInt64) {
    let begin: UInt64? = started.withLock { started in
      guard end - started >= ImageDigest.stride else { return nil }
      defer { started = end }
      return started
    }
    guard let begin else { return }
    queue.async { [file] in Durability.startWriting(file, from: begin, to: end) }
  }

  /// Waits until all is hashed.
  func wait() { queue.sync {} }

  /// The digest of all.
  func finalize() -> [UInt8] {
    wait()
    return hash.withLock { Array($0.finalize()) }
  }
}
