internal import SystemPackage

/// A jar (or zip), as far as it is of interest here: whether it has an entry.
///
/// PKWARE's APPNOTE.TXT: the last record, of 22 bytes and a comment, says where the directory with all names is.
struct JarFile {
  private let path: FilePath

  init(_ path: FilePath) { self.path = path }

  /// Whether an entry of that name is listed. What is not a jar has none.
  func contains(_ name: String) -> Bool {
    guard let file = try? FileDescriptor.open(path, .readOnly, options: .closeOnExec) else { return false }
    defer { try? file.close() }
    guard let size = try? file.seek(offset: 0, from: .end), size >= 22 else { return false }
    let tailLength = min(size, 22 + 65535)
    guard let tail = read(file, at: size - tailLength, count: Int(tailLength)),
      let end = tail.indices.dropLast(21).last(where: { tail[$0...].starts(with: [0x50, 0x4b, 5, 6]) })
    else { return false }
    let (length, start) = (number(tail, end + 12, 4), number(tail, end + 16, 4))
    guard Int64(start + length) <= size, let directory = read(file, at: Int64(start), count: length) else {
      return false
    }
    let wanted = Array(name.utf8)
    var position = 0
    // A header of 46 bytes, the name, an extra field, a comment.
    while position + 46 <= directory.count, directory[position...].starts(with: [0x50, 0x4b, 1, 2]) {
      let nameLength = number(directory, position + 28, 2)
      let nameEnd = position + 46 + nameLength
      if nameEnd <= directory.count, nameLength == wanted.count,
        directory[(position + 46)..<nameEnd].elementsEqual(wanted)
      {
        return true
      }
      position = nameEnd + number(directory, position + 30, 2) + number(directory, position + 32, 2)
    }
    return false
  }

  private func number(_ bytes: [UInt8], _ offset: Int, _ count: Int) -> Int {
    (0..<count).reduce(0) { $0 | Int(bytes[offset + $1]) << (8 * $1) }
  }

  private func read(_ file: FileDescriptor, at offset: Int64, count: Int) -> [UInt8]? {
    var buffer = [UInt8](repeating: 0, count: count)
    let got = try? buffer.withUnsafeMutableBytes { try file.read(fromAbsoluteOffset: offset, into: $0) }
    return got == count ? buffer : nil
  }
}
