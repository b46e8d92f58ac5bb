import Catalog
import Foundation
import SystemPackage
import Testing

@Suite struct CatalogTests {
  private func temporary() throws -> FilePath {
    let path = FilePath(FileManager.default.temporaryDirectory.path).appending("thaw-catalog-\(UUID().uuidString)")
    try FileManager.default.createDirectory(atPath: path.string, withIntermediateDirectories: true)
    return path
  }

  private func version(_ name: String, code: String = "a", snapStart: Bool = false) -> FunctionVersion {
    FunctionVersion(
      name: name, functionID: UUID().uuidString, runtime: "python3.12", handler: "app.handler", role: "r",
      description: "",
      timeout: 3, memorySize: 128, ephemeralStorage: 512, environment: [:], architecture: "x86_64",
      tracingMode: "PassThrough", tags: [:], code: StoredCode(sha256: code, id: code, size: 1),
      appliesSnapStart: snapStart)
  }

  private func settle(_ catalog: Catalog, _ version: FunctionVersion) throws {
    try catalog.setProgress(of: version) {
      $0.state = .active
      $0.updateStatus = .successful
    }
  }

  @Test func everythingIsThereAfterReopening() throws {
    let directory = try temporary()
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    let path = directory.appending("catalog.sqlite")
    var catalog = try Catalog(path: path)
    let created = try catalog.create(version("f", snapStart: true))
    #expect(created.state == .pending)
    try settle(catalog, created)
    let (one, isNew) = try catalog.publish("f", description: nil, codeSHA256: nil, revisionID: nil)
    #expect(isNew && one.version == "1" && one.state == .pending, "a version with a snapshot is not ready at once")
    #expect(try !catalog.publish("f", description: nil, codeSHA256: nil, revisionID: nil).isNew, "nothing has changed")
    _ = try catalog.createAlias(FunctionAlias(function: "f", name: "live", version: "1", description: "", weights: [:]))
    let before = catalog.list(allVersions: true)
    catalog = try Catalog(path: path)
    #expect(catalog.list(allVersions: true) == before)
    #expect(try catalog.resolve("f", qualifier: "live").version == "1")
  }

  @Test func numbersAreNeverGivenTwice() throws {
    let directory = try temporary()
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    let path = directory.appending("catalog.sqlite")
    var catalog = try Catalog(path: path)
    try settle(catalog, try catalog.create(version("f")))
    #expect(try catalog.publish("f", description: "1", codeSHA256: nil, revisionID: nil).version.version == "1")
    #expect(try catalog.delete("f", qualifier: "1").count == 1)
    catalog = try Catalog(path: path)
    #expect(try catalog.publish("f", description: "2", codeSHA256: nil, revisionID: nil).version.version == "2")
    #expect(throws: CatalogError.notFound("f:1")) { try catalog.resolve("f", qualifier: "1") }
  }

  @Test func updatesExcludeEachOther() throws {
    let directory = try temporary()
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    let catalog = try Catalog(path: directory.appending("catalog.sqlite"))
    let created = try catalog.create(version("f"))
    #expect(throws: CatalogError.self) { try catalog.update("f", revisionID: nil) { $0.timeout = 4 } }
    try settle(catalog, created)
    let (old, new) = try catalog.update("f", revisionID: nil) { $0.timeout = 5 }
    #expect(old.deploymentID != new.deploymentID && new.updateStatus == .inProgress)
    #expect(throws: CatalogError.self) { try catalog.publish("f", description: nil, codeSHA256: nil, revisionID: nil) }
    // Progress of what has been replaced meanwhile is not written over the new.
    try catalog.setProgress(of: old) { $0.state = .failed }
    #expect(try catalog.resolve("f", qualifier: nil).state == .active)
    try settle(catalog, new)
    #expect(throws: CatalogError.revisionMismatch) { try catalog.update("f", revisionID: "wrong") { _ in } }
    #expect(throws: CatalogError.conflict("Function already exist: f")) { try catalog.create(version("f")) }
  }

  @Test func versionsInUseAreKept() throws {
    let directory = try temporary()
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    let catalog = try Catalog(path: directory.appending("catalog.sqlite"))
    try settle(catalog, try catalog.create(version("f")))
    _ = try catalog.publish("f", description: nil, codeSHA256: nil, revisionID: nil)
    #expect(throws: CatalogError.notFound("f:9")) {
      try catalog.createAlias(FunctionAlias(function: "f", name: "x", version: "9", description: "", weights: [:]))
    }
    _ = try catalog.createAlias(FunctionAlias(function: "f", name: "live", version: "1", description: "", weights: [:]))
    #expect(throws: CatalogError.self) { try catalog.delete("f", qualifier: "1") }
    #expect(throws: CatalogError.self) { try catalog.delete("f", qualifier: "$LATEST") }
    #expect(try catalog.delete("f", qualifier: nil).count == 2)
    #expect(catalog.list(allVersions: true).isEmpty && catalog.codeInUse.isEmpty)
  }

  @Test func codeIsStoredOnceAndCollected() throws {
    let directory = try temporary()
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    let store = try CodeStore(directory: directory)
    // A zip with one stored file "a.py" of two bytes, written out by hand.
    let name = Array("a.py".utf8)
    let content = Array("x\n".utf8)
    let checksum: [UInt8] = [0x1f, 0x08, 0xea, 0x46]  // CRC-32 of the content
    func header(_ signature: [UInt8], _ middle: [UInt8]) -> [UInt8] { signature + middle }
    let common: [UInt8] = [0, 0, 0, 0, 0, 0, 0x21, 0] + checksum + [2, 0, 0, 0, 2, 0, 0, 0, 4, 0, 0, 0]
    let local = header([0x50, 0x4b, 3, 4], [10, 0]) + common + name + content
    let central =
      header([0x50, 0x4b, 1, 2], [10, 3, 10, 0]) + common + [0, 0, 0, 0, 0, 0, 0, 0, 0xa4, 0x81, 0, 0, 0, 0] + name
    let end: [UInt8] =
      [0x50, 0x4b, 5, 6, 0, 0, 0, 0, 1, 0, 1, 0, UInt8(central.count), 0, 0, 0, UInt8(local.count), 0, 0, 0, 0, 0]
    let zip = local + central + end
    let code = try store.store(zip)
    // Held until the catalog names it: a collection of another request's does not take it away.
    try store.collect { [] }
    #expect(try store.store(zip) == code)
    store.release(code)
    try store.collect { [] }
    #expect(
      FileManager.default.contents(atPath: store.directory(of: code.id).appending("a.py").string) == Data(content))
    store.release(code)
    try store.collect { [code.id] }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string).count == 2)
    try store.collect { [] }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string).isEmpty)
  }

  @Test func whatIsNoZipLeavesNothing() throws {
    let directory = try temporary()
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    let store = try CodeStore(directory: directory)
    for bytes in [Array("no zip".utf8), [0x50, 0x4b, 3, 4, 1, 2, 3], []] {
      #expect(throws: CodeError.self) { try store.store(bytes) }
    }
    #expect(try FileManager.default.contentsOfDirectory(atPath: directory.string).isEmpty)
  }
}
