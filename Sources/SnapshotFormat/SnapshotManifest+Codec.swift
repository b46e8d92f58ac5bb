import Crypto

extension SnapshotManifest {
  /// First bytes of a manifest of this architecture.
  static let magic: [UInt8] = Array("THAWSNAPx86_64\0\0".utf8)
  /// The layout's version; another one is refused.
  static let version: UInt32 = 5
  /// The longest manifest that is read, in bytes.
  public static let maximumBytes = 64 << 20

  /// The manifest as a file's bytes: magic, version, body, SHA-256 of all before it. Little-endian throughout.
  public func encode() -> [UInt8] {
    var writer = BinaryWriter(bytes: SnapshotManifest.magic)
    writer.put(SnapshotManifest.version)
    compatibility.encode(into: &writer)
    writer.put(processes)
    writer.put(zombies)
    writer.put(objects)
    writer.put(clocks.monotonic)
    writer.put(clocks.boottime)
    writer.put(imageBytes)
    writer.put(imageDigest)
    writer.put(UInt32(warnings.count))
    for warning in warnings { writer.put(warning) }
    return SnapshotManifest.sign(writer.bytes)
  }

  /// Bytes with their SHA-256 behind.
  public static func sign(_ bytes: [UInt8]) -> [UInt8] { bytes + SHA256.hash(data: bytes) }

  /// Reads what ``encode()`` wrote.
  ///
  /// - Throws: what is wrong: another format, another version, a wrong checksum, values that contradict each other.
  public init(decoding bytes: [UInt8]) throws(SnapshotFormatError) {
    guard bytes.count <= SnapshotManifest.maximumBytes else {
      throw SnapshotFormatError("a manifest of \(bytes.count) bytes is longer than any real one")
    }
    guard bytes.starts(with: SnapshotManifest.magic) else {
      throw SnapshotFormatError("not a snapshot manifest for x86-64 (wrong magic)")
    }
    let bodyEnd = bytes.count - SHA256.byteCount
    guard bodyEnd >= SnapshotManifest.magic.count + 4 else { throw SnapshotFormatError("the manifest is cut short") }
    guard SHA256.hash(data: bytes[..<bodyEnd]) == Array(bytes[bodyEnd...]) else {
      throw SnapshotFormatError("the manifest's checksum is wrong")
    }
    var reader = BinaryReader(Array(bytes[SnapshotManifest.magic.count..<bodyEnd]))
    let version = try reader.get(UInt32.self)
    guard version == SnapshotManifest.version else {
      throw SnapshotFormatError("version \(version) of the format; this program knows \(SnapshotManifest.version)")
    }
    compatibility = try Compatibility(from: &reader)
    processes = try reader.array()
    zombies = try reader.array()
    objects = try reader.array()
    clocks = ClockReadings(monotonic: try reader.get(), boottime: try reader.get())
    imageBytes = try reader.get()
    imageDigest = try reader.data()
    warnings = []
    for _ in 0..<(try reader.count(of: 4)) { warnings.append(try reader.string()) }
    guard reader.remaining == 0 else { throw SnapshotFormatError("\(reader.remaining) bytes follow the manifest") }
    try validate()
  }
}

/// `0x` and the digits.
public func hexadecimal(_ value: UInt64) -> String { "0x" + String(value, radix: 16) }

extension Compatibility: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(kernelRelease)
    writer.put(vectorFeatures)
    writer.put(vdsoDigest)
    writer.put(files)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    kernelRelease = try reader.string()
    vectorFeatures = try reader.get()
    vdsoDigest = try reader.data()
    files = try reader.array()
  }
}

extension Compatibility.File: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(path)
    writer.put(size)
    writer.put(modified)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    path = try reader.string()
    size = try reader.get()
    modified = try reader.get()
  }
}

extension ProcessState: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(processID)
    writer.put(parentID)
    writer.put(groupID)
    writer.put(sessionID)
    writer.put(executable)
    writer.put(words: layout.words)
    writer.put(auxiliaryVector)
    writer.put(vdso.start)
    writer.put(words: vdso.lengths)
    writer.put(mappings)
    writer.put(workingDirectory)
    writer.put(umask)
    writer.put(signalActions)
    writer.put(membarrierRegistrations)
    writer.put(UInt32(intervalTimers.count))
    for timer in intervalTimers { writer.put(words: timer) }
    writer.put(resourceLimits)
    credentials.encode(into: &writer)
    writer.put(UInt32(seccompFilters.count))
    for filter in seccompFilters { writer.put(words: filter) }
    writer.put(descriptors)
    writer.put(threads)
    writer.put(timers)
    writer.put(pendingSignals)
    writer.put(fileLocks)
    writer.put(futureLock)
    writer.put(exitSignal)
    writer.put(parentDeathSignal)
    writer.put(isSubreaper)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    processID = try reader.get()
    parentID = try reader.get()
    groupID = try reader.get()
    sessionID = try reader.get()
    executable = try reader.string()
    layout = AddressLayout(words: try reader.words(exactly: 11))
    auxiliaryVector = try reader.data()
    vdso = VirtualLibrary(start: try reader.get(), lengths: try reader.words(exactly: 3))
    mappings = try reader.array()
    workingDirectory = try reader.string()
    umask = try reader.get()
    signalActions = try reader.array()
    membarrierRegistrations = try reader.get()
    intervalTimers = []
    for _ in 0..<(try reader.count(of: 4)) { intervalTimers.append(try reader.words(exactly: 4)) }
    resourceLimits = try reader.array()
    credentials = try Credentials(from: &reader)
    seccompFilters = []
    for _ in 0..<(try reader.count(of: 4)) { seccompFilters.append(try reader.words()) }
    descriptors = try reader.array()
    threads = try reader.array()
    timers = try reader.array()
    pendingSignals = try reader.array()
    fileLocks = try reader.array()
    futureLock = try reader.get()
    exitSignal = try reader.get()
    parentDeathSignal = try reader.get()
    isSubreaper = try reader.flag()
  }
}

extension Zombie: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    for word in [processID, parentID, groupID, sessionID, status, exitSignal] { writer.put(word) }
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    processID = try reader.get()
    parentID = try reader.get()
    groupID = try reader.get()
    sessionID = try reader.get()
    status = try reader.get()
    exitSignal = try reader.get()
  }
}

extension SignalAction: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(signal)
    writer.put(words: words)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    signal = try reader.get()
    words = try reader.words(exactly: 4)
  }
}

extension ResourceLimit: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(resource)
    writer.put(current)
    writer.put(maximum)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    resource = try reader.get()
    current = try reader.get()
    maximum = try reader.get()
  }
}

extension Credentials: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(words: userIDs)
    writer.put(words: groupIDs)
    writer.put(words: groups)
    writer.put(noNewPrivileges)
    writer.put(dumpable)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    userIDs = try reader.words(exactly: 3)
    groupIDs = try reader.words(exactly: 3)
    groups = try reader.words()
    noNewPrivileges = try reader.flag()
    dumpable = try reader.flag()
  }
}

extension Mapping: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(start)
    writer.put(end)
    writer.put(protection.rawValue)
    writer.put(flags.rawValue)
    switch backing {
    case .anonymous: writer.put(0 as UInt8)
    case .file(let index, let offset):
      writer.put(1 as UInt8)
      writer.put(index)
      writer.put(offset)
    case .object(let index, let offset):
      writer.put(2 as UInt8)
      writer.put(index)
      writer.put(offset)
    }
    writer.put(extents)
    writer.put(UInt32(guards.count))
    for region in guards { writer.put(words: region) }
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    start = try reader.get()
    end = try reader.get()
    protection = Protection(rawValue: try reader.get())
    flags = Flags(rawValue: try reader.get())
    switch try reader.get(UInt8.self) {
    case 0: backing = .anonymous
    case 1: backing = .file(index: try reader.get(), offset: try reader.get())
    case 2: backing = .object(index: try reader.get(), offset: try reader.get())
    case let other: throw SnapshotFormatError("unknown backing \(other) of a mapping")
    }
    extents = try reader.array()
    guards = []
    for _ in 0..<(try reader.count(of: 4)) { guards.append(try reader.words(exactly: 2)) }
  }
}

extension Mapping.Extent: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(start)
    writer.put(length)
    writer.put(imageOffset)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    start = try reader.get()
    length = try reader.get()
    imageOffset = try reader.get()
  }
}

extension ThreadState: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(threadID)
    writer.put(words: registers.words)
    writer.put(vectorState)
    writer.put(signalMask)
    writer.put(restartableSequence != nil)
    if let restartableSequence {
      writer.put(restartableSequence.address)
      writer.put(restartableSequence.size)
      writer.put(restartableSequence.signature)
    }
    writer.put(robustList)
    writer.put(clearThreadID)
    writer.put(words: alternateStack)
    writer.put(name)
    writer.put(pendingSignals)
    scheduling.encode(into: &writer)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    threadID = try reader.get()
    registers = Registers(words: try reader.words(exactly: 27))
    vectorState = try reader.data()
    signalMask = try reader.get()
    restartableSequence =
      try reader.flag()
      ? RestartableSequence(address: try reader.get(), size: try reader.get(), signature: try reader.get()) : nil
    robustList = try reader.get()
    clearThreadID = try reader.get()
    alternateStack = try reader.words(exactly: 3)
    name = try reader.data()
    pendingSignals = try reader.array()
    scheduling = try Scheduling(from: &reader)
  }
}
