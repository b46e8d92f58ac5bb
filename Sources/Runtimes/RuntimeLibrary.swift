internal import Linux
public import Logging
public import SystemPackage

/// The runtimes of this host: finds interpreters, installs what makes them Lambda runtimes, and keeps it in the
/// data directory.
public actor RuntimeLibrary {
  /// What is known of one runtime.
  public struct Status: Sendable {
    /// Lambda's identifier.
    public var identifier: String
    /// The interpreter, if one was found.
    public var interpreter: FilePath?
    /// Whether nothing is left to be installed.
    public var isInstalled: Bool
    /// What to do if there is no interpreter.
    public var remedy: String
  }

  private let host: RuntimeHost
  private var ready: [String: RuntimeBundle] = [:]
  private var underWay: [String: Task<Result<RuntimeBundle, RuntimeBundleError>, Never>] = [:]

  /// A library in `directory` (`runtimes/` of the data directory).
  ///
  /// - Parameters:
  ///   - bootstraps: where Thaw's own bootstraps were built, with a directory for each family.
  ///   - interpreters: paths by runtime identifier that come before those that are found.
  public init(directory: FilePath, bootstraps: FilePath, interpreters: [String: FilePath], logger: Logger) {
    host = RuntimeHost(directory: directory, bootstraps: bootstraps, interpreters: interpreters, logger: logger)
  }

  /// Whether there is a runtime of that name.
  public static func knows(_ identifier: String) -> Bool { KnownRuntimes.find(identifier) != nil }

  /// What is there, without changing anything.
  public func list() -> [Status] {
    KnownRuntimes.all.map { definition in
      Status(
        identifier: definition.identifier, interpreter: definition.interpreter(on: host),
        isInstalled: definition.isInstalled(on: host), remedy: definition.remedy)
    }
  }

  /// Looks for runtimes ahead of their first use, which need not wait for it then. Those of which something is left to be
  /// installed are not touched; what goes wrong is said at the first use.
  public func lookAhead(_ identifiers: Set<String>) async {
    for definition in KnownRuntimes.all where identifiers.contains(definition.identifier) {
      if definition.isInstalled(on: host) { _ = try? await bundle(definition.identifier) }
    }
  }

  /// The bundle of a runtime, installed if it was not: many may ask at once, it is installed once.
  public func bundle(_ identifier: String) async throws(RuntimeBundleError) -> RuntimeBundle {
    if let bundle = ready[identifier] { return bundle }
    guard let definition = KnownRuntimes.find(identifier) else {
      let known = KnownRuntimes.all.map(\.identifier).joined(separator: ", ")
      throw RuntimeBundleError(message: "the runtime \(identifier) is not supported yet; there are \(known)")
    }
    let host = host
    let task =
      underWay[identifier]
      ?? Task {
        do throws(RuntimeBundleError) {
          return .success(try await definition.bundle(on: host))
        } catch {
          return .failure(error)
        }
      }
    underWay[identifier] = task
    let result = await task.value
    underWay[identifier] = nil
    let bundle = try result.get()
    ready[identifier] = bundle
    return bundle
  }
}
