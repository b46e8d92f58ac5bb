/// The lines that Lambda writes around an invocation.
public struct InvocationReport: Sendable {
  /// The request.
  public var requestID: String
  /// "$LATEST" or a number.
  public var version: String
  /// The handler's time.
  public var duration: Duration
  /// Configured memory, MB.
  public var memoryMegabytes: Int
  /// The most memory used, MB.
  public var usedMegabytes: Int
  /// Cold start's init, if this was the first invocation after one.
  public var initialization: Duration?
  /// Restore and its billed part, if this was the first invocation after one.
  public var restore: (total: Duration, billed: Duration)?
  /// Such as `timeout` or `error`: the `Status` field.
  public var status: String?

  /// A report.
  public init(
    requestID: String, version: String, duration: Duration, memoryMegabytes: Int, usedMegabytes: Int,
    initialization: Duration? = nil, restore: (total: Duration, billed: Duration)? = nil, status: String? = nil
  ) {
    self.requestID = requestID
    self.version = version
    self.duration = duration
    self.memoryMegabytes = memoryMegabytes
    self.usedMegabytes = usedMegabytes
    self.initialization = initialization
    self.restore = restore
    self.status = status
  }

  /// `START RequestId: ... Version: ...`
  public static func start(requestID: String, version: String) -> String {
    "START RequestId: \(requestID) Version: \(version)"
  }

  /// `END RequestId: ...`
  public var end: String { "END RequestId: \(requestID)" }

  /// `REPORT RequestId: ...` with its fields, parted by tabs.
  public var report: String {
    // An on-demand cold start bills its init with the first invocation.
    let billed = (duration + (initialization ?? .zero)).roundedUpMilliseconds
    var fields = [
      "REPORT RequestId: \(requestID)", "Duration: \(duration.milliseconds) ms", "Billed Duration: \(billed) ms",
      "Memory Size: \(memoryMegabytes) MB", "Max Memory Used: \(usedMegabytes) MB",
    ]
    if let initialization { fields.append("Init Duration: \(initialization.milliseconds) ms") }
    if let restore {
      fields.append("Restore Duration: \(restore.total.milliseconds) ms")
      fields.append("Billed Restore Duration: \(restore.billed.roundedUpMilliseconds) ms")
    }
    if let status { fields.append("Status: \(status)") }
    return fields.joined(separator: "\t") + "\t"
  }
}

extension Duration {
  /// Milliseconds with two decimals.
  public var milliseconds: String {
    let (seconds, attoseconds) = components
    let hundredths = seconds * 100_000 + attoseconds / 10_000_000_000_000
    let rest = hundredths % 100
    return "\(hundredths / 100).\(rest < 10 ? "0" : "")\(rest)"
  }

  /// Whole milliseconds, rounded up, as billing does.
  public var roundedUpMilliseconds: Int64 {
    let (seconds, attoseconds) = components
    return seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
  }
}
