public import SnapshotFormat
public import SystemPackage

/// A descriptor that a restored process does not get back as it was but is given anew: the log pipe, the connection on which it waits.
public struct SuppliedDescriptor: Sendable, Hashable {
  /// How it is found in the process.
  public enum Identity: Sendable, Hashable {
    /// A pipe with this inode (see `fstat(2)` of the other end).
    case pipe(inode: UInt64)
    /// A TCP socket with this local port.
    case tcp(localPort: UInt16)
  }
  /// What it is for.
  public var role: SuppliedRole
  /// How it is found.
  public var identity: Identity

  /// Says that the descriptor found by `identity` plays `role`.
  public init(role: SuppliedRole, identity: Identity) {
    self.role = role
    self.identity = identity
  }
}

/// What taking a snapshot cost.
public struct CheckpointTimings: Sendable {
  /// From the request until the process was quiet.
  public var quiesce: Duration
  /// How long the process was stopped.
  public var frozen: Duration
  /// From the request until everything was on the disk.
  public var total: Duration
}

/// Freezes a sandboxed process, and writes what is needed to make it again.
public enum Checkpoint {
  /// Waits until the process is quiet, stops it, and writes `manifest`, `image` and (if /tmp was not empty) `tmp/` into `directory`, synced. The process
  /// is left stopped if `leaveFrozen`, else it goes on.
  ///
  /// - Parameters:
  ///   - processID: the sandbox's first program, as this daemon sees it.
  ///   - initProcessID: the sandbox's pid 1, which is not part of the snapshot.
  ///   - supplied: descriptors that every restored process is given anew.
  ///   - directory: an existing, empty directory.
  /// - Throws: a refusal that names the process, descriptor or mapping; or what failed.
  public static func take(
    processID: Int32, initProcessID: Int32, supplied: [SuppliedDescriptor], directory: FilePath
  ) async throws(CheckpointError) -> (manifest: SnapshotManifest, timings: CheckpointTimings) {
    fatalError("not built yet")
  }
}

/// Why no snapshot could be taken.
public struct CheckpointError: Error, Sendable, CustomStringConvertible {
  /// The kind of failure.
  public enum Code: Sendable, Hashable {
    /// The process holds something that cannot be brought back; the message names it.
    case refused
    /// The process did not become quiet in time.
    case notQuiet
    /// The process ended meanwhile.
    case processEnded
    /// A system call failed.
    case system
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
