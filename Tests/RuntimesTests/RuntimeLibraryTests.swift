import Foundation
import Logging
import Runtimes
import SystemPackage
import Testing

@Suite struct RuntimeLibraryTests {
  private func library(_ interpreters: [String: FilePath] = [:]) -> RuntimeLibrary {
    RuntimeLibrary(
      directory: FilePath(FileManager.default.temporaryDirectory.path).appending("thaw-none-\(UUID().uuidString)"),
      bootstraps: "/nonexistent", interpreters: interpreters, logger: Logger(label: "test"))
  }

  @Test func unknownRuntimesAreNamed() async {
    await #expect { _ = try await library().bundle("ruby3.3") } throws: { "\($0)".contains("python3.12") }
  }

  @Test func aMissingInterpreterNamesTheRemedy() async {
    await #expect {
      _ = try await library(["python3.12": "/nowhere/python3.12"]).bundle("python3.12")
    } throws: { "\($0)".contains("no Python 3.12 was found") && "\($0)".contains("--runtime python3.12=") }
  }

  @Test func anInterpreterOfAnotherVersionIsRefused() async {
    await #expect {
      _ = try await library(["python3.12": "/bin/echo"]).bundle("python3.12")
    } throws: { "\($0)".contains("/bin/echo") }
  }
}
