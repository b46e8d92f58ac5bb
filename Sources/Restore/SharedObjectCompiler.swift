import CRestoreProgram
import SnapshotFormat

/// Compiles shared memory and files without a lasting name, of which every clone gets its own.
///
/// The template holds their content in one mapping, the *staging area*, in a hole of the address space. It is shared
/// memory, so that cloning copies no page tables for it; nobody writes to it after the image was read. A clone makes
/// each object, writes its content from the staging area, maps it where it belongs, and unmaps the staging area before
/// anything of the program's runs.
struct SharedObjectCompiler {
  private let manifest: SnapshotManifest
  /// Numbers of the objects' descriptors while the clone is made.
  private let numbers: [UInt64]
  private let staging: UInt64
  private let stagingLength: UInt64
  /// Where the staging area has each object's extents, and each process's private mappings'.
  private let objectExtents: [[UInt64]]
  private let mappingExtents: [[[UInt64]]]
  /// Where the template holds the memory of the processes besides the first, each process's mappings in their order;
  /// what objects lie behind is made in every clone.
  let parked: [[(mapping: Mapping, place: UInt64)]]
  /// Where the parked memory begins.
  let parkedStart: UInt64
  /// All of what the template holds for clones, staging area and parked memory.
  let hole: Range<UInt64>

  init(_ manifest: SnapshotManifest, parking: inout ParkingPlace) throws(RestoreError) {
    self.manifest = manifest
    var numbers: [UInt64] = []
    for _ in manifest.objects { numbers.append(parking.next()) }
    self.numbers = numbers
    var offset: UInt64 = 0
    func place(_ extents: [Mapping.Extent]) -> [UInt64] {
      extents.map { extent in
        defer { offset += extent.length }
        return offset
      }
    }
    let objects = manifest.objects.map { place($0.extents) }
    let mappings = manifest.processes.map { process in
      process.mappings.map { mapping in
        if case .object = mapping.backing { place(mapping.extents) } else { [UInt64]() }
      }
    }
    stagingLength = offset
    // A piece of the hole is borrowed for shared memory that has no descriptor yet.
    let largest = manifest.objects.filter { $0.kind == .sharedMemory }.map(\.size).max() ?? 0
    offset += SharedObjectCompiler.pages(largest) + SnapshotManifest.pageSize
    let parkedOffset = offset
    let places = manifest.processes.dropFirst().map { SharedObjectCompiler.park($0.mappings, &offset) }
    let start = try SnapshotManifest.hole(atLeast: offset, in: manifest.processes)
    hole = start..<start + offset
    staging = start
    parkedStart = start + parkedOffset
    objectExtents = objects.map { $0.map { start + $0 } }
    mappingExtents = mappings.map { $0.map { $0.map { start + $0 } } }
    parked = [[]] + places.map { $0.map { ($0.mapping, start + $0.place) } }
  }

  /// Places for a process's memory, from `offset` on: each mapping lies in its huge page as it will, and none touches
  /// another, so that they stay what they are.
  private static func park(
    _ mappings: [Mapping], _ offset: inout UInt64
  ) -> [(mapping: Mapping, place: UInt64)] {
    mappings.compactMap { mapping in
      if case .object = mapping.backing { return nil }
      let wanted = mapping.start % Mapping.hugePage
      var place = offset / Mapping.hugePage * Mapping.hugePage + wanted
      if place < offset { place += Mapping.hugePage }
      offset = place + (mapping.end - mapping.start) + SnapshotManifest.pageSize
      return (mapping, place)
    }
  }

  private static func pages(_ bytes: UInt64) -> UInt64 {
    (bytes + SnapshotManifest.pageSize - 1) / SnapshotManifest.pageSize * SnapshotManifest.pageSize
  }

  /// In the template: makes the staging area. What must be read into it is added to `filled`.
  func templateOperations(_ filled: inout [Mapping.Extent]) -> [Operation] {
    guard stagingLength > 0 else { return [] }
    let extents =
      zip(manifest.objects.map(\.extents), objectExtents).map { ($0, $1) }
      + zip(manifest.processes, mappingExtents).flatMap { process, places in
        zip(process.mappings.map(\.extents), places).map { ($0, $1) }
      }
    for (extents, places) in extents {
      // Private mappings of other files have their extents where they belong, and no places here.
      for (extent, place) in zip(extents, places) {
        filled.append(Mapping.Extent(start: place, length: extent.length, imageOffset: extent.imageOffset))
      }
    }
    return [map(staging, stagingLength, shared: Flag.mapAnonymous)]
  }

  /// In a clone, before its descriptors: makes every object and writes its content.
  func objects(_ builder: inout ProgramBuilder) throws(RestoreError) -> [Operation] {
    guard !manifest.objects.isEmpty else { return [] }
    var operations: [Operation] = []
    let slot = try builder.slot()
    for (index, object) in manifest.objects.enumerated() {
      let number = numbers[index]
      operations += make(object, at: index, into: slot, &builder)
      operations.append(
        Operation(
          number: SystemCallNumber.dup3, arguments: [.slot(slot), .value(number), .value(Flag.closeOnExec)]))
      operations.append(Operation(number: SystemCallNumber.close, arguments: [.slot(slot)]))
      if case .file = object.kind { continue }
      if object.kind != .sharedMemory {
        operations.append(
          Operation(number: SystemCallNumber.ftruncate, arguments: [.value(number), .value(object.size)]))
      }
      for (extent, place) in zip(object.extents, objectExtents[index]) {
        // The last page may be longer than the file.
        let length = min(extent.length, object.size - extent.start)
        operations += write(length, from: place, to: .value(number), at: extent.start)
      }
      // The owner first: changing it clears set-user-id bits.
      operations.append(
        Operation(
          number: SystemCallNumber.fchown,
          arguments: [.value(number), .value(UInt64(object.userID)), .value(UInt64(object.groupID))]))
      operations.append(
        Operation(number: SystemCallNumber.fchmod, arguments: [.value(number), .value(UInt64(object.mode))]))
    }
    return operations
  }

  /// The path by which a clone opens an object once more, with a position and flags of its own.
  func path(of index: UInt32) -> String { "/proc/self/fd/\(numbers[Int(index)])" }

  /// In each process of a clone, after its descriptors: maps the objects where they belong, and unmaps what the template
  /// held for clones.
  func mappings(
    ofProcess place: Int, _ builder: inout ProgramBuilder, parking: inout ParkingPlace
  ) throws(RestoreError) -> [Operation] {
    let process = manifest.processes[place]
    let mappingExtents = mappingExtents[place]
    var operations: [Operation] = []
    let slot = try builder.slot()
    var readers: [UInt32: UInt64] = [:]
    var memory: Operation.Argument?
    for (index, mapping) in process.mappings.enumerated() {
      guard case .object(let object, let offset) = mapping.backing else { continue }
      let isShared = mapping.flags.contains(.shared)
      var number = numbers[Int(object)]
      if isShared, !mapping.flags.contains(.mayWrite) {
        // Mapped from a descriptor that was open for reading only: it must not become writable.
        if let reader = readers[object] {
          number = reader
        } else {
          let path = builder.place(path(of: object))
          number = parking.next()
          readers[object] = number
          operations.append(
            Operation(
              number: SystemCallNumber.openat, resultSlot: slot,
              arguments: [.value(Flag.currentDirectory), .value(path), .value(Flag.closeOnExec), 0]))
          operations.append(
            Operation(
              number: SystemCallNumber.dup3, arguments: [.slot(slot), .value(number), .value(Flag.closeOnExec)]))
          operations.append(Operation(number: SystemCallNumber.close, arguments: [.slot(slot)]))
        }
      }
      let length = mapping.end - mapping.start
      var flags = Flag.mapFixed | (isShared ? Flag.mapShared : Flag.mapPrivate)
      if mapping.flags.contains(.noReserve) { flags |= Flag.mapNoReserve }
      let protection = UInt64(mapping.protection.rawValue)
      let filling = mapping.extents.isEmpty ? protection : protection | 3
      operations.append(
        Operation(
          number: SystemCallNumber.mmap, check: RESTORE_MUST_EQUAL_FIRST.rawValue,
          arguments: [
            .value(mapping.start), .value(length), .value(filling), .value(flags), .value(number), .value(offset),
          ]))
      operations += mapping.advice.before
      for (extent, place) in zip(mapping.extents, mappingExtents[index]) {
        // From memory to memory: through a descriptor of the clone's own memory.
        let target: Operation.Argument
        if let memory {
          target = memory
        } else {
          let memorySlot = try builder.slot()
          operations.append(
            Operation(
              number: SystemCallNumber.openat, resultSlot: memorySlot,
              arguments: [
                .value(Flag.currentDirectory), .value(builder.place("/proc/self/mem")), .value(2 | Flag.closeOnExec), 0,
              ]))
          target = .slot(memorySlot)
          memory = target
        }
        operations += write(extent.length, from: place, to: target, at: extent.start)
      }
      operations += mapping.advice.after
      if filling != protection {
        operations.append(
          Operation(
            number: SystemCallNumber.mprotect, arguments: [.value(mapping.start), .value(length), .value(protection)]))
      }
    }
    if let memory { operations.append(Operation(number: SystemCallNumber.close, arguments: [memory])) }
    if stagingLength > 0 || manifest.processes.count > 1 {
      operations.append(.unmap(hole.lowerBound, hole.upperBound - hole.lowerBound))
    }
    return operations
  }

  /// When every process has mapped them: seals memory files.
  func seals() -> [Operation] {
    var operations: [Operation] = []
    for (object, number) in zip(manifest.objects, numbers) {
      guard case .memoryFile(_, let seals) = object.kind, seals != 0, seals != SharedObjectCompiler.sealSeal else {
        continue
      }
      operations.append(  // F_ADD_SEALS of linux/fcntl.h
        Operation(number: SystemCallNumber.fcntl, arguments: [.value(number), 1033, .value(UInt64(seals))]))
    }
    return operations
  }

  /// F_SEAL_SEAL of linux/fcntl.h: what a memory file has that was made without MFD_ALLOW_SEALING.
  private static let sealSeal: UInt32 = 1

  private func make(
    _ object: SharedObject, at index: Int, into slot: Int, _ builder: inout ProgramBuilder
  ) -> [Operation] {
    func open(_ path: String, _ flags: UInt64) -> Operation {
      Operation(
        number: SystemCallNumber.openat, resultSlot: slot,
        arguments: [
          .value(Flag.currentDirectory), .value(builder.place(path)), .value(flags | 2 | Flag.closeOnExec), 0o600,
        ])
    }
    let createNew: UInt64 = 0o100 | 0o200  // O_CREAT | O_EXCL
    switch object.kind {
    case .sharedMemory:
      // It is made as what it was, mapped at a spare place, and opened through that mapping.
      let start = staging + stagingLength
      let length = SharedObjectCompiler.pages(object.size)
      let range = String(start, radix: 16) + "-" + String(start + length, radix: 16)
      let noReserve = manifest.processes.lazy.flatMap(\.mappings).contains { mapping in
        guard case .object(let owner, _) = mapping.backing, mapping.flags.contains(.noReserve) else { return false }
        return Int(owner) == index
      }
      return [
        map(start, length, shared: Flag.mapAnonymous | (noReserve ? Flag.mapNoReserve : 0)),
        open("/proc/self/map_files/\(range)", 0),
        .unmap(start, length),
      ]
    case .memoryFile(let name, let seals):
      // linux/memfd.h: MFD_CLOEXEC 1, MFD_ALLOW_SEALING 2, MFD_EXEC 16.
      let flags: UInt64 = 1 | 16 | (seals == SharedObjectCompiler.sealSeal ? 0 : 2)
      return [
        Operation(
          number: SystemCallNumber.memfd_create, resultSlot: slot,
          arguments: [.value(builder.place(name)), .value(flags)])
      ]
    case .deletedFile(let path):
      return [
        open(path, createNew), Operation(number: SystemCallNumber.unlink, arguments: [.value(builder.place(path))]),
      ]
    case .unnamedFile(let directory): return [open(directory, Flag.temporaryFile)]
    case .namedFile(let path): return [open(path, createNew)]
    case .file(let path): return [open(path, 0)]
    }
  }

  private func map(_ start: UInt64, _ length: UInt64, shared flags: UInt64) -> Operation {
    Operation(
      number: SystemCallNumber.mmap, check: RESTORE_MUST_EQUAL_FIRST.rawValue,
      arguments: [
        .value(start), .value(length), 3, .value(Flag.mapShared | Flag.mapFixedNoReplace | flags), .value(.max), 0,
      ])
  }

  /// `pwrite64(2)` in pieces that one call can move.
  private func write(
    _ length: UInt64, from address: UInt64, to descriptor: Operation.Argument, at offset: UInt64
  ) -> [Operation] {
    let largest = 1 << 30
    return stride(from: UInt64(0), to: length, by: largest).map { done in
      let count = min(UInt64(largest), length - done)
      return Operation(
        number: SystemCallNumber.pwrite64, check: RESTORE_MUST_EQUAL_LAST.rawValue,
        arguments: [descriptor, .value(address + done), .value(count), .value(offset + done), 0, .value(count)])
    }
  }
}

extension SnapshotManifest {
  /// A place in the address space, aligned to huge pages, with at least `length` bytes where none of the processes has
  /// anything: in the middle of the largest hole, away from heap and stack.
  static func hole(atLeast wanted: UInt64, in processes: [ProcessState]) throws(RestoreError) -> UInt64 {
    let alignment = Mapping.hugePage
    let length = wanted + alignment
    var taken = processes.flatMap { process in
      process.mappings.map { ($0.start, $0.end) }
        + [(process.vdso.start, process.vdso.start + process.vdso.lengths.reduce(0, +))]
    }
    taken.append((SnapshotManifest.top, SnapshotManifest.top))
    taken.sort { $0.0 < $1.0 }
    var best: (start: UInt64, length: UInt64) = (0, 0)
    var end: UInt64 = 0x40_0000  // above the restorer
    for (start, next) in taken {
      if start > end, start - end > best.length { best = (end, start - end) }
      end = max(end, next)
    }
    guard best.length > length else {
      throw RestoreError(code: .failed, message: "the address space has no hole of \(length) bytes")
    }
    return (best.start + (best.length - length) / 2 + alignment) / alignment * alignment
  }
}
