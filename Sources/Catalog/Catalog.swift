internal import Foundation
internal import GRDB
internal import Synchronization
public import SystemPackage

/// Functions, versions and aliases: in SQLite, and in memory for reading. Every change is on the disk before it is
/// seen.
public final class Catalog: Sendable {
  fileprivate struct Function: Sendable {
    var latest: FunctionVersion
    /// By number.
    var versions: [Int: FunctionVersion] = [:]
    var aliases: [String: FunctionAlias] = [:]
    /// Numbers are never given twice, also after a deletion.
    var nextVersion = 1
  }
  private let functions = Mutex<[String: Function]>([:])
  private let database: DatabasePool

  /// Opens the catalog at `path`, which is made; reads everything.
  public init(path: FilePath) throws {
    var configuration = Configuration()
    configuration.prepareDatabase { database in
      // A catalog that forgets what it has confirmed is worse than a slow one.
      try database.execute(sql: "PRAGMA synchronous = FULL")
    }
    database = try DatabasePool(path: path.string, configuration: configuration)
    try Catalog.migrator.migrate(database)
    let rows = try database.read { database in
      (
        functions: try Row.fetchAll(database, sql: "SELECT name, next_version FROM function"),
        versions: try Row.fetchAll(database, sql: "SELECT name, number, body FROM version"),
        aliases: try Row.fetchAll(database, sql: "SELECT body FROM alias")
      )
    }
    var loaded: [String: Function] = [:]
    let decoder = JSONDecoder()
    for row in rows.versions where row["number"] == 0 {
      let latest = try decoder.decode(FunctionVersion.self, from: row["body"] as Data)
      loaded[latest.name] = Function(latest: latest)
    }
    for row in rows.versions {
      let number: Int = row["number"]
      let name: String = row["name"]
      if number > 0 {
        loaded[name]?.versions[number] = try decoder.decode(FunctionVersion.self, from: row["body"] as Data)
      }
    }
    for row in rows.aliases {
      let alias = try decoder.decode(FunctionAlias.self, from: row["body"] as Data)
      loaded[alias.function]?.aliases[alias.name] = alias
    }
    for row in rows.functions {
      let name: String = row["name"]
      loaded[name]?.nextVersion = row["next_version"]
    }
    functions.withLock { $0 = loaded }
  }

  private static var migrator: DatabaseMigrator {
    var migrator = DatabaseMigrator()
    migrator.registerMigration("v1") { database in
      try database.execute(
        sql: """
          CREATE TABLE function (name TEXT PRIMARY KEY NOT NULL, next_version INTEGER NOT NULL);
          CREATE TABLE version (
            name TEXT NOT NULL REFERENCES function(name) ON DELETE CASCADE,
            number INTEGER NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (name, number)
          );
          CREATE TABLE alias (
            name TEXT NOT NULL REFERENCES function(name) ON DELETE CASCADE,
            alias TEXT NOT NULL,
            body BLOB NOT NULL,
            PRIMARY KEY (name, alias)
          );
          """)
    }
    migrator.registerMigration("v2") { database in
      try database.execute(
        sql: "CREATE TABLE last_use (deployment TEXT PRIMARY KEY NOT NULL, seconds REAL NOT NULL);")
    }
    return migrator
  }

  // MARK: Reading

  /// A version by qualifier: nil or "$LATEST", a number, or an alias, which may pick one of two versions by weight.
  public func resolve(_ name: String, qualifier: String?) throws(CatalogError) -> FunctionVersion {
    let found: FunctionVersion?? = functions.withLock { functions in
      guard let function = functions[name] else { return nil }
      return .some(function.find(qualifier))
    }
    guard let found else { throw .notFound(name) }
    guard let version = found else { throw .notFound("\(name):\(qualifier ?? "")") }
    return version
  }

  /// All functions' `$LATEST`, or all their versions, by name and number.
  public func list(allVersions: Bool) -> [FunctionVersion] {
    functions.withLock { functions in
      functions.keys.sorted().flatMap { name -> [FunctionVersion] in
        guard let function = functions[name] else { return [] }
        return allVersions ? function.all : [function.latest]
      }
    }
  }

  /// `$LATEST` and all published versions of a function, by number.
  public func versions(_ name: String) throws(CatalogError) -> [FunctionVersion] {
    guard let all = functions.withLock({ $0[name]?.all }) else { throw .notFound(name) }
    return all
  }

  /// The aliases of a function, by name; only those of one version if that is given.
  public func aliases(_ name: String, version: String?) throws(CatalogError) -> [FunctionAlias] {
    guard let all = functions.withLock({ $0[name]?.aliases }) else { throw .notFound(name) }
    return all.values.filter { version == nil || $0.version == version || $0.weights[version ?? ""] != nil }
      .sorted { $0.name < $1.name }
  }

  /// One alias.
  public func alias(_ name: String, _ alias: String) throws(CatalogError) -> FunctionAlias {
    let found: FunctionAlias?? = functions.withLock { $0[name].map { $0.aliases[alias] } }
    guard let found else { throw .notFound(name) }
    guard let alias = found else { throw .notFound("alias \(name):\(alias)") }
    return alias
  }

  /// Code that some version has.
  public var codeInUse: Set<String> {
    functions.withLock { Set($0.values.flatMap { $0.all.map(\.codeID) }) }
  }

  /// When published versions were last invoked, as far as ``storeLastUses(_:)`` was told: seconds since 1970 by
  /// deployment.
  public func lastUses() throws -> [String: Double] {
    try database.read { database in
      let rows = try Row.fetchAll(database, sql: "SELECT deployment, seconds FROM last_use")
      return Dictionary(
        rows.map { ($0["deployment"] as String, $0["seconds"] as Double) }, uniquingKeysWith: { first, _ in first })
    }
  }

  // MARK: Writing

  /// Stores when published versions were last invoked (seconds since 1970 by deployment), in place of what was stored
  /// before.
  public func storeLastUses(_ uses: [String: Double]) throws {
    try database.write { database in
      try database.execute(sql: "DELETE FROM last_use")
      for (deployment, seconds) in uses {
        try database.execute(sql: "INSERT INTO last_use VALUES (?, ?)", arguments: [deployment, seconds])
      }
    }
  }

  /// Adds a function with its `$LATEST`, Pending.
  public func create(_ latest: FunctionVersion) throws -> FunctionVersion {
    try functions.withLock { functions in
      guard functions[latest.name] == nil else {
        throw CatalogError.conflict("Function already exist: \(latest.name)")
      }
      var latest = latest
      latest.touch(deployment: true)
      try database.write { database in
        try database.execute(sql: "INSERT INTO function VALUES (?, 1)", arguments: [latest.name])
        try Catalog.store(latest, database)
      }
      functions[latest.name] = Function(latest: latest)
      return latest
    }
  }

  /// Changes `$LATEST` by `change`; refused while it is Pending or an update is under way.
  ///
  /// - Returns: the version before and after.
  public func update(
    _ name: String, revisionID: String?, _ change: (inout FunctionVersion) throws -> Void
  ) throws -> (old: FunctionVersion, new: FunctionVersion) {
    try functions.withLock { functions in
      guard let function = functions[name] else { throw CatalogError.notFound(name) }
      if let revisionID, revisionID != function.latest.revisionID { throw CatalogError.revisionMismatch }
      if function.latest.state == .pending || function.latest.updateStatus == .inProgress {
        throw CatalogError.conflict(
          "The operation cannot be performed at this time. An update is in progress for resource: \(name)")
      }
      var latest = function.latest
      try change(&latest)
      latest.updateStatus = .inProgress
      latest.updateStatusReason = "The function is being created."
      latest.updateStatusReasonCode = "Creating"
      latest.touch(deployment: true)
      try database.write { try Catalog.store(latest, $0) }
      functions[name]?.latest = latest
      return (function.latest, latest)
    }
  }

  /// Changes what is known of a version's progress; nothing happens if it has been deleted or replaced meanwhile
  /// (another deployment).
  public func setProgress(
    of version: FunctionVersion, _ change: (inout FunctionVersion) -> Void
  ) throws {
    try functions.withLock { functions in
      guard var current = functions[version.name]?.find(exactly: version.version),
        current.deploymentID == version.deploymentID, current.functionID == version.functionID
      else { return }
      change(&current)
      current.touch(deployment: false)
      try database.write { try Catalog.store(current, $0) }
      functions[version.name]?.put(current)
    }
  }

  /// Publishes `$LATEST` as a new version, Pending if it starts from a snapshot; the newest one is answered if
  /// nothing has changed since. One that has failed is no answer: the disk may have been full.
  public func publish(
    _ name: String, description: String?, codeSHA256: String?, revisionID: String?
  ) throws -> (version: FunctionVersion, isNew: Bool) {
    try functions.withLock { functions in
      guard let function = functions[name] else { throw CatalogError.notFound(name) }
      if let revisionID, revisionID != function.latest.revisionID { throw CatalogError.revisionMismatch }
      if let codeSHA256, codeSHA256 != function.latest.codeSHA256 {
        throw CatalogError.invalid(
          "CodeSHA256 (\(codeSHA256)) is different from current CodeSHA256 in $LATEST (\(function.latest.codeSHA256)). Please try again with the CodeSHA256 in $LATEST."
        )
      }
      if function.latest.state == .pending || function.latest.updateStatus == .inProgress {
        throw CatalogError.conflict(
          "The operation cannot be performed at this time. An update is in progress for resource: \(name)")
      }
      if let newest = function.versions.max(by: { $0.key < $1.key })?.value,
        newest.state != .failed, newest.isSameDeployment(function.latest),
        description == nil || description == newest.description
      {
        return (newest, false)
      }
      var version = function.latest
      version.version = "\(function.nextVersion)"
      if let description { version.description = description }
      version.state = version.startsFromSnapshot ? .pending : .active
      version.stateReason = version.startsFromSnapshot ? "The function is being created." : nil
      version.stateReasonCode = version.startsFromSnapshot ? "Creating" : nil
      version.updateStatus = .successful
      version.updateStatusReason = nil
      version.updateStatusReasonCode = nil
      version.touch(deployment: true)
      try database.write { [version] database in
        try database.execute(
          sql: "UPDATE function SET next_version = ? WHERE name = ?", arguments: [function.nextVersion + 1, name])
        try Catalog.store(version, database)
      }
      functions[name]?.nextVersion += 1
      functions[name]?.put(version)
      return (version, true)
    }
  }

  /// Deletes a function, or one of its versions.
  ///
  /// - Returns: the versions that are gone.
  public func delete(_ name: String, qualifier: String?) throws -> [FunctionVersion] {
    try functions.withLock { functions in
      guard let function = functions[name] else { throw CatalogError.notFound(name) }
      guard let qualifier else {
        try database.write { try $0.execute(sql: "DELETE FROM function WHERE name = ?", arguments: [name]) }
        functions[name] = nil
        return function.all
      }
      if qualifier == "$LATEST" {
        throw CatalogError.invalid("$LATEST version cannot be deleted without deleting the function.")
      }
      guard let number = Int(qualifier) else {
        throw CatalogError.invalid("Deletion of aliases is not currently supported.")
      }
      guard let version = function.versions[number] else { return [] }
      if let alias = function.aliases.values.first(where: { $0.version == qualifier || $0.weights[qualifier] != nil }) {
        throw CatalogError.conflict(
          "Version \(qualifier) is being used by alias \(alias.name). Please delete it or move it first.")
      }
      try database.write {
        try $0.execute(sql: "DELETE FROM version WHERE name = ? AND number = ?", arguments: [name, number])
      }
      functions[name]?.versions[number] = nil
      return [version]
    }
  }

  /// Adds an alias.
  public func createAlias(_ alias: FunctionAlias) throws -> FunctionAlias {
    try change(alias.function) { function in
      guard function.aliases[alias.name] == nil else { throw CatalogError.conflict(alias.name) }
      return alias
    }
  }

  /// Changes an alias.
  public func updateAlias(
    _ name: String, _ alias: String, revisionID: String?, _ change: (inout FunctionAlias) -> Void
  ) throws -> FunctionAlias {
    try self.change(name) { function in
      guard var current = function.aliases[alias] else { throw CatalogError.notFound("alias \(name):\(alias)") }
      if let revisionID, revisionID != current.revisionID { throw CatalogError.revisionMismatch }
      change(&current)
      return current
    }
  }

  /// Deletes an alias, if there is one.
  public func deleteAlias(_ name: String, _ alias: String) throws {
    try functions.withLock { functions in
      guard functions[name] != nil else { throw CatalogError.notFound(name) }
      try database.write {
        try $0.execute(sql: "DELETE FROM alias WHERE name = ? AND alias = ?", arguments: [name, alias])
      }
      functions[name]?.aliases[alias] = nil
    }
  }

  /// Replaces the tags of a function.
  public func setTags(_ name: String, _ change: (inout [String: String]) -> Void) throws {
    try functions.withLock { functions in
      guard var latest = functions[name]?.latest else { throw CatalogError.notFound(name) }
      change(&latest.tags)
      try database.write { [latest] in try Catalog.store(latest, $0) }
      functions[name]?.latest = latest
    }
  }

  private func change(_ name: String, _ make: (Function) throws -> FunctionAlias) throws -> FunctionAlias {
    try functions.withLock { functions in
      guard let function = functions[name] else { throw CatalogError.notFound(name) }
      var alias = try make(function)
      for version in [alias.version] + alias.weights.keys
      where version != "$LATEST" && Int(version).flatMap({ function.versions[$0] }) == nil {
        throw CatalogError.notFound("\(name):\(version)")
      }
      alias.revisionID = UUID().uuidString.lowercased()
      let body = try JSONEncoder().encode(alias)
      try database.write { [alias] in
        try $0.execute(sql: "INSERT OR REPLACE INTO alias VALUES (?, ?, ?)", arguments: [name, alias.name, body])
      }
      functions[name]?.aliases[alias.name] = alias
      return alias
    }
  }

  private static func store(_ version: FunctionVersion, _ database: Database) throws {
    try database.execute(
      sql: "INSERT OR REPLACE INTO version VALUES (?, ?, ?)",
      arguments: [version.name, Int(version.version) ?? 0, try JSONEncoder().encode(version)])
  }
}

extension Catalog.Function {
  fileprivate var all: [FunctionVersion] { [latest] + versions.sorted { $0.key < $1.key }.map(\.value) }

  fileprivate func find(exactly version: String) -> FunctionVersion? {
    version == "$LATEST" ? latest : Int(version).flatMap { versions[$0] }
  }

  fileprivate func find(_ qualifier: String?) -> FunctionVersion? {
    guard let qualifier else { return latest }
    if let version = find(exactly: qualifier) { return version }
    guard let alias = aliases[qualifier] else { return nil }
    var draw = alias.weights.isEmpty ? 1 : Double.random(in: 0..<1)
    for (version, weight) in alias.weights {
      if draw < weight { return find(exactly: version) }
      draw -= weight
    }
    return find(exactly: alias.version)
  }

  fileprivate mutating func put(_ version: FunctionVersion) {
    if let number = Int(version.version) { versions[number] = version } else { latest = version }
  }
}

extension FunctionVersion {
  /// Marks a change.
  fileprivate mutating func touch(deployment: Bool) {
    revisionID = UUID().uuidString.lowercased()
    guard deployment else { return }
    deploymentID = UUID().uuidString.lowercased()
    lastModified = Date().formatted(
      .iso8601.year().month().day().time(includingFractionalSeconds: true).timeZone(separator: .omitted)
    )
    .replacing("Z", with: "+0000")
  }
}
