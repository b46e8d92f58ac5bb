public import Logging

/// Keeps a few blank sandboxes ready for each specification that was used lately.
public actor SandboxPool {
  private struct Shelf {
    var ready: [Sandbox] = []
    var target: Int
    var lastUse: UInt64
  }

  private let jailer: Jailer
  private let target: Int
  private let capacity: Int
  private let logger: Logger
  private var shelves: [SandboxSpecification: Shelf] = [:]
  private var uses: UInt64 = 0
  private let workload: Workload
  private var isOpen = true
  private var refill: Task<Void, Never>?
  /// Ends of sandboxes whose specification was given up, by number.
  private var endings: [UInt64: Task<Void, Never>] = [:]

  /// A pool that keeps up to `target` blank sandboxes for each of the `specifications` used last. It refills when
  /// the `workload` allows.
  public init(
    jailer: Jailer, target: Int = 4, specifications: Int = 16, workload: Workload = Workload(), logger: Logger
  ) {
    self.workload = workload
    self.jailer = jailer
    self.target = target
    self.capacity = specifications
    self.logger = logger
  }

  /// A blank sandbox: a waiting one, else a new one. The pool refills in the background.
  public func acquire(_ specification: SandboxSpecification) async throws -> Sandbox {
    guard isOpen else { throw SandboxError("the daemon is going down") }
    touch(specification)
    let waiting = shelves[specification]?.ready.popLast()
    startRefill()
    if let waiting { return waiting }
    return try await jailer.makeSandbox(specification)
  }

  /// Makes blank sandboxes for a specification ahead of need.
  public func warm(_ specification: SandboxSpecification) {
    guard isOpen else { return }
    touch(specification)
    startRefill()
  }

  /// Gives up the waiting sandboxes of a specification that will not be used again.
  public func forget(_ specification: SandboxSpecification) async {
    guard let shelf = shelves.removeValue(forKey: specification) else { return }
    for sandbox in shelf.ready { await sandbox.terminate() }
  }

  /// How many blank sandboxes wait.
  public var waitingCount: Int { shelves.values.reduce(0) { $0 + $1.ready.count } }

  /// Waits until a refill that is under way is over.
  public func settle() async { await refill?.value }

  /// Ends all waiting sandboxes; `acquire` throws from here on.
  public func shutdown() async {
    isOpen = false
    await refill?.value
    for ending in endings.values { await ending.value }
    let all = shelves.values.flatMap(\.ready)
    shelves = [:]
    for sandbox in all { await sandbox.terminate() }
  }

  private func touch(_ specification: SandboxSpecification) {
    uses += 1
    shelves[specification, default: Shelf(target: target, lastUse: 0)].lastUse = uses
    guard shelves.count > capacity, let oldest = shelves.min(by: { $0.value.lastUse < $1.value.lastUse }) else {
      return
    }
    shelves[oldest.key] = nil
    let number = uses
    endings[number] = Task {
      for sandbox in oldest.value.ready { await sandbox.terminate() }
      endings[number] = nil
    }
  }

  /// One sandbox at a time, so that the way of a restore has the jailer to itself most of the time.
  private func startRefill() {
    guard isOpen, refill == nil else { return }
    refill = Task(priority: .background) { await fill() }
  }

  private func fill() async {
    // With the last look at the shelves, in one step: whoever acquires afterwards starts the next refill.
    defer { refill = nil }
    let deadline = ContinuousClock.now + Workload.patience
    while isOpen, let (specification, shelf) = shelves.first(where: { $0.value.ready.count < $0.value.target }) {
      // Making one costs milliseconds of the processors that the starts of a burst need now. An empty shelf does not
      // wait: the next start would have to make its own.
      if !shelf.ready.isEmpty, await workload.rest(until: deadline) { continue }
      do {
        let sandbox = try await jailer.makeSandbox(specification)
        guard isOpen, shelves[specification] != nil else {
          await sandbox.terminate()
          continue
        }
        shelves[specification]?.ready.append(sandbox)
      } catch {
        // The next acquire tries again, and reports what is wrong to whoever needs the sandbox.
        logger.warning("no blank sandbox could be made ahead of need: \(error)")
        return
      }
    }
  }
}
