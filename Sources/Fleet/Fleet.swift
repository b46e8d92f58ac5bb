/// What LambdaAPI needs of the fleet; `Fleet` is it, and tests put a fake in its place.
public protocol FunctionHost: Sendable {
  /// Makes sure that the runtime's bundle is there, installing it if need be, with progress in the daemon's log.
  func prepareRuntime(_ runtime: String) async throws(FleetError)
  /// Initialises a version and takes its snapshot. Returns when the snapshot is durable; at once if there is a usable one.
  func prepare(_ function: FunctionSpecification) async throws(FleetError)
  /// Runs the function on one event.
  func invoke(_ function: FunctionSpecification, _ invocation: Invocation) async throws(FleetError) -> InvocationResult
  /// Ends the idle environments (busy ones when they are done) of this revision and deletes its snapshot: it was deleted or replaced.
  func discard(revision: String) async
}
