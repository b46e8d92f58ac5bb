/// A POSIX timer, `timer_create(2)`.
public struct PosixTimer: Sendable, Equatable {
  /// The id that the program knows it by.
  public var id: UInt32
  /// A clock of `clock_gettime(2)`; negative ones are CPU clocks.
  public var clock: Int32
  /// SIGEV_SIGNAL 0, SIGEV_NONE 1, SIGEV_THREAD_ID 4 (asm-generic/siginfo.h).
  public var notification: UInt32
  /// The signal it sends.
  public var signal: UInt32
  /// The value that the signal carries (`sigev_value`).
  public var value: UInt64
  /// For SIGEV_THREAD_ID: the thread, by its id inside the sandbox; else 0.
  public var threadID: UInt32
  /// `struct itimerspec`: interval and remaining time as seconds and nanoseconds, four words; a remaining time of 0
  /// means disarmed.
  public var setting: [UInt64]

  /// A timer of these parts.
  public init(
    id: UInt32, clock: Int32, notification: UInt32, signal: UInt32, value: UInt64, threadID: UInt32,
    setting: [UInt64]
  ) {
    self.id = id
    self.clock = clock
    self.notification = notification
    self.signal = signal
    self.value = value
    self.threadID = threadID
    self.setting = setting
  }
}

/// What a timerfd holds, `timerfd_create(2)`.
public struct TimerDescriptor: Sendable, Equatable {
  /// Its clock.
  public var clock: UInt32
  /// TFD_TIMER_ABSTIME 1 and TFD_TIMER_CANCEL_ON_SET 2 as it was set; absolute times are kept for CLOCK_REALTIME
  /// only, others are remaining times here.
  public var flags: UInt32
  /// `struct itimerspec`: interval and value as seconds and nanoseconds, four words; a value of 0 means disarmed.
  public var setting: [UInt64]
  /// Expirations that have not been read.
  public var expirations: UInt64

  /// A timerfd of these parts.
  public init(clock: UInt32, flags: UInt32, setting: [UInt64], expirations: UInt64) {
    self.clock = clock
    self.flags = flags
    self.setting = setting
    self.expirations = expirations
  }
}

extension PosixTimer: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(id)
    writer.put(clock)
    writer.put(notification)
    writer.put(signal)
    writer.put(value)
    writer.put(threadID)
    writer.put(words: setting)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    id = try reader.get()
    clock = Int32(bitPattern: try reader.get())
    notification = try reader.get()
    signal = try reader.get()
    value = try reader.get()
    threadID = try reader.get()
    setting = try reader.words(exactly: 4)
  }
}

extension TimerDescriptor: BinaryCodable {
  func encode(into writer: inout BinaryWriter) {
    writer.put(clock)
    writer.put(flags)
    writer.put(words: setting)
    writer.put(expirations)
  }
  init(from reader: inout BinaryReader) throws(SnapshotFormatError) {
    clock = try reader.get()
    flags = try reader.get()
    setting = try reader.words(exactly: 4)
    expirations = try reader.get()
  }
}
