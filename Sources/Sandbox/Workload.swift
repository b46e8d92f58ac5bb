internal import Synchronization

/// How many invocations are under way: what is made ahead of need waits until none is, because they need the
/// processors now.
public final class Workload: Sendable {
  private let invocations = Mutex(0)
  /// How long work ahead of need waits at most.
  static let patience = Duration.seconds(1)

  /// None is under way.
  public init() {}

  /// Those under way.
  public var count: Int { invocations.withLock { $0 } }

  /// Counts one more; false if there are `limit` already.
  public func begin(limit: Int) -> Bool {
    invocations.withLock { count in
      guard count < limit else { return false }
      count += 1
      return true
    }
  }

  /// One has ended; answers how many are left.
  public func end() -> Int {
    invocations.withLock { count in
      count -= 1
      return count
    }
  }

  /// Waits while invocations run, a second at most: under a load that never ends, work ahead of need has its turn too.
  public func calm() async {
    let deadline = ContinuousClock.now + Workload.patience
    while await rest(until: deadline) {}
  }

  /// A short pause if there are invocations under way and the deadline has not come; whether there was one.
  func rest(until deadline: ContinuousClock.Instant) async -> Bool {
    guard count > 0, .now < deadline else { return false }
    return (try? await Task.sleep(for: .milliseconds(10))) != nil
  }
}
