internal import CRestoreProgram
internal import Sandbox
internal import SystemPackage

/// When the steps of one restore were done, counted from the order.
public struct RestoreTimings: Sendable, Hashable {
  /// The process had been armed before: all steps but the last were over when the order came.
  public var wasArmed: Bool
  /// The template had cloned itself.
  public var cloned: Duration
  /// The sandbox's namespaces and cgroups were joined.
  public var entered: Duration
  /// The memory was complete: the working set was copied ahead.
  public var mapped: Duration
  /// Descriptors and process state were back.
  public var instance: Duration
  /// All threads were made.
  public var threads: Duration
  /// The main thread was about to run user code.
  public var done: Duration

  init(_ report: restore_report) {
    wasArmed = report.released > report.armed
    let start = wasArmed ? report.released : report.ordered
    // What came before the order took none of its time.
    func since(_ time: UInt64) -> Duration { .nanoseconds(Int64(time > start ? time - start : 0)) }
    cloned = since(report.cloned)
    entered = since(report.entered)
    mapped = since(report.touched)
    instance = since(report.instance)
    threads = since(report.threads)
    done = since(report.done)
  }
}

/// A process that a template has brought back in a sandbox.
public struct RestoredProcess: Sendable {
  /// As this daemon sees it. It is already adopted by its sandbox.
  public var processID: Int32
  /// What the restore cost.
  public var timings: RestoreTimings
}

/// A clone that is restored wholly and waits before the first instruction of user code. Its sandbox ends it.
public final class ArmedProcess: Sendable {
  /// As this daemon sees it. It is already adopted by its sandbox.
  public let processID: Int32
  let id: UInt32
  let sandbox: Sandbox
  /// What it waits on; owned.
  let descriptor: FileDescriptor
  private let template: Template

  init(id: UInt32, processID: Int32, template: Template, sandbox: Sandbox, descriptor: FileDescriptor) {
    self.id = id
    self.processID = processID
    self.template = template
    self.sandbox = sandbox
    self.descriptor = descriptor
  }

  deinit { try? descriptor.close() }

  /// Lets the process run. Once only: its timings count from here.
  public func release() async throws(RestoreError) -> RestoredProcess { try await template.release(self) }
}
