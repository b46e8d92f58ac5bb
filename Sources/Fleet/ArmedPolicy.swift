/// How many armed environments a version should have: pure, so that it can be explained and tested.
///
/// A version that was started from its snapshot within ``ArmedPolicy/idleTimeout`` keeps one ready, and one for each of
/// its other starts of the last ``ArmedPolicy/burstWindow``, up to ``ArmedPolicy/limit``. All of them together copy at
/// most ``ArmedPolicy/memoryBytes`` ahead; when the host runs short of memory there are none.
struct ArmedPolicy: Sendable {
  /// Most for one version; 0: none at all.
  let limit: Int
  /// Most bytes that all armed environments together may have copied ahead.
  let memoryBytes: UInt64
  /// How long a version without starts keeps its armed environments.
  let idleTimeout: Duration
  /// Starts within this time are taken for one burst.
  static let burstWindow = Duration.seconds(10)

  /// The last starts of each version, oldest first, at most ``limit``.
  private var starts: [String: [ContinuousClock.Instant]] = [:]
  /// Whether the host is short of memory.
  private(set) var isUnderPressure = false

  init(limit: Int, memoryBytes: UInt64, idleTimeout: Duration) {
    self.limit = max(0, limit)
    self.memoryBytes = memoryBytes
    self.idleTimeout = idleTimeout
  }

  /// A version was started from its snapshot.
  mutating func started(_ revision: String, at now: ContinuousClock.Instant) {
    guard limit > 0 else { return }
    starts[revision, default: []].append(now)
    if let count = starts[revision]?.count, count > limit { starts[revision]?.removeFirst(count - limit) }
  }

  /// A version is gone.
  mutating func forget(_ revision: String) { starts[revision] = nil }

  /// The host's memory was looked at. Under a tenth available is pressure, which is over only above 15 %.
  mutating func memoryIs(available: UInt64, of total: UInt64) {
    guard total > 0 else { return }
    let share = Double(available) / Double(total)
    if share < 0.10 { isUnderPressure = true }
    if share > 0.15 { isUnderPressure = false }
  }

  /// How many armed environments a version should have now.
  func target(_ revision: String, at now: ContinuousClock.Instant) -> Int {
    guard !isUnderPressure, let times = starts[revision], let last = times.last, now - last <= idleTimeout else {
      return 0
    }
    return min(limit, max(1, times.count { now - $0 <= ArmedPolicy.burstWindow }))
  }

  /// Whether one more may be armed that copies `bytes` ahead, beside those that have copied `used`.
  func allows(_ bytes: UInt64, beside used: UInt64) -> Bool {
    !isUnderPressure && used + bytes <= memoryBytes
  }
}
