import Crypto
import Linux
import SnapshotFormat
import SystemPackage

/// Writes the image and keeps its digest.
struct ImageWriter: ~Copyable {
  private let file: FileDescriptor
  private let path: FilePath
  private let buffer: UnsafeMutableRawBufferPointer
  private var hash = SHA256()
  private var position: UInt64 = 0

  init(path: FilePath) throws(SystemCallError) {
    self.path = path
    do {
      file = try FileDescriptor.open(
        path, .writeOnly, options: [.create, .truncate, .closeOnExec], permissions: [.ownerReadWrite])
    } catch {
      throw SystemCallError(call: "open", subject: path.string, errno: error as? Errno ?? .ioError)
    }
    buffer = .allocate(byteCount: 1 << 20, alignment: 4096)
  }

  deinit {
    buffer.deallocate()
    try? file.close()
  }

  /// Appends the pages of [start, end) of a process and lists them as extents, neighbours joined.
  mutating func append(
    from start: UInt64, to end: UInt64, of memory: borrowing ProcessMemory, droppingZeros: Bool,
    extents: inout [Mapping.Extent]
  ) throws {
    var address = start
    while address < end {
      let length = min(buffer.count, Int(end - address))
      let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[..<length])
      try memory.read(at: address, into: chunk)
      try append(chunk, at: address, droppingZeros: droppingZeros, extents: &extents)
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
        let length = min(buffer.count, Int(end - position))
        let chunk = UnsafeMutableRawBufferPointer(rebasing: buffer[..<length])
        try file.read(at: position, into: chunk)
        try append(chunk, at: position, droppingZeros: true, extents: &extents)
        position += UInt64(length)
      }
      offset = end
    }
  }

  private mutating func append(
    _ chunk: UnsafeMutableRawBufferPointer, at address: UInt64, droppingZeros: Bool,
    extents: inout [Mapping.Extent]
  ) throws {
    let page = Int(SnapshotManifest.pageSize)
    var offset = 0
    while offset < chunk.count {
      if droppingZeros, isZero(chunk, at: offset) {
        offset += page
        continue
      }
      var runEnd = offset + page
      while runEnd < chunk.count, !(droppingZeros && isZero(chunk, at: runEnd)) { runEnd += page }
      try write(UnsafeRawBufferPointer(rebasing: chunk[offset..<runEnd]), at: address + UInt64(offset), &extents)
      offset = runEnd
    }
  }

  private mutating func write(
    _ bytes: UnsafeRawBufferPointer, at address: UInt64, _ extents: inout [Mapping.Extent]
  ) throws {
    do {
      try file.writeAll(bytes)
    } catch {
      throw SystemCallError(call: "write", subject: path.string, errno: error as? Errno ?? .ioError)
    }
    hash.update(bufferPointer: bytes)
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
    try Durability.synchronize(path)
    return (position, Array(hash.finalize()))
  }
}
