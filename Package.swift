// swift-tools-version: 6.2
import PackageDescription

let package = Package(
  name: "thaw",
  products: [
    .executable(name: "thaw", targets: ["thaw"])
  ],
  dependencies: [
    .package(url: "https://github.com/apple/swift-argument-parser", exact: "1.8.2"),
    .package(url: "https://github.com/apple/swift-crypto", exact: "4.5.2"),
    .package(url: "https://github.com/apple/swift-http-types", exact: "1.8.0"),
    .package(url: "https://github.com/apple/swift-log", exact: "1.16.2"),
    .package(url: "https://github.com/apple/swift-nio", exact: "2.101.2"),
    .package(url: "https://github.com/apple/swift-system", exact: "1.8.1"),
    .package(url: "https://github.com/groue/GRDB.swift", exact: "7.10.0"),
    .package(url: "https://github.com/hummingbird-project/hummingbird", exact: "2.28.1"),
    .package(url: "https://github.com/swift-server/swift-service-lifecycle", exact: "2.13.0"),
    .package(url: "https://github.com/swiftlang/swift-subprocess", exact: "1.0.2"),
  ],
  targets: [
    // The kernel.
    .target(name: "CLinux"),
    .target(name: "Linux", dependencies: ["CLinux", .system]),

    // The engine: knows nothing of Lambda.
    .systemLibrary(name: "CXXHash", pkgConfig: "libxxhash", providers: [.apt(["libxxhash-dev"])]),
    .target(name: "SnapshotFormat", dependencies: ["CXXHash", .crypto]),
    // What the daemon and the jailer (C) say to each other.
    .target(name: "CJailerProtocol"),
    .target(name: "Sandbox", dependencies: ["CJailerProtocol", "Linux", .system, .log]),
    .target(name: "Checkpoint", dependencies: ["Linux", "SnapshotFormat", .system, .log, .crypto]),
    .target(
      name: "Restore",
      dependencies: ["CRestoreProgram", "Linux", "Sandbox", "SnapshotFormat", .system, .log, .crypto]),
    // The binary layout of restore programs: one definition for the compiler (Swift) and the restorer (C).
    .target(name: "CRestoreProgram"),
    .target(name: "SnapshotStore", dependencies: ["Linux", .system]),

    // The platform.
    .target(
      name: "RuntimeAPI",
      dependencies: [
        .nioCore, .nioPosix, .nioHTTP1, .product(name: "NIOConcurrencyHelpers", package: "swift-nio"),
      ]),
    .target(name: "Runtimes", dependencies: ["Linux", .system, .log, .subprocess]),
    .target(name: "Metering", dependencies: [.system, .log]),
    .systemLibrary(
      name: "CArchive", pkgConfig: "libarchive", providers: [.apt(["libarchive-dev"])]),
    .target(
      name: "Catalog",
      dependencies: ["CArchive", "Linux", .system, .crypto, .product(name: "GRDB", package: "GRDB.swift")]),
    .target(
      name: "Fleet",
      dependencies: [
        "Checkpoint", "Linux", "Metering", "Restore", "RuntimeAPI", "Runtimes", "Sandbox", "SnapshotFormat",
        "SnapshotStore", .system, .log, .nioCore, .nioPosix,
      ]),
    .target(
      name: "LambdaAPI",
      dependencies: [
        "Catalog", "Fleet", "Metering", .system, .log, .crypto, .nioCore,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HTTPTypes", package: "swift-http-types"),
      ]),
    .target(
      name: "ThawServer",
      dependencies: [
        "Catalog", "Fleet", "LambdaAPI", "Linux", "Metering", "Restore", "Runtimes", "Sandbox", "SnapshotFormat",
        "SnapshotStore", .system, .log, .crypto,
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "ServiceLifecycle", package: "swift-service-lifecycle"),
        .product(name: "UnixSignals", package: "swift-service-lifecycle"),
        .nioPosix, .nioCore,
      ]),
    .executableTarget(
      name: "thaw",
      dependencies: [
        "ThawServer", .system, .log,
        .product(name: "ArgumentParser", package: "swift-argument-parser"),
      ]),

    // Where programs are frozen and restored: for the engine's tests and its benchmark. The engine alone, nothing of Lambda.
    .target(
      name: "EngineHarness",
      dependencies: ["Checkpoint", "Linux", "Restore", "Sandbox", "SnapshotFormat", .system, .log],
      path: "Integration/harness"),
    .executableTarget(
      name: "engine-measurement",
      dependencies: ["Checkpoint", "EngineHarness", "Restore", "Sandbox", "SnapshotFormat", .system],
      path: "Benchmarks/engine"),

    // Tests: one per module, no root needed.
    .testTarget(name: "SnapshotFormatTests", dependencies: ["Restore", "SnapshotFormat"]),
    .testTarget(name: "CheckpointTests", dependencies: ["Checkpoint", "Linux", "SnapshotFormat", .system]),
    // Real processes, snapshotted and restored; needs root, and thaw-jailer and thaw-restorer beside the tests.
    .testTarget(
      name: "EngineTests",
      dependencies: [
        "Checkpoint", "EngineHarness", "Linux", "Restore", "Sandbox", "SnapshotFormat", .system, .log,
      ], path: "Integration", exclude: ["harness", "programs"]),
    // Real sandboxes; needs root and thaw-jailer, but for the tests of the sockets.
    .testTarget(name: "SandboxTests", dependencies: ["Linux", "Sandbox", .system, .log]),
    .testTarget(name: "FleetTests", dependencies: ["Fleet"]),
    .testTarget(name: "CatalogTests", dependencies: ["Catalog", .system]),
    .testTarget(
      name: "LambdaAPITests",
      dependencies: [
        "LambdaAPI", "Catalog", "Fleet", .system, .log, .nioCore,
        .product(name: "HTTPTypes", package: "swift-http-types"),
        .product(name: "Hummingbird", package: "hummingbird"),
        .product(name: "HummingbirdTesting", package: "hummingbird"),
      ]),
    .testTarget(name: "RuntimeAPITests", dependencies: ["RuntimeAPI", .nioCore, .nioPosix]),
    .testTarget(name: "RuntimesTests", dependencies: ["Runtimes", .system, .log]),
    .testTarget(name: "MeteringTests", dependencies: ["Metering", .system]),
    .testTarget(name: "RestoreTests", dependencies: ["CRestoreProgram", "Restore", "SnapshotFormat"]),
  ],
  swiftLanguageModes: [.v6]
)

extension Target.Dependency {
  static var crypto: Self { .product(name: "Crypto", package: "swift-crypto") }
  static var log: Self { .product(name: "Logging", package: "swift-log") }
  static var nioCore: Self { .product(name: "NIOCore", package: "swift-nio") }
  static var nioHTTP1: Self { .product(name: "NIOHTTP1", package: "swift-nio") }
  static var nioPosix: Self { .product(name: "NIOPosix", package: "swift-nio") }
  static var subprocess: Self { .product(name: "Subprocess", package: "swift-subprocess") }
  static var system: Self { .product(name: "SystemPackage", package: "swift-system") }
}

// One set of strict settings for every target of ours.
for target in package.targets where target.type != .system {
  var settings = target.swiftSettings ?? []
  settings += [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .treatAllWarnings(as: .error),
  ]
  target.swiftSettings = settings
}
