public import Logging
public import Sandbox
public import SnapshotFormat
public import SystemPackage

/// When the steps of one restore were done, counted from the order.
public struct RestoreTimings: Sendable, Hashable {
  /// The template had cloned itself.
  public var cloned: Duration
  /// The namespaces were joined and the memory was complete.
  public var mapped: Duration
  /// Descriptors and process state were back.
  public var instance: Duration
  /// All threads were made.
  public var threads: Duration
  /// The main thread was about to run user code.
  public var done: Duration
}

/// A process that a template has brought back in a sandbox.
public struct RestoredProcess: Sendable {
  /// As this daemon sees it. It is already adopted by its sandbox.
  public var processID: Int32
  /// What the restore cost.
  public var timings: RestoreTimings
}

/// A process that holds a snapshot's memory and clones itself into blank sandboxes.
public actor Template {
  /// Verifies the snapshot in `directory` (checksums, then kernel, CPU and mapped files), compiles it and brings its memory back.
  ///
  /// - Throws: `RestoreError` with code `.corrupt` or `.incompatible` when the snapshot must be built anew.
  public static func build(
    directory: FilePath, jailer: Jailer, specification: SandboxSpecification, restorer: FilePath, logger: Logger
  ) async throws(RestoreError) -> Template { fatalError("not built yet") }

  /// The manifest it was built from.
  public nonisolated var manifest: SnapshotManifest { fatalError("not built yet") }

  /// Brings the snapshot back in a blank sandbox. Many may be under way at once.
  public func restore(into sandbox: Sandbox) async throws(RestoreError) -> RestoredProcess { fatalError("not built yet") }

  /// Ends the template; clones go on.
  public func close() async {}

  init() {}
}

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
