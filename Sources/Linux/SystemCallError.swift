public import SystemPackage

/// A system call that failed: which one, on what, and the kernel's reason.
public struct SystemCallError: Error, Sendable, CustomStringConvertible {
  /// The C name of the call, such as `openat`.
  public var call: String
  /// What it was called on: a path, a process, a descriptor.
  public var subject: String
  /// The reason, as in `errno(3)`.
  public var errno: Errno

  /// Describes the failure of `call` on `subject` with the kernel's `errno`.
  public init(call: String, subject: String = "", errno: Errno) {
    self.call = call
    self.subject = subject
    self.errno = errno
  }

  public var description: String {
    subject.isEmpty ? "\(call): \(errno)" : "\(call) \(subject): \(errno)"
  }
}
