internal import Catalog
internal import Fleet
internal import Foundation
internal import FoundationNetworking
internal import LambdaAPI

/// What a running daemon says of itself at `GET /thaw/status`.
public struct StatusReport: Codable, Sendable {
  /// One snapshot.
  public struct Snapshot: Codable, Sendable {
    public var function: String
    public var version: String
    public var bytes: Int
    public var pages: Int
    public var threads: Int
    /// Seconds since 1970.
    public var created: Double
    public var restores: Int
    /// Environments that are wholly restored and wait for their first invocation.
    public var armed: Int
    /// What every clone copies ahead; 0: not recorded yet.
    public var workingSetBytes: Int
    public var warnings: [String]
    /// Steps of the last restore, microseconds from the order.
    public var lastRestore: [String: Double]?
  }
  /// The daemon's process id.
  public var processID: Int32
  /// Environments that wait for work.
  public var idle: Int
  /// Invocations under way.
  public var active: Int
  public var snapshots: [Snapshot]

  init(fleet: Fleet, catalog: Catalog) async {
    let status = await fleet.status()
    processID = getpid()
    idle = status.idle
    active = status.active
    let versions = Dictionary(
      catalog.list(allVersions: true).map { ($0.deploymentID, $0) }, uniquingKeysWith: { first, _ in first })
    snapshots = status.snapshots.map { snapshot in
      let version = versions[snapshot.revision]
      return Snapshot(
        function: version?.name ?? "(deleted)", version: version?.version ?? snapshot.revision, bytes: snapshot.bytes,
        pages: snapshot.pages, threads: snapshot.threads, created: snapshot.created, restores: snapshot.restores,
        armed: snapshot.armed, workingSetBytes: snapshot.workingSetBytes, warnings: snapshot.warnings,
        lastRestore: snapshot.lastRestore.map {
          [
            "cloned": $0.cloned, "entered": $0.entered, "mapped": $0.mapped, "instance": $0.instance,
            "threads": $0.threads, "done": $0.done,
            "firstNext": $0.firstNext, "reply": $0.reply, "processID": Double($0.processID),
            "armed": $0.wasArmed ? 1 : 0,
          ]
        })
    }
  }

  func encoded() -> [UInt8] { (try? JSONEncoder().encode(self)).map(Array.init) ?? [] }

  /// Asks the daemon of a data directory.
  public static func fetch(_ data: DataDirectory, region: String = "us-east-1") async throws -> StatusReport {
    let endpoint = data.endpoint
    let credentials = try data.credentials()
    guard let url = URL(string: "\(endpoint)/thaw/status") else {
      throw StartError("the daemon's address '\(endpoint)' is malformed")
    }
    var request = URLRequest(url: url, timeoutInterval: 10)
    for (name, value) in RequestSigner(credentials: credentials, region: region).headers(
      method: "GET", path: "/thaw/status", host: endpoint.replacing("http://", with: ""))
    {
      request.setValue(value, forHTTPHeaderField: name)
    }
    let body: Data
    do {
      (body, _) = try await URLSession.shared.data(for: request)
    } catch {
      throw StartError("no daemon answers at \(endpoint); start it with `thaw serve --data-dir \(data.path)`")
    }
    do {
      return try JSONDecoder().decode(StatusReport.self, from: body)
    } catch {
      throw StartError("the daemon at \(endpoint) answered: \(String(decoding: body.prefix(300), as: UTF8.self))")
    }
  }
}
