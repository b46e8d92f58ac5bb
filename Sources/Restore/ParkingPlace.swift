/// Numbers for descriptors that exist only while a clone is made: above the program's own and above those that the
/// restorer keeps for itself. All of them are closed when it is done.
struct ParkingPlace {
  private let first: UInt64
  private var last: UInt64

  /// - Parameter base: the restorer's first number. It keeps the control socket and what it was supplied with there,
  ///   at most sixteen (RESTORE_ORDER_DESCRIPTORS).
  init(base: UInt64) {
    first = base + 16
    last = base + 15
  }

  /// All numbers that were answered; nil if none was.
  var taken: ClosedRange<UInt64>? { last < first ? nil : first...last }

  /// A number that was not answered before.
  mutating func next() -> UInt64 {
    last += 1
    return last
  }
}
