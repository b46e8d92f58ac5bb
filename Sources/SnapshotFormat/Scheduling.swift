/// How a thread is scheduled.
public struct Scheduling: Sendable, Equatable {
  /// SCHED_OTHER 0, FIFO 1, RR 2, BATCH 3, IDLE 5 (linux/sched.h).
  public var policy: UInt32
  /// Priority for FIFO and RR, else 0.
  public var priority: UInt32
  /// Nice value, -20 to 19.
  public var niceness: Int32
  /// CPUs it may run on, bit n of word n / 64; empty if it may run on all that the sandbox has.
  public var affinity: [UInt64]

  /// The given scheduling; without arguments what every thread begins with.
  public init(policy: UInt32 = 0, priority: UInt32 = 0, niceness: Int32 = 0, affinity: [UInt64] = []) {
    self.policy = policy
    self.priority = priority
    self.niceness = niceness
    self.affinity = affinity
  }
}

extension Scheduling: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(policy)
    writer.put(priority)
    writer.put(niceness)
    writer.put(words: affinity)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    policy = try reader.get()
    priority = try reader.get()
    niceness = Int32(bitPattern: try reader.get())
    affinity = try reader.words()
  }
}
