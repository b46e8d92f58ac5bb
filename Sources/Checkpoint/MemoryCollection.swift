import Linux
import SnapshotFormat
import SystemPackage

/// Reads the memory of frozen processes: mappings into values, pages into the image.
struct MemoryCollection: ~Copyable {
  private(set) var files: [Compatibility.File] = []
  private var fileIndices: [String: UInt32] = [:]
  private var image: ImageWriter
  /// Mappings of the restorer lie below this address; programs cannot use them.
  private let lowestAddress: UInt64

  init(image: consuming ImageWriter, lowestAddress: UInt64) {
    self.image = image
    self.lowestAddress = lowestAddress
  }

  /// Writes the content of shared memory and files into the image.
  mutating func collect(_ objects: inout SharedObjectCollection) throws { try objects.write(to: &image) }

  /// Length and digest of the image, which is synced.
  consuming func finish() throws(SystemCallError) -> (bytes: UInt64, digest: [UInt8]) { try image.finish() }

  /// Collects every mapping of a process.
  mutating func collect(
    _ process: FrozenProcess, objects: inout SharedObjectCollection
  ) throws -> (mappings: [Mapping], library: VirtualLibrary) {
    var mappings: [Mapping] = []
    let pages = try PageMap(process: process.processID)
    var parts: [String: MemoryArea] = [:]
    for area in process.areas {
      switch area.name {
      case "[vvar]", "[vvar_vclock]", "[vdso]":
        parts[area.name] = area
        continue
      case "[vsyscall]": continue
      default: break
      }
      // A restored process has the restorer's pages down here: they are made anew with every clone.
      if area.end <= RestorerRegion.end { continue }
      guard area.start >= lowestAddress else {
        throw CheckpointError.refused("mapping \(describe(area)) lies where the restorer must be (below 0x3f0000)")
      }
      mappings.append(try collect(area, of: process, pages: pages, objects: &objects))
    }
    try image.flush()
    guard let data = parts["[vvar]"], let code = parts["[vdso]"] else {
      throw CheckpointError.refused("\(ProcessStatistics.title(of: process.processID)) has no [vvar] or [vdso]")
    }
    let clock = parts["[vvar_vclock]"]
    let clockLength = clock.map { $0.end - $0.start } ?? 0
    guard clock == nil || clock?.start == data.end, code.start == data.end + clockLength else {
      throw CheckpointError.refused(
        "[vvar] and [vdso] of \(ProcessStatistics.title(of: process.processID)) do not lie side by side")
    }
    let lengths = [data.end - data.start, clockLength, code.end - code.start]
    return (mappings, VirtualLibrary(start: data.start, lengths: lengths))
  }

  private mutating func collect(
    _ area: MemoryArea, of process: FrozenProcess, pages: borrowing PageMap,
    objects: inout SharedObjectCollection
  ) throws -> Mapping {
    var protection: Mapping.Protection = []
    if area.permissions.contains("r") { protection.insert(.read) }
    if area.permissions.contains("w") { protection.insert(.write) }
    if area.permissions.contains("x") { protection.insert(.execute) }
    let shared = area.permissions.hasSuffix("s")
    let backing = try backing(of: area, shared: shared, process: process, objects: &objects)
    var mapping = Mapping(
      start: area.start, end: area.end, protection: protection, flags: flags(of: area, shared: shared),
      backing: backing, extents: [], guards: [])
    // Droppable pages may be gone at any time, and come back as zeros.
    if shared || mapping.flags.contains(.droppable) { return mapping }
    // A private file's page is in the image once it was written; an anonymous page unless it is all zeros.
    let dropsZeros = backing == .anonymous
    for region in try pages.regions(from: area.start, to: area.end) {
      if region.isGuard {
        mapping.guards.append([region.start, region.end - region.start])
      } else if !region.isFile, !(region.isZero && dropsZeros) {
        try image.append(
          from: region.start, to: region.end, of: process.memory, droppingZeros: dropsZeros, extents: &mapping.extents)
      }
    }
    return mapping
  }

  private mutating func backing(
    of area: MemoryArea, shared: Bool, process: FrozenProcess, objects: inout SharedObjectCollection
  ) throws -> Mapping.Backing {
    func refuse(_ reason: String) -> CheckpointError {
      .refused("\(ProcessStatistics.title(of: process.processID)) maps \(describe(area)): \(reason)")
    }
    if area.name.hasPrefix("anon_inode:") || area.flags.contains("io") || area.flags.contains("pf") {
      throw refuse("a device's or a kernel object's memory cannot be brought back")
    }
    if area.flags.contains("ht") { throw refuse("hugetlb pages cannot be brought back") }
    if area.flags.contains("ss") { throw refuse("a shadow stack cannot be brought back") }
    if !area.flags.isDisjoint(with: ["um", "uw", "ui"]) { throw refuse("userfaultfd cannot be brought back") }
    if area.protectionKey != 0 { throw refuse("memory with a protection key cannot be brought back") }
    if area.inode == 0, !area.name.hasPrefix("/") { return .anonymous }
    if SharedObjectCollection.isNeeded(forMappingOf: area.name, shared: shared) {
      return .object(
        index: try objects.index(ofMapping: area.start, area.end, of: process.processID, refuse), offset: area.offset)
    }
    if shared, area.permissions.contains("w") || area.flags.contains("mw") {
      throw refuse("a file outside /tmp and /dev/shm that is mapped shared and writable cannot be brought back")
    }
    if let index = fileIndices[area.name] { return .file(index: index, offset: area.offset) }
    // Through /proc/PID/root the last component must not be a link, or it would be followed on the host.
    let status = try FileStatus(path: "/proc/\(process.processID)/root\(area.name)")
    guard status.kind == .regular, status.inode == area.inode else {
      throw refuse("it is not (or no longer) the regular file of that name")
    }
    let index = UInt32(files.count)
    files.append(Compatibility.File(path: area.name, size: status.size, modified: status.modified))
    fileIndices[area.name] = index
    return .file(index: index, offset: area.offset)
  }

  private func flags(of area: MemoryArea, shared: Bool) -> Mapping.Flags {
    // VmFlags, Documentation/filesystems/proc.rst.
    let names: [(String, Mapping.Flags)] = [
      ("gd", .growsDown), ("nr", .noReserve), ("hg", .hugePage), ("nh", .noHugePage), ("dc", .dontFork),
      ("wf", .wipeOnFork), ("dd", .dontDump), ("rr", .random), ("sr", .sequential), ("lo", .locked),
      ("lf", .lockedOnFault), ("dp", .droppable), ("mg", .mergeable), ("sl", .sealed),
    ]
    var flags: Mapping.Flags = shared ? [.shared] : []
    if shared, area.flags.contains("mw") { flags.insert(.mayWrite) }
    for (name, flag) in names where area.flags.contains(name) { flags.insert(flag) }
    return flags
  }

  private func describe(_ area: MemoryArea) -> String {
    "\(hexadecimal(area.start))-\(hexadecimal(area.end)) \(area.permissions) \(area.name.isEmpty ? "(anonymous)" : area.name)"
  }
}

/// Where the restorer and its program live in every restored process: RESTORER_BASE and RESTORER_END of
/// restore_program.h.
enum RestorerRegion {
  static let end: UInt64 = 0x3f0000
}
