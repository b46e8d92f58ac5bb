internal import CRestoreProgram
internal import SystemPackage

/// Why a snapshot was not brought back.
public struct RestoreError: Error, Sendable, CustomStringConvertible {
  /// The kind of failure.
  public enum Code: Sendable, Hashable {
    /// Missing, cut short or with a wrong checksum.
    case corrupt
    /// Another kernel, CPU or mapped file than it was made with.
    case incompatible
    /// The template is gone; build another.
    case templateGone
    /// A step failed in the restorer or the kernel.
    case failed
  }
  /// The kind of failure.
  public var code: Code
  /// What happened, for a person.
  public var message: String

  /// An error with its message.
  public init(code: Code, message: String) {
    self.code = code
    self.message = message
  }

  public var description: String { message }
}

extension RestoreError {
  /// An error of a lower room in this room's words.
  init(wrapping error: any Error) {
    self =
      error as? RestoreError ?? RestoreError(code: .failed, message: "the snapshot could not be brought back: \(error)")
  }

  /// What the restorer says went wrong.
  init(_ report: restore_report) {
    let phases = ["setup", "memory", "enter", "touch", "instance", "threads", "thread", "main", "release", "seal"]
    let phase = report.phase < phases.count ? phases[Int(report.phase)] : "phase \(report.phase)"
    let reason: String =
      (-4095..<0).contains(report.value)
      ? "\(Errno(rawValue: CInt(-report.value)))" : "answered \(report.value)"
    if report.kind == RESTORE_REPORT_CLONED.rawValue {
      self.init(code: .failed, message: "the template could not clone itself into the sandbox: \(reason)")
      return
    }
    let arguments = withUnsafeBytes(of: report.arguments) { bytes in
      (0..<6).map { "0x" + String(bytes.loadUnaligned(fromByteOffset: $0 * 8, as: UInt64.self), radix: 16) }
    }
    // ECHILD: see check_children of restorer.c.
    if report.number == UInt16(RESTORE_OP_FORK.rawValue), report.value == -10 {
      let child = withUnsafeBytes(of: report.arguments) { $0.loadUnaligned(as: UInt64.self) }
      self.init(
        code: .failed,
        message: "process \(child) of the sandbox was killed while it was restored, or had no memory for its own")
      return
    }
    // A mapped file that is not there any more is a snapshot that does not fit this machine.
    let isOpen = report.number == SystemCallNumber.openat && report.phase == RESTORE_PHASE_MEMORY.rawValue
    self.init(
      code: isOpen ? .incompatible : .failed,
      message:
        "step \(report.index) of phase \(phase)\(report.process > 0 ? " of process \(report.process)" : "") failed: system call \(report.number)(\(arguments.joined(separator: ", "))): \(reason)"
    )
  }
}
