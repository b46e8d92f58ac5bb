import Linux
import SnapshotFormat
import SystemPackage

/// Gathers what mappings and descriptors of a frozen process tree share: shared memory, memory files, deleted files, the
/// files of /dev/shm, and files of /tmp that are mapped shared. Every clone gets its own.
struct SharedObjectCollection {
  private static let deletedSuffix = " (deleted)"
  /// Makes the message of a refusal for what is being looked at.
  typealias Refusal = (String) -> CheckpointError

  private struct Identity: Hashable {
    var device: UInt64
    var inode: UInt64
  }
  /// Where an object's file is found, as long as the process is frozen.
  private enum Source {
    case descriptor(Int32, process: Int32)
    case mapping(start: UInt64, end: UInt64, process: Int32)
    case sharedMemoryFile(name: String)
  }

  private let process: Int32
  private(set) var objects: [SharedObject] = []
  private var sources: [Source] = []
  private var indices: [Identity: UInt32] = [:]

  /// Begins with all files of /dev/shm, opened or not: a clone must find by name what was there.
  init(process: Int32) throws {
    self.process = process
    let directory = "/proc/\(process)/root/dev/shm"
    for name in try DirectoryCopy.names(in: directory) {
      func refuse(_ reason: String) -> CheckpointError {
        .refused("the sandbox of \(ProcessStatistics.title(of: process)) has /dev/shm/\(name): \(reason)")
      }
      guard try FileStatus(path: "\(directory)/\(name)").kind == .regular else {
        throw refuse("only regular files can be brought back there")
      }
      _ = try index(of: .sharedMemoryFile(name: name), refuse)
    }
  }

  /// Whether the file that the kernel shows as `name` and that is mapped must be every clone's own.
  static func isNeeded(forMappingOf name: String, shared: Bool) -> Bool {
    isNeeded(forDescriptorOf: name) || name.hasPrefix("[anon_shmem:") || name.hasPrefix("/dev/shm/")
      || shared && name.hasPrefix("/tmp/")
  }

  /// Whether the file that the kernel shows as `name` and that is open has no name by which it can be opened again.
  static func isNeeded(forDescriptorOf name: String) -> Bool { name.hasSuffix(deletedSuffix) }

  /// The object that is open as descriptor `number`.
  mutating func index(ofDescriptor number: Int32, of process: Int32, _ refuse: Refusal) throws -> UInt32 {
    try index(of: .descriptor(number, process: process), refuse)
  }

  /// The object that is mapped at [start, end).
  mutating func index(
    ofMapping start: UInt64, _ end: UInt64, of process: Int32, _ refuse: Refusal
  ) throws -> UInt32 {
    try index(of: .mapping(start: start, end: end, process: process), refuse)
  }

  /// Writes the content of all objects into the image.
  mutating func write(to image: ImageWriter) throws {
    for index in objects.indices {
      if case .file = objects[index].kind { continue }  // it is in the copy of /tmp
      try image.append(try open(sources[index]), extents: &objects[index].extents)
    }
  }

  private func open(_ source: Source) throws(SystemCallError) -> OpenFile {
    switch source {
    case .descriptor(let number, let process): try OpenFile(descriptor: number, of: process)
    case .mapping(let start, let end, let process): try OpenFile(mappedFrom: start, to: end, by: process)
    case .sharedMemoryFile(let name): try OpenFile(path: "/proc/\(process)/root/dev/shm/\(name)")
    }
  }

  private func open(_ source: Source, _ refuse: Refusal) throws -> OpenFile {
    do {
      return try open(source)
    } catch  where error.errno == .noSuchAddressOrDevice {
      throw refuse("it is of a kind that nobody else can open (such as memfd_secret)")
    }
  }

  private mutating func index(of source: Source, _ refuse: Refusal) throws -> UInt32 {
    let file = try open(source, refuse)
    let status = try file.status()
    let identity = Identity(device: status.device, inode: status.inode)
    if let known = indices[identity] { return known }
    // HUGETLBFS_MAGIC of linux/magic.h.
    if try file.fileSystemType() == 0x9584_58f6 { throw refuse("hugetlb pages cannot be brought back") }
    guard status.kind == .regular else { throw refuse("it is not a regular file, and was deleted") }
    let index = UInt32(objects.count)
    let kind: SharedObject.Kind
    if case .sharedMemoryFile(let name) = source {
      kind = .namedFile(path: "/dev/shm/\(name)")
    } else {
      kind = try self.kind(of: file, named: try file.name(), status, index, refuse)
    }
    objects.append(
      SharedObject(
        kind: kind, size: status.size, mode: status.mode, userID: status.userID, groupID: status.groupID, extents: []))
    sources.append(source)
    indices[identity] = index
    return index
  }

  private func kind(
    of file: borrowing OpenFile, named name: String, _ status: FileStatus, _ index: UInt32, _ refuse: Refusal
  ) throws -> SharedObject.Kind {
    guard name.hasSuffix(Self.deletedSuffix) else { return .file(path: name) }
    let path = String(name.dropLast(Self.deletedSuffix.count))
    if path == "/dev/zero" { return .sharedMemory }
    if path.hasPrefix("/SYSV") { throw refuse("System V shared memory is not brought back") }
    if path.hasPrefix("/memfd:") {
      guard let seals = file.seals else { throw refuse("its seals cannot be read") }
      return .memoryFile(name: String(path.dropFirst("/memfd:".count)), seals: seals)
    }
    guard status.links == 0 else { throw refuse("the file was deleted, but has another name still") }
    let parts = path.split(separator: "/", omittingEmptySubsequences: true)
    let last = parts.last ?? ""
    let directory = "/" + parts.dropLast().joined(separator: "/")
    let isOwn = parts.first == "tmp" || path.hasPrefix("/dev/shm/")
    let parent = try? FileStatus(path: "/proc/\(process)/root\(directory)")
    let place = isOwn && parent?.kind == .directory ? directory : "/tmp"
    // What O_TMPFILE makes is called by its inode (d_tmpfile in fs/dcache.c).
    if last == "#\(status.inode)" { return .unnamedFile(directory: place) }
    if place == directory, (try? FileStatus(path: "/proc/\(process)/root\(path)")) == nil {
      return .deletedFile(path: path)
    }
    return .deletedFile(path: "\(place)/.thaw-deleted-\(index)")
  }
}
