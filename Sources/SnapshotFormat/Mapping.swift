/// One mapping of a process's address space.
public struct Mapping: Sendable, Equatable {
  /// Read, write, execute as PROT_READ 1, PROT_WRITE 2, PROT_EXEC 4.
  public struct Protection: OptionSet, Sendable, Hashable {
    public var rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }
    /// PROT_READ.
    public static let read = Protection(rawValue: 1)
    /// PROT_WRITE.
    public static let write = Protection(rawValue: 2)
    /// PROT_EXEC.
    public static let execute = Protection(rawValue: 4)
  }

  /// What `mmap(2)` and `madvise(2)` were told, as VmFlags of /proc/PID/smaps shows it.
  public struct Flags: OptionSet, Sendable, Hashable {
    public var rawValue: UInt16
    public init(rawValue: UInt16) { self.rawValue = rawValue }
    /// MAP_SHARED.
    public static let shared = Flags(rawValue: 1 << 0)
    /// MAP_GROWSDOWN: a stack (`gd`).
    public static let growsDown = Flags(rawValue: 1 << 1)
    /// MAP_NORESERVE (`nr`).
    public static let noReserve = Flags(rawValue: 1 << 2)
    /// MADV_HUGEPAGE (`hg`).
    public static let hugePage = Flags(rawValue: 1 << 3)
    /// MADV_NOHUGEPAGE (`nh`).
    public static let noHugePage = Flags(rawValue: 1 << 4)
    /// MADV_DONTFORK (`dc`).
    public static let dontFork = Flags(rawValue: 1 << 5)
    /// MADV_WIPEONFORK (`wf`).
    public static let wipeOnFork = Flags(rawValue: 1 << 6)
    /// MADV_DONTDUMP (`dd`).
    public static let dontDump = Flags(rawValue: 1 << 7)
    /// MADV_RANDOM (`rr`).
    public static let random = Flags(rawValue: 1 << 8)
    /// MADV_SEQUENTIAL (`sr`).
    public static let sequential = Flags(rawValue: 1 << 9)
    /// Locked in memory, mlock(2) (`lo`).
    public static let locked = Flags(rawValue: 1 << 10)
    /// With ``locked``: locked when touched, MLOCK_ONFAULT.
    public static let lockedOnFault = Flags(rawValue: 1 << 11)
    /// MAP_DROPPABLE (`dp`): comes back as zeros.
    public static let droppable = Flags(rawValue: 1 << 12)
    /// MADV_MERGEABLE (`mg`).
    public static let mergeable = Flags(rawValue: 1 << 13)
    /// mseal(2) (`sl`).
    public static let sealed = Flags(rawValue: 1 << 14)
    /// Shared, and can be made writable: was mapped from a descriptor open for writing (`mw`).
    public static let mayWrite = Flags(rawValue: 1 << 15)
  }

  /// Where the bytes come from that are not in the image.
  public enum Backing: Sendable, Equatable {
    /// Zeros.
    case anonymous
    /// The file at this place in ``Compatibility/files``, from this byte on.
    case file(index: UInt32, offset: UInt64)
    /// The object at this place in ``SnapshotManifest/objects``, from this byte on.
    case object(index: UInt32, offset: UInt64)
  }

  /// A run of pages whose content is in the image.
  public struct Extent: Sendable, Equatable {
    /// Address of the first page.
    public var start: UInt64
    /// Bytes, a multiple of the page size.
    public var length: UInt64
    /// Where in the image.
    public var imageOffset: UInt64

    /// A run of pages.
    public init(start: UInt64, length: UInt64, imageOffset: UInt64) {
      self.start = start
      self.length = length
      self.imageOffset = imageOffset
    }
  }

  /// First address.
  public var start: UInt64
  /// First address past it.
  public var end: UInt64
  /// Access.
  public var protection: Protection
  /// Kind and advice.
  public var flags: Flags
  /// What lies behind it.
  public var backing: Backing
  /// Pages that differ from the backing, by address.
  public var extents: [Extent]
  /// Guard regions (MADV_GUARD_INSTALL), as start and length in bytes.
  public var guards: [[UInt64]]

  /// A mapping of these parts.
  public init(
    start: UInt64, end: UInt64, protection: Protection, flags: Flags, backing: Backing, extents: [Extent],
    guards: [[UInt64]]
  ) {
    self.start = start
    self.end = end
    self.protection = protection
    self.flags = flags
    self.backing = backing
    self.extents = extents
    self.guards = guards
  }
}
