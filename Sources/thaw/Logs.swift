import ArgumentParser
import ThawServer

struct Logs: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Print the logs of a function.")

  @Argument(help: "The function's name.") var name: String
  @Flag(help: "Go on as lines come, until interrupted.") var follow = false
  @OptionGroup var data: DataDirectoryOption

  func run() async throws {
    try await LogReader.read(data.open(), function: name, follow: follow) { print($0) }
  }
}
