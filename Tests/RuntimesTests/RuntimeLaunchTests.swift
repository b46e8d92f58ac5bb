import Foundation
import Logging
import Runtimes
import SystemPackage
import Testing

/// Runtimes and functions made of empty files: what is started with what, without starting it.
@Suite struct RuntimeLaunchTests {
  /// A directory of one test, removed with it.
  private final class Place {
    let path = FilePath(FileManager.default.temporaryDirectory.path).appending("thaw-launch-\(UUID().uuidString)")

    init() throws { try FileManager.default.createDirectory(atPath: path.string, withIntermediateDirectories: true) }

    deinit { try? FileManager.default.removeItem(atPath: path.string) }

    func write(_ name: String, _ text: String = "", mode: Int = 0o644) throws {
      let file = path.appending(name)
      try FileManager.default.createDirectory(
        atPath: file.removingLastComponent().string, withIntermediateDirectories: true)
      try Data(text.utf8).write(to: URL(fileURLWithPath: file.string))
      try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: file.string)
    }
  }

  private func library(_ place: Place, _ interpreters: [String: FilePath] = [:]) -> RuntimeLibrary {
    RuntimeLibrary(
      directory: place.path.appending("runtimes"), bootstraps: place.path.appending("bootstraps"),
      interpreters: interpreters, logger: Logger(label: "test"))
  }

  private func function(_ place: Place, _ handler: String, _ environment: [String: String] = [:]) -> RuntimeFunction {
    RuntimeFunction(
      handler: handler, codeDirectory: place.path.appending("code"), environment: environment, memoryMegabytes: 1000)
  }

  // MARK: Custom runtimes

  @Test(arguments: ["provided.al2", "provided.al2023"]) func customRuntimes(_ runtime: String) async throws {
    let place = try Place()
    let bundle = try await library(place).bundle(runtime)
    try place.write("code/other")
    #expect {
      _ = try bundle.launch(function(place, "h"))
    } throws: {
      let error = $0 as? RuntimeLaunchError
      return error?.type == "Runtime.InvalidEntrypoint"
        && error?.message == "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]"
    }
    try place.write("code/bootstrap", "#!/bin/sh\n")
    #expect {
      _ = try bundle.launch(function(place, "h"))
    } throws: { "\($0)" == "fork/exec /var/task/bootstrap: permission denied" }
    try place.write("code/bootstrap", "#!/bin/sh\n", mode: 0o755)
    let launch = try bundle.launch(function(place, "h", ["COLOUR": "red"]))
    #expect(launch.arguments == ["/var/task/bootstrap"])
    #expect(launch.environment == ["COLOUR": "red"], "AWS_EXECUTION_ENV is not set for them")
  }

  // MARK: Java

  private func javaHome(_ place: Place, version: String) throws -> FilePath {
    try place.write("jdk/bin/java", mode: 0o755)
    try place.write("jdk/release", "IMPLEMENTOR=\"x\"\nJAVA_VERSION=\"\(version)\"\n")
    try place.write("bootstraps/java/thaw-java.jar")
    return place.path.appending("jdk")
  }

  @Test func javaOptionsGiveWayToTheUsers() async throws {
    let place = try Place()
    let bundle = try await library(place, ["java21": try javaHome(place, version: "21.0.2")]).bundle("java21")
    try place.write("code/A.class")
    let standard = try bundle.launch(function(place, "a.B::c")).arguments
    #expect(standard.contains("-XX:+UseSerialGC") && standard.contains("-XX:TieredStopAtLevel=1"))
    #expect(standard.contains("-XX:MaxHeapSize=870400k"), "85 % of MemorySize")
    #expect(standard.suffix(2) == ["thaw.runtime.Bootstrap", "a.B::c"])
    let own = try bundle.launch(
      function(
        place, "a.B",
        ["JAVA_TOOL_OPTIONS": "-XX:+UseG1GC  -Xmx64m -XX:-TieredCompilation -Djava.net.preferIPv4Stack=false"])
    ).arguments
    for option in ["Serial", "MaxHeapSize", "InitialHeapSize", "TieredStopAtLevel", "preferIPv4Stack"] {
      #expect(!own.contains { $0.contains(option) }, "\(option) is the user's")
    }
    #expect(own.contains("-XX:-UsePerfData"))
  }

  @Test func javaWithAWSRuntimeInterfaceClient() async throws {
    let place = try Place()
    let home = try javaHome(place, version: "17.0.9")
    let bundle = try await library(place, ["java17": home.appending("bin/java")]).bundle("java17")
    // Zips of one empty file each, as `zip -0` writes them.
    let client = "com/amazonaws/services/lambda/runtime/api/client/AWSLambda.class"
    try place.write("code/lib/a-library.jar", zip(entry: "com/example/Other.class"))
    try place.write("code/lib/no-jar.jar", "not a zip, whatever it says of \(client)")
    #expect(try bundle.launch(function(place, "a.B")).arguments.suffix(2) == ["thaw.runtime.Bootstrap", "a.B"])
    try place.write("code/lib/everything.jar", zip(entry: client))
    let launch = try bundle.launch(function(place, "a.B"))
    #expect(
      launch.arguments.suffix(2) == ["com.amazonaws.services.lambda.runtime.api.client.AWSLambda", "a.B"])
    #expect(launch.arguments.contains("-Dorg.crac.Core.Compat=com.amazonaws.services.lambda.crac"))
    #expect(launch.environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_java17")
  }

  /// PKWARE's APPNOTE.TXT: local header, directory header, end of the directory; all text below 128.
  private func zip(entry: String) -> String {
    func number(_ value: Int, _ bytes: Int) -> String {
      String(String.UnicodeScalarView((0..<bytes).map { Unicode.Scalar(UInt8(value >> (8 * $0) & 0x7f)) }))
    }
    let local = "PK\u{3}\u{4}" + number(0, 22) + number(entry.utf8.count, 2) + number(0, 2) + entry
    let header = "PK\u{1}\u{2}" + number(0, 24) + number(entry.utf8.count, 2) + number(0, 16) + entry
    return local + header + "PK\u{5}\u{6}" + number(0, 4) + number(1, 2) + number(1, 2)
      + number(header.utf8.count, 4) + number(local.utf8.count, 4) + number(0, 2)
  }

  @Test func javaOfAnotherReleaseIsRefused() async throws {
    let place = try Place()
    let home = try javaHome(place, version: "17.0.9")
    await #expect {
      _ = try await library(place, ["java21": home]).bundle("java21")
    } throws: { "\($0)".contains("no Java 21 was found") && "\($0)".contains("--runtime java21=") }
  }

  @Test func aMissingBootstrapIsNamed() async throws {
    let place = try Place()
    let home = try javaHome(place, version: "17.0.9")
    try FileManager.default.removeItem(atPath: place.path.appending("bootstraps").string)
    await #expect {
      _ = try await library(place, ["java17": home]).bundle("java17")
    } throws: { "\($0)".contains("thaw-java.jar") && "\($0)".contains("make build") }
  }

  // MARK: .NET

  private func dotnet(_ place: Place) async throws -> RuntimeBundle {
    try place.write("dotnet/dotnet", mode: 0o755)
    for version in ["6.0.30", "8.0.4", "8.0.11", "9.0.0"] {
      try place.write("dotnet/shared/Microsoft.NETCore.App/\(version)/.version")
    }
    try place.write("bootstraps/dotnet/Thaw.Dotnet.dll")
    return try await library(place, ["dotnet8": place.path.appending("dotnet/dotnet")]).bundle("dotnet8")
  }

  @Test func dotnetClassLibrariesAndExecutables() async throws {
    let place = try Place()
    let bundle = try await dotnet(place)
    #expect(bundle.summary.contains("8.0.11"), "the highest patch level of the version: \(bundle.summary)")
    #expect {
      _ = try bundle.launch(function(place, "App::A.B::C"))
    } throws: { "\($0)".contains("/var/task/App.dll is not in the function's archive") }
    try place.write("code/App.dll")
    let library = try bundle.launch(function(place, "App::A.B::C")).arguments
    #expect(library.suffix(2) == ["/var/runtime/Thaw.Dotnet.dll", "App::A.B::C"])
    #expect(library.contains("/var/runtime/Thaw.Dotnet.runtimeconfig.json"))
    let executable = try bundle.launch(function(place, "App")).arguments
    #expect(executable.suffix(3) == library.dropLast(2).suffix(2) + ["/var/task/App.dll"])
    try place.write("code/App.runtimeconfig.json", "{}")
    #expect(
      try bundle.launch(function(place, "App")).arguments.dropFirst()
        == ["exec", "--runtimeconfig", "/var/task/App.runtimeconfig.json", "/var/task/App.dll"])
    #expect(
      try bundle.launch(function(place, "App::A.B::C")).arguments.contains("/var/task/App.runtimeconfig.json"))
  }

  @Test func dotnetSettingsGiveWayToTheUsers() async throws {
    let place = try Place()
    let bundle = try await dotnet(place)
    try place.write("code/App.dll")
    let environment = try bundle.launch(
      function(place, "App", ["DOTNET_TieredPGO": "1", "DOTNET_GCHeapHardLimit": "1000000"])
    ).environment
    #expect(environment["DOTNET_TieredPGO"] == "1")
    #expect(environment["DOTNET_GCHeapHardLimit"] == "1000000")
    #expect(environment["DOTNET_EnableDiagnostics"] == "0")
    let standard = try bundle.launch(function(place, "App")).environment
    #expect(standard["DOTNET_GCHeapHardLimit"] == "35200000", "85 % of MemorySize, in hexadecimal")
    #expect(environment["AWS_EXECUTION_ENV"] == "AWS_Lambda_dotnet8")
  }
}
