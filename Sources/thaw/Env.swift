import ArgumentParser
import ThawServer

struct Env: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Print shell exports that lead AWS clients to the daemon.",
    discussion: "Use it as: eval \"$(thaw env)\"")

  @OptionGroup var data: DataDirectoryOption
  @Option(help: "The daemon's region.")
  var region = "us-east-1"

  func run() async throws {
    for line in try data.open().exports(region: region) { print(line) }
  }
}
