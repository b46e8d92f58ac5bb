internal import CLinux
internal import SystemPackage

/// Which pages of a process are where, by the PAGEMAP_SCAN ioctl of /proc/PID/pagemap (kernel 6.7,
/// Documentation/admin-guide/mm/pagemap.rst).
public struct PageMap: ~Copyable {
  /// A run of pages of one kind.
  public struct Region: Sendable {
    /// First address.
    public var start: UInt64
    /// First address past it.
    public var end: UInt64
    /// The page belongs to a file or to shared memory.
    public var isFile: Bool
    /// The page is the shared zero page.
    public var isZero: Bool
    /// A guard region, MADV_GUARD_INSTALL.
    public var isGuard: Bool
  }

  private let file: FileDescriptor
  private let buffer: UnsafeMutableBufferPointer<thaw_page_region>

  /// Opens the page map of a process.
  public init(process: Int32) throws(SystemCallError) {
    file = try ProcessFiles.open("/proc/\(process)/pagemap")
    buffer = .allocate(capacity: 8192)
  }

  deinit {
    buffer.deallocate()
    try? file.close()
  }

  /// The present, swapped or guarded pages of [start, end), as runs.
  public func regions(from start: UInt64, to end: UInt64) throws(SystemCallError) -> [Region] {
    let file64 = UInt64(THAW_PAGE_IS_FILE)
    let zero = UInt64(THAW_PAGE_IS_PFNZERO)
    let guarded = UInt64(THAW_PAGE_IS_GUARD)
    let present = UInt64(THAW_PAGE_IS_PRESENT) | UInt64(THAW_PAGE_IS_SWAPPED)
    var result: [Region] = []
    var position = start
    guard let base = buffer.baseAddress else { return [] }
    while position < end {
      var stopped: UInt64 = 0
      let count = try checked(
        thaw_pagemap_scan(
          self.file.rawValue, position, end, present | guarded, present | file64 | zero | guarded, base, buffer.count,
          &stopped), "ioctl PAGEMAP_SCAN")
      for region in buffer[..<count] {
        result.append(
          Region(
            start: region.start, end: region.end, isFile: region.categories & file64 != 0,
            isZero: region.categories & zero != 0, isGuard: region.categories & guarded != 0))
      }
      if stopped <= position { break }
      position = stopped
    }
    return result
  }

  /// The pages of [start, end) that are this process's alone: private memory that it has written since it was cloned.
  ///
  /// An entry of /proc/PID/pagemap is 64 bits: 63 present, 61 file or shared, 56 mapped exactly once.
  public func exclusiveRuns(from start: UInt64, to end: UInt64) throws(SystemCallError) -> [(
    start: UInt64, end: UInt64
  )] {
    let page: UInt64 = 4096
    var result: [(start: UInt64, end: UInt64)] = []
    var entries = [UInt64](repeating: 0, count: 4096)
    for region in try regions(from: start, to: end) where !region.isFile && !region.isZero && !region.isGuard {
      var position = region.start
      while position < region.end {
        let wanted = min(entries.count, Int((region.end - position) / page))
        let bytes: Int
        do {
          bytes = try entries.withUnsafeMutableBytes { buffer in
            try file.read(
              fromAbsoluteOffset: Int64(position / page * 8),
              into: UnsafeMutableRawBufferPointer(rebasing: buffer[..<(wanted * 8)]))
          }
        } catch {
          throw SystemCallError(call: "read", subject: "pagemap", errno: error as? Errno ?? .ioError)
        }
        guard bytes >= 8 else { break }
        for entry in entries[..<(bytes / 8)] {
          if entry >> 63 & 1 == 1, entry >> 61 & 1 == 0, entry >> 56 & 1 == 1 {
            if let last = result.last, last.end == position {
              result[result.count - 1].end = position + page
            } else {
              result.append((position, position + page))
            }
          }
          position += page
        }
      }
    }
    return result
  }
}
