import ArgumentParser
import Logging
import SystemPackage
import ThawServer

struct Serve: AsyncParsableCommand {
  static let configuration = CommandConfiguration(abstract: "Run the daemon until SIGTERM or SIGINT.")

  @Option(help: "Where to listen, HOST:PORT; port 0 takes a free one.")
  var listen = ServerConfiguration.standardListen
  @OptionGroup var data: DataDirectoryOption
  @OptionGroup var interpreters: InterpreterOption
  @Option(help: "The region whose requests are taken.")
  var region = "us-east-1"
  @Option(help: "Most invocations at a time; more are answered with TooManyRequestsException.")
  var concurrency = 1000
  @Option(help: "Seconds that an environment without work is kept.")
  var idleSeconds = 600
  @Option(help: "Most environments without work that are kept; 0 gives every invocation a fresh one.")
  var maxIdle = 1000
  @Option(help: "Blank sandboxes kept ready for each version.")
  var pool = 4
  @Option(
    help:
      "Armed environments for each version that was used lately: wholly restored, waiting before the first instruction of its code; 0 for none."
  )
  var armed = 2
  @Option(help: "Most memory that armed environments together copy ahead, in MB.")
  var armedMemory = 1024
  @Option(help: "Days without an invocation after which a version becomes Inactive and its snapshot is deleted.")
  var inactiveDays = 14.0
  @Option(help: "trace, debug, info, notice, warning, error or critical.")
  var logLevel = "info"

  func run() async throws {
    var server = ServerConfiguration()
    server.listen = listen
    server.dataDirectory = data.dataDir
    server.region = region
    server.concurrencyLimit = concurrency
    server.idleSeconds = idleSeconds
    server.idleLimit = maxIdle
    server.poolTarget = pool
    guard inactiveDays > 0, inactiveDays <= 36500 else {
      throw ValidationError("--inactive-days wants a number above 0 and at most 36500")
    }
    server.inactiveDays = inactiveDays
    server.armedLimit = armed
    server.armedMegabytes = armedMemory
    guard let level = Logger.Level(rawValue: logLevel) else {
      throw ValidationError("--log-level wants one of trace, debug, info, notice, warning, error and critical")
    }
    server.logLevel = level
    for (runtime, path) in try interpreters.parsed() { server.interpreters[runtime] = FilePath(path) }
    try await ThawServer.run(server)
  }
}
