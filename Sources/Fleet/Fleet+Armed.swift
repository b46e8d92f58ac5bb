internal import Logging
internal import Linux
internal import Restore
internal import Sandbox
internal import SnapshotFormat

/// An environment that is wholly restored and waits before the first instruction of user code.
struct ArmedEnvironment: Sendable {
  var environment: Environment
  var process: ArmedProcess
  /// What it has copied ahead.
  var bytes: UInt64
  var since = ContinuousClock.now
}

/// Armed environments: made in the background after an invocation, taken by the next one that needs a new environment.
/// How many there are is ``ArmedPolicy``'s.
extension Fleet {
  /// A waiting one whose process lives; it is busy from here on.
  func takeArmed(_ revision: String) -> ArmedEnvironment? {
    // The oldest first: its monotonic clock has gone on while it waited.
    while let waiting = armed[revision], let ready = waiting.first {
      armed[revision] = Array(waiting.dropFirst())
      if ready.environment.exit == nil {
        busy[ObjectIdentifier(ready.environment)] = ready.environment
        return ready
      }
      Task { await ready.environment.end() }
    }
    return nil
  }

  /// Begins to make what a version lacks, unless that is under way.
  func refillArmed(_ function: FunctionSpecification) {
    let revision = function.revision
    guard isOpen, !discarded.contains(revision), arming[revision] == nil, lacksArmed(revision) else { return }
    arming[revision] = Task(priority: .background) {
      await workload.calm()
      while isOpen, lacksArmed(revision), await arm(function) {}
      arming[revision] = nil
    }
  }

  private func lacksArmed(_ revision: String) -> Bool {
    armed[revision]?.count ?? 0 < armedPolicy.target(revision, at: .now)
  }

  /// Makes one; answers whether another should be tried.
  private func arm(_ function: FunctionSpecification) async -> Bool {
    let revision = function.revision
    // Until the first reply has shown what is written, a clone that waits would be little faster than a new one.
    guard let template = await currentTemplate(revision), let bytes = template.workingSet?.bytes,
      armedPolicy.allows(bytes, beside: armedBytes)
    else { return false }
    let environment: Environment
    do { environment = try await blankEnvironment(function) } catch {
      warnNotArmed(function, error)
      return false
    }
    do {
      let process = try await arm(template, in: environment)
      // Meanwhile the version may have been discarded, the daemon have begun to go down, others been armed, it died.
      guard await currentTemplate(revision) === template, isOpen, lacksArmed(revision), environment.exit == nil,
        armedPolicy.allows(bytes, beside: armedBytes)
      else {
        await environment.end()
        return false
      }
      armed[revision, default: []].append(ArmedEnvironment(environment: environment, process: process, bytes: bytes))
      return true
    } catch {
      warnNotArmed(function, error)
      return false
    }
  }

  /// Brings a snapshot back up to the first instruction of user code; ends the environment if that fails.
  func arm(_ template: Template, in environment: Environment) async throws(RestoreError) -> ArmedProcess {
    do {
      return try await template.arm(into: environment.sandbox)
    } catch {
      await environment.end()
      throw error
    }
  }

  private func warnNotArmed(_ function: FunctionSpecification, _ error: RestoreError) {
    logger.warning("no environment of \(function.name):\(function.version) could be armed: \(error.message)")
  }

  private var armedBytes: UInt64 { armed.values.joined().reduce(0) { $0 + $1.bytes } }

  /// Ends those of a version, or what it has beyond `count`.
  func endArmed(_ revision: String, beyond count: Int = 0) async {
    guard let waiting = armed[revision], waiting.count > count else { return }
    let surplus = waiting.count - count
    armed[revision] = count == 0 ? nil : Array(waiting.dropFirst(surplus))
    for ready in waiting.prefix(surplus) { await ready.environment.end() }
  }

  /// Gives up what the policy does not want any more; looks at the host's memory. Called every few seconds.
  func trimArmed() async {
    if let (available, total) = try? MemoryInformation.read() {
      let before = armedPolicy.isUnderPressure
      armedPolicy.memoryIs(available: available, of: total)
      if armedPolicy.isUnderPressure != before {
        logger.notice(
          armedPolicy.isUnderPressure
            ? "the host is short of memory (\(available >> 20) of \(total >> 20) MB available): no armed environments"
            : "the host has memory again: environments are armed again")
      }
    }
    for revision in Array(armed.keys) {
      let fresh = armed[revision]?.count { .now - $0.since <= configuration.idleTimeout } ?? 0
      await endArmed(revision, beyond: min(fresh, armedPolicy.target(revision, at: .now)))
    }
  }
}
