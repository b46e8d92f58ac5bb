import Linux
import SnapshotFormat
import SystemPackage

/// Reads how the memory of frozen processes is laid out. What its pages hold comes from ``PageCollection``.
struct MemoryCollection {
  private(set) var files: [Compatibility.File] = []
  private var fileIndices: [String: UInt32] = [:]

  /// Every mapping of a process, without its pages.
  mutating func collect(
    _ process: FrozenProcess, objects: inout SharedObjectCollection
  ) throws -> (mappings: [Mapping], library: VirtualLibrary) {
    var mappings: [Mapping] = []
    var parts: [String: MemoryArea] = [:]
    for area in try MemoryArea.all(of: process.processID, detailed: true) {
      if process.scratch != 0, area.start == process.scratch {
        process.scratchFlags = area.flags
        continue
      }
      if area.isOfKernel {
        parts[area.name] = area
        continue
      }
      // A restored process has the restorer's pages down here: they are made anew with every clone.
      if area.end <= RestorerRegion.end { continue }
      guard area.start >= RestorerRegion.end else {
        throw CheckpointError.refused("mapping \(describe(area)) lies where the restorer must be (below 0x3f0000)")
      }
      mappings.append(try collect(area, of: process, objects: &objects))
    }
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
    _ area: MemoryArea, of process: FrozenProcess, objects: inout SharedObjectCollection
  ) throws -> Mapping {
    var protection: Mapping.Protection = []
    if area.permissions.contains("r") { protection.insert(.read) }
    if area.permissions.contains("w") { protection.insert(.write) }
    if area.permissions.contains("x") { protection.insert(.execute) }
    let backing = try backing(of: area, shared: area.isShared, process: process, objects: &objects)
    return Mapping(
      start: area.start, end: area.end, protection: protection, flags: flags(of: area, shared: area.isShared),
      backing: backing, extents: [], guards: [])
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
    if area.isAnonymous { return .anonymous }
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

extension MemoryArea {
  /// The kernel's own pages, which every process finds where the kernel puts them.
  var isOfKernel: Bool { ["[vvar]", "[vvar_vclock]", "[vdso]", "[vsyscall]"].contains(name) }
  var isShared: Bool { permissions.hasSuffix("s") }
  var isAnonymous: Bool { inode == 0 && !name.hasPrefix("/") }
}

/// Where the restorer and its program live in every restored process: RESTORER_BASE and RESTORER_END of
/// restore_program.h.
enum RestorerRegion {
  static let end: UInt64 = 0x3f0000
}
