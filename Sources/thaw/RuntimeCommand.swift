import ArgumentParser
import SystemPackage
import ThawServer

struct RuntimeCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "runtime", abstract: "Runtimes: which there are, and installing one ahead of its first use.",
    subcommands: [List.self, Install.self])

  struct List: AsyncParsableCommand {
    static let configuration = CommandConfiguration(abstract: "List runtimes and their interpreters.")
    @OptionGroup var data: DataDirectoryOption
    @OptionGroup var interpreters: InterpreterOption

    func run() async throws {
      for line in try await RuntimeReport.list(data.open(), interpreters: interpreters.parsed()) { print(line) }
    }
  }

  struct Install: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
      abstract: "Install what a runtime needs (from PyPI) into the data directory.")
    @Argument(help: "Such as python3.12 or dotnet8.") var runtime: String
    @OptionGroup var data: DataDirectoryOption
    @OptionGroup var interpreters: InterpreterOption

    func run() async throws {
      print(try await RuntimeReport.install(runtime, data.open(), interpreters: interpreters.parsed()))
    }
  }
}
