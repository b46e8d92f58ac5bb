import ArgumentParser
import ThawServer

struct Snapshots: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "List the snapshots of the running daemon: size, threads, age, last restore.")

  @OptionGroup var data: DataDirectoryOption
  @Option(help: "The daemon's region.")
  var region = "us-east-1"

  func run() async throws {
    for line in try await StatusReport.fetch(data.open(), region: region).table() { print(line) }
  }
}
