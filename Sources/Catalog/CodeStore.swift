internal import CArchive
internal import Crypto
internal import Foundation
internal import Linux
internal import Synchronization
public import SystemPackage

/// Code as it was stored.
public struct StoredCode: Sendable, Equatable {
  /// Base64 of the zip's SHA-256: `CodeSha256`.
  public var sha256: String
  /// The same in hexadecimal: names the directory.
  public var id: String
  /// Bytes of the zip: `CodeSize`.
  public var size: Int

  /// Code of these properties.
  public init(sha256: String, id: String, size: Int) {
    self.sha256 = sha256
    self.id = id
    self.size = size
  }
}

/// Why code was not taken.
public struct CodeError: Error, Sendable, Equatable {
  /// For the client.
  public var message: String
}

/// Unpacked code, once for each hash, read-only: `code/HASH/`, with the archive beside it as `code/HASH.zip`.
public final class CodeStore: Sendable {
  /// Most bytes of unpacked code (Lambda's limit).
  public static let maximumUnpacked = 262_144_000
  /// Most bytes of an archive that is uploaded directly (Lambda's limit).
  public static let maximumArchive = 52_428_800

  private let directory: FilePath
  /// How many hold code that the catalog may not name yet, by id; nothing is collected while it is being decided.
  private let held = Mutex<[String: Int]>([:])
  private static let stagingPrefix = ".staging-"

  /// A store in `directory`, which is made; what was half-unpacked is removed.
  public init(directory: FilePath) throws {
    self.directory = directory
    try FileManager.default.createDirectory(atPath: directory.string, withIntermediateDirectories: true)
    for name in try DirectoryCopy.names(in: directory.string) where name.hasPrefix(CodeStore.stagingPrefix) {
      try DirectoryCopy.remove(directory.appending(name).string)
    }
  }

  /// The unpacked code.
  public func directory(of id: String) -> FilePath { directory.appending(id) }

  /// The archive.
  public func archive(of id: String) -> FilePath { directory.appending("\(id).zip") }

  /// Unpacks an archive, unless it is there already. The code is held, so that no collection takes it away before the
  /// catalog names it: the caller releases it afterwards (see ``release(_:)``).
  ///
  /// - Throws: `CodeError` if it is not a zip, reaches outside, or is too large.
  public func store(_ archive: [UInt8]) throws -> StoredCode {
    guard archive.count <= CodeStore.maximumArchive else {
      throw CodeError(
        message: "Zipped size must be smaller than \(CodeStore.maximumArchive) bytes")
    }
    let digest = SHA256.hash(data: archive)
    let id = digest.map { byte in
      let digits = String(byte, radix: 16)
      return digits.utf8.count == 1 ? "0" + digits : digits
    }.joined()
    let code = StoredCode(sha256: Data(digest).base64EncodedString(), id: id, size: archive.count)
    let target = directory(of: id)
    hold(id)
    if (try? FileStatus(path: target.string)) != nil { return code }
    let staging = directory.appending(CodeStore.stagingPrefix + UUID().uuidString)
    let zip = directory.appending(CodeStore.stagingPrefix + UUID().uuidString)
    defer { for path in [staging, zip] { try? DirectoryCopy.remove(path.string) } }
    do {
      try unpack(archive, into: staging)
      // Made aside under a name that a collection leaves alone. The directory comes last: it says that all is there.
      try Data(archive).write(to: URL(fileURLWithPath: zip.string))
      for (made, place) in [(zip, self.archive(of: id)), (staging, target)]
      where rename(made.string, place.string) != 0 && errno != ENOTEMPTY && errno != EEXIST {
        throw SystemCallError(call: "rename", subject: made.string, errno: Errno(rawValue: errno))
      }
      try Durability.synchronize(directory)
    } catch {
      release(code)
      throw error
    }
    return code
  }

  /// Lets go of code that ``store(_:)`` answered: from now on the catalog alone says whether it is used.
  public func release(_ code: StoredCode) { release(code.id) }

  /// Keeps code from being collected, as while a function runs it whose version may be deleted meanwhile.
  public func hold(_ id: String) { held.withLock { $0[id, default: 0] += 1 } }

  /// Lets go of code that was held.
  public func release(_ id: String) {
    held.withLock { held in
      let count = held[id, default: 0] - 1
      held[id] = count > 0 ? count : nil
    }
  }

  /// Deletes code that is neither used nor held. `used` is asked for while nobody can begin to hold any.
  public func collect(keeping used: () -> Set<String>) throws {
    // What goes steps aside in one moment; deleting it takes longer.
    let aside = try held.withLock { held in
      let kept = used().union(held.keys)
      return try DirectoryCopy.names(in: directory.string).compactMap { name -> FilePath? in
        let id = name.hasSuffix(".zip") ? String(name.dropLast(4)) : name
        guard !kept.contains(id), !name.hasPrefix(CodeStore.stagingPrefix) else { return nil }
        let old = directory.appending(CodeStore.stagingPrefix + UUID().uuidString)
        guard rename(directory.appending(name).string, old.string) == 0 else {
          throw SystemCallError(call: "rename", subject: name, errno: Errno(rawValue: errno))
        }
        return old
      }
    }
    for path in aside { try DirectoryCopy.remove(path.string) }
  }

  private func unpack(_ bytes: [UInt8], into staging: FilePath) throws {
    let refused = CodeError(
      message: "Could not unzip uploaded file. Please check your file, then try to upload again.")
    guard bytes.starts(with: [0x50, 0x4b]), let archive = archive_read_new() else { throw refused }
    defer { archive_read_free(archive) }
    archive_read_support_format_zip(archive)
    try FileManager.default.createDirectory(atPath: staging.string, withIntermediateDirectories: false)
    chmod(staging.string, 0o755)
    try bytes.withUnsafeBytes { buffer in
      guard archive_read_open_memory(archive, buffer.baseAddress, buffer.count) == ARCHIVE_OK else { throw refused }
      var total = 0
      var count = 0
      while true {
        var entry: OpaquePointer?
        let result = archive_read_next_header(archive, &entry)
        if result == ARCHIVE_EOF { break }
        guard result == ARCHIVE_OK || result == ARCHIVE_WARN, let entry, let name = archive_entry_pathname(entry) else {
          throw refused
        }
        count += 1
        guard count <= 200_000 else { throw CodeError(message: "The archive holds more than 200000 files") }
        try unpack(entry, named: String(cString: name), from: archive, into: staging, total: &total, refused)
      }
      guard count > 0 else { throw CodeError(message: "Uploaded file must be a non-empty zip") }
    }
  }

  private func unpack(
    _ entry: OpaquePointer, named name: String, from archive: OpaquePointer, into staging: FilePath, total: inout Int,
    _ refused: CodeError
  ) throws {
    let parts = name.split(separator: "/").filter { $0 != "." }
    // Nothing may leave the directory: no absolute path, no "..", and no way through a link (a link is made last,
    // and never followed below).
    guard !name.hasPrefix("/"), !parts.contains(".."), !parts.isEmpty || name.allSatisfy({ $0 == "." || $0 == "/" })
    else {
      throw refused
    }
    if parts.isEmpty { return }
    var path = staging
    for part in parts.dropLast() {
      path.append(String(part))
      if mkdir(path.string, 0o755) != 0, errno != EEXIST { throw refused }
      guard try FileStatus(path: path.string).kind == .directory else { throw refused }
    }
    path.append(String(parts[parts.count - 1]))
    let type = archive_entry_filetype(entry)
    let permissions = archive_entry_perm(entry)
    switch type {
    case 0o040000:
      if mkdir(path.string, 0o755) != 0, errno != EEXIST { throw refused }
    case 0o120000:
      guard let target = archive_entry_symlink(entry).map({ String(cString: $0) }), symlink(target, path.string) == 0
      else { throw refused }
    case 0o100000, 0:
      // Executable for whoever it was; readable for the sandbox's user.
      let mode: mode_t = permissions & 0o111 != 0 ? 0o755 : 0o644
      let file = open(path.string, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, mode)
      guard file >= 0 else { throw refused }
      defer { close(file) }
      fchmod(file, mode)
      var buffer = [UInt8](repeating: 0, count: 65536)
      while true {
        let got = buffer.withUnsafeMutableBytes { archive_read_data(archive, $0.baseAddress, $0.count) }
        if got == 0 { break }
        guard got > 0 else { throw refused }
        total += got
        guard total <= CodeStore.maximumUnpacked else {
          throw CodeError(message: "Unzipped size must be smaller than \(CodeStore.maximumUnpacked) bytes")
        }
        guard buffer.withUnsafeBytes({ write(file, $0.baseAddress, got) }) == got else {
          throw SystemCallError(call: "write", subject: path.string, errno: Errno(rawValue: errno))
        }
      }
      // The archive's times, so that byte-code compiled before packing is recognised.
      var times = [
        timespec(tv_sec: archive_entry_mtime(entry), tv_nsec: 0),
        timespec(tv_sec: archive_entry_mtime(entry), tv_nsec: 0),
      ]
      futimens(file, &times)
    default: throw refused
    }
  }
}
