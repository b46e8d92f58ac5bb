internal import Catalog
internal import Fleet
internal import Foundation
internal import Hummingbird
internal import LambdaAPI
internal import Logging
internal import NIOPosix
internal import Runtimes
internal import Sandbox
internal import ServiceLifecycle
internal import SnapshotStore
internal import SystemPackage
internal import UnixSignals

/// The daemon: puts the rooms together, runs until it is told to stop, and leaves nothing behind.
public enum ThawServer {
  /// Runs the daemon until SIGTERM or SIGINT.
  ///
  /// - Throws: `StartError` with one line for the user if it cannot start.
  public static func run(_ configuration: ServerConfiguration) async throws {
    guard getuid() == 0 else {
      throw StartError("thaw serve needs root, for namespaces, mounts and cgroups; start it with sudo")
    }
    let (host, port) = try configuration.address()
    let data = try DataDirectory(configuration.dataDirectory)
    let lock = try data.lock()
    defer { try? lock.close() }
    let credentials = try data.credentials()
    var logger = Logger(label: "thaw") { StreamLogHandler.standardError(label: $0) }
    logger.logLevel = configuration.logLevel

    let restorer = try ServerConfiguration.helper("thaw-restorer")
    let catalog: Catalog
    let code: CodeStore
    let store: SnapshotStore
    let jailer: Jailer
    do {
      catalog = try Catalog(path: data.catalog)
      code = try CodeStore(directory: data.code)
      store = try SnapshotStore(directory: data.snapshots)
      jailer = try await Jailer.launch(
        executable: try ServerConfiguration.helper("thaw-jailer"), rootDirectory: try data.makeRootDirectory(),
        instance: data.instance, logger: logger)
    } catch let error as StartError {
      throw error
    } catch {
      throw StartError("the daemon cannot start with \(data.path): \(error)")
    }
    // Snapshots of versions that were deleted just before a daemon was killed.
    let versions = catalog.list(allVersions: true)
    let known = Set(versions.map(\.deploymentID))
    for entry in (try? await store.list()) ?? [] where !known.contains(entry.id) {
      try? await store.remove(id: entry.id)
    }
    let workload = Workload()
    let pool = SandboxPool(jailer: jailer, target: configuration.poolTarget, workload: workload, logger: logger)
    let runtimes = RuntimeLibrary(
      directory: data.runtimes, bootstraps: ServerConfiguration.bootstraps(),
      interpreters: configuration.interpreters, logger: logger)
    let fleet = Fleet(
      configuration: FleetConfiguration(
        logDirectory: data.logs, restorer: restorer, region: configuration.region,
        concurrencyLimit: configuration.concurrencyLimit, idleTimeout: .seconds(configuration.idleSeconds),
        idleLimit: configuration.idleLimit, armedLimit: configuration.armedLimit,
        armedMemoryBytes: UInt64(max(0, configuration.armedMegabytes)) << 20),
      jailer: jailer, pool: pool, workload: workload, store: store, runtimes: runtimes, group: .singleton,
      logger: logger)
    let names = FunctionNames(account: configuration.account, region: configuration.region)
    let lifecycle = VersionLifecycle(
      catalog: catalog, code: code, host: fleet, names: names, logger: logger,
      inactiveAfter: .seconds(configuration.inactiveDays * 86400))
    let api = LambdaAPI(
      catalog: catalog, code: code, host: fleet, lifecycle: lifecycle, names: names, credentials: credentials,
      concurrencyLimit: configuration.concurrencyLimit, logger: logger
    ) { await StatusReport(fleet: fleet, catalog: catalog).encoded() }
    jailer.onLoss {
      // Without the jailer nothing works, and everything it made is gone: better to be started anew by whoever
      // watches over us.
      FileHandle.standardError.write(Data("thaw: the jailer ended; stopping\n".utf8))
      exit(1)
    }
    var quiet = logger
    quiet.logLevel = max(configuration.logLevel, .warning)
    let application = Application(
      responder: api,
      configuration: ApplicationConfiguration(address: .hostname(host, port: port), serverName: "thaw"),
      onServerRunning: { channel in
        let actual = channel.localAddress?.port ?? port
        let shown = host.contains(":") ? "[\(host)]" : host
        let endpoint = "http://\(shown):\(actual)"
        data.write(endpoint: endpoint)
        FileHandle.standardOutput.write(Data("listening on \(endpoint)\n".utf8))
      }, logger: quiet)
    let group = ServiceGroup(
      configuration: ServiceGroupConfiguration(
        services: [
          .init(
            service: FleetService(
              fleet: fleet, lifecycle: lifecycle, runtimes: runtimes,
              used: Set(versions.map(\.runtime)),
              // Often enough for the limit that is set, and not more often than is worth a write to the disk.
              unusedInterval: .seconds(min(600, max(1, configuration.inactiveDays * 86400 / 10)))),
            successTerminationBehavior: .gracefullyShutdownGroup),
          .init(service: application, successTerminationBehavior: .gracefullyShutdownGroup),
        ], gracefulShutdownSignals: [.sigterm, .sigint], logger: quiet))
    do {
      try await group.run()
    } catch {
      await lifecycle.shutdown()
      await fleet.shutdown(grace: .zero)
      await jailer.shutdown()
      throw StartError(
        "cannot serve on \(configuration.listen): \(error); is the port taken? Choose another with --listen")
    }
    await jailer.shutdown()
  }
}

/// Runs beside the server: resumes what was under way, retires what is idle, ends everything at the end.
private struct FleetService: Service {
  let fleet: Fleet
  let lifecycle: VersionLifecycle
  let runtimes: RuntimeLibrary
  /// Identifiers of the runtimes of the functions that there are.
  let used: Set<String>
  let unusedInterval: Duration

  func run() async throws {
    await lifecycle.resume()
    // Nobody waits for it, the end of the daemon neither.
    Task { await runtimes.lookAhead(used) }
    await cancelWhenGracefulShutdown {
      await withDiscardingTaskGroup { group in
        group.addTask { await every(.seconds(5)) { await fleet.retireIdle() } }
        group.addTask { await every(unusedInterval) { await lifecycle.deactivateUnused() } }
      }
    }
    // The fleet ends what the life cycle waits for; what was Pending stays so and is resumed at the next start.
    await fleet.shutdown()
    await lifecycle.shutdown()
  }

  private func every(_ interval: Duration, _ work: @Sendable () async -> Void) async {
    while (try? await Task.sleep(for: interval)) != nil { await work() }
  }
}
