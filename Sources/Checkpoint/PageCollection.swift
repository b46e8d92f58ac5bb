import Dispatch
import Linux
import SnapshotFormat
import Synchronization

/// Reads the pages of a frozen process into the image. It needs to know little of the mappings, and no `ptrace(2)`: it
/// runs while others look at the rest of the process.
struct PageCollection: Sendable {
  /// What a mapping's pages are.
  struct Pages: Sendable {
    var extents: [Mapping.Extent] = []
    var guards: [[UInt64]] = []
  }
  private struct Area: Sendable {
    var start, end: UInt64
    var isAnonymous: Bool
  }

  private let processID: Int32
  private let areas: [Area]

  /// Of what is mapped privately: the pages of other mappings belong to an object.
  init(_ process: FrozenProcess) {
    processID = process.processID
    areas = process.areas.filter { !$0.isOfKernel && !$0.isShared && $0.start >= RestorerRegion.end }
      .map { Area(start: $0.start, end: $0.end, isAnonymous: $0.isAnonymous) }
  }

  /// The pages of each mapping, by its first address.
  func collect(into image: ImageWriter) throws -> [UInt64: Pages] {
    let map = try PageMap(process: processID)
    let memory = try ProcessMemory(process: processID)
    var result: [UInt64: Pages] = [:]
    for area in areas {
      var pages = Pages()
      for region in try map.regions(from: area.start, to: area.end) {
        if region.isGuard {
          pages.guards.append([region.start, region.end - region.start])
        } else if !region.isFile, !(region.isZero && area.isAnonymous) {
          // A private file's page is in the image once it was written; an anonymous page unless it is all zeros.
          try image.append(
            from: region.start, to: region.end, of: memory, droppingZeros: area.isAnonymous, extents: &pages.extents)
        }
      }
      if !pages.extents.isEmpty || !pages.guards.isEmpty { result[area.start] = pages }
    }
    try image.flush()
    return result
  }
}

extension Mapping {
  /// The mapping with what was read of its pages. Droppable pages may be gone at any time, and come back as zeros.
  func filled(with pages: PageCollection.Pages?) -> Mapping {
    var mapping = self
    guard let pages, !flags.contains(.droppable) else { return mapping }
    mapping.extents = pages.extents
    mapping.guards = pages.guards
    return mapping
  }
}

/// Work that goes on at the same time on another thread, which waits for what it is to work on when it is ready.
final class ConcurrentWork<Input: Sendable, Value: Sendable>: Sendable {
  private let given = Mutex<Input?>(nil)
  private let begun = DispatchSemaphore(value: 0)
  private let result = Mutex<Result<Value, any Error>?>(nil)
  private let done = DispatchSemaphore(value: 0)
  private let abandoned = Atomic(false)
  /// The thread that waits for what it is to work on, 0 before.
  private let waiting = Atomic<Int32>(0)

  /// The body asks for ``input()`` when it needs it, and now and then whether it ``isAbandoned``.
  init(_ body: @escaping @Sendable (ConcurrentWork) throws -> Value) {
    DispatchQueue.global(qos: .userInitiated).async { [self] in
      let value = Result { try body(self) }
      result.withLock { $0 = value }
      done.signal()
    }
  }

  /// What the work is on. It is not begun on the CPU of the thread that calls if there is another one: a kernel that
  /// packs what it wakes would let it wait there until this one does.
  func begin(_ input: Input) {
    given.withLock { $0 = input }
    let thread = waiting.load(ordering: .acquiring)
    if thread != 0, let here = Affinity.here { Affinity(of: thread)?.subtracting(here)?.apply(to: thread) }
    begun.signal()
  }

  /// Waits until the work may begin.
  func input() throws -> Input {
    let everywhere = Affinity(of: 0)
    waiting.store(Affinity.caller, ordering: .releasing)
    begun.wait()
    everywhere?.apply(to: 0)
    guard let input = given.withLock(\.self) else { throw CancellationError() }
    return input
  }

  /// Whether it is of no use any more.
  var isAbandoned: Bool { abandoned.load(ordering: .relaxed) }

  /// Waits for the end of the work, which is of no use any more.
  func abandon() {
    abandoned.store(true, ordering: .relaxed)
    begun.signal()
    _ = try? value()
  }

  /// Waits for what comes of it, which is given out once.
  func value() throws -> Value {
    done.wait()
    let value = result.withLock { result in
      defer { result = nil }
      return result
    }
    guard let value else { throw CancellationError() }
    return try value.get()
  }
}
