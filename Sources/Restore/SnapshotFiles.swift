import Crypto
import Linux
import SnapshotFormat
import SystemPackage

/// The files of one snapshot, checked: nothing of them is used before its checksum was found right.
struct SnapshotFiles: Sendable {
  let manifest: SnapshotManifest
  /// The image, open for reading; the owner closes it.
  let image: FileDescriptor

  /// Reads and checks `manifest` and `image` in `directory`, and whether this machine can use them.
  init(verifying directory: FilePath) throws {
    let path = directory.appending("manifest")
    do {
      let file = try FileDescriptor.open(path, .readOnly, options: .closeOnExec)
      let bytes = try file.closeAfter { try SnapshotFiles.contents(file, limit: SnapshotManifest.maximumBytes) }
      manifest = try SnapshotManifest(decoding: bytes)
    } catch {
      throw RestoreError(code: .corrupt, message: "\(path): \(error)")
    }
    try manifest.compatibility.checkMachine()
    let imagePath = directory.appending("image")
    do {
      image = try FileDescriptor.open(imagePath, .readOnly, options: .closeOnExec)
    } catch {
      throw RestoreError(code: .corrupt, message: "\(imagePath): \(error)")
    }
    do {
      try SnapshotFiles.check(image, of: imagePath, manifest)
    } catch {
      try? image.close()
      throw error
    }
  }

  private static func contents(_ file: FileDescriptor, limit: Int) throws -> [UInt8] {
    let size = try file.seek(offset: 0, from: .end)
    guard size <= limit else { throw SnapshotFormatError("\(size) bytes are longer than any real manifest") }
    var bytes = [UInt8](repeating: 0, count: Int(size))
    var done = 0
    while done < bytes.count {
      let count = try bytes.withUnsafeMutableBytes {
        try file.read(fromAbsoluteOffset: Int64(done), into: UnsafeMutableRawBufferPointer(rebasing: $0[done...]))
      }
      if count == 0 { break }
      done += count
    }
    return Array(bytes[..<done])
  }

  private static func check(_ image: FileDescriptor, of path: FilePath, _ manifest: SnapshotManifest) throws {
    let size = try image.seek(offset: 0, from: .end)
    guard UInt64(size) == manifest.imageBytes else {
      throw RestoreError(code: .corrupt, message: "\(path) has \(size) bytes instead of \(manifest.imageBytes)")
    }
    var checksum = ImageChecksum()
    let buffer = UnsafeMutableRawBufferPointer.allocate(byteCount: 1 << 20, alignment: 4096)
    defer { buffer.deallocate() }
    var position: Int64 = 0
    var readAhead: Int64 = 0
    while position < size {
      // The disk is some megabytes ahead of the checksum.
      let target = min(size, position + 16 << 20)
      image.readAhead(readAhead..<max(readAhead, target))
      readAhead = max(readAhead, target)
      let count: Int
      do { count = try image.read(fromAbsoluteOffset: position, into: buffer) } catch {
        throw RestoreError(code: .corrupt, message: "\(path): \(error)")
      }
      if count == 0 { break }
      checksum.update(UnsafeRawBufferPointer(rebasing: buffer[..<count]))
      position += Int64(count)
    }
    guard checksum.digest() == manifest.imageDigest else {
      throw RestoreError(code: .corrupt, message: "\(path): the checksum is wrong")
    }
  }
}

extension Compatibility {
  /// Checks kernel, CPU and vDSO.
  func checkMachine() throws(RestoreError) {
    func mismatch(_ what: String) -> RestoreError {
      RestoreError(code: .incompatible, message: "the snapshot was taken with another \(what) than this machine's")
    }
    let release: String
    do { release = try Kernel.release() } catch { throw RestoreError(wrapping: error) }
    guard release == kernelRelease else { throw mismatch("kernel (\(kernelRelease), here \(release))") }
    guard Kernel.vectorFeatures == vectorFeatures else {
      throw mismatch(
        "set of vector registers (\(hexadecimal(vectorFeatures)), here \(hexadecimal(Kernel.vectorFeatures)))")
    }
    let library: [UInt8]
    do { library = try Kernel.virtualLibrary() } catch { throw RestoreError(wrapping: error) }
    guard Array(SHA256.hash(data: library)) == vdsoDigest else { throw mismatch("vDSO") }
  }

  /// Checks that the mapped files under `root` are the ones that were mapped.
  func checkFiles(root: String) throws(RestoreError) {
    for file in files {
      let status: FileStatus
      do { status = try FileStatus(path: root + file.path) } catch {
        throw RestoreError(code: .incompatible, message: "the mapped file \(file.path) is not there any more: \(error)")
      }
      guard status.size == file.size, status.modified == file.modified else {
        throw RestoreError(code: .incompatible, message: "the mapped file \(file.path) has changed since the snapshot")
      }
    }
  }
}
