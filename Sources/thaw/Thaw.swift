import ArgumentParser
import ThawServer

@main
struct Thaw: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "thaw",
    abstract: "Lambda functions that start from a snapshot, on your own machine.",
    discussion: """
      Start the daemon with `thaw serve`, take over its address and keys with `eval "$(thaw env)"`, and use the AWS CLI or an SDK
      as with AWS: create a function with SnapStart ApplyOn=PublishedVersions, publish a version, invoke it.
      """,
    version: "0.1.0",
    subcommands: [Serve.self, Env.self, RuntimeCommand.self, Snapshots.self, Logs.self, DoctorCommand.self])
}

/// The option that most commands have.
struct DataDirectoryOption: ParsableArguments {
  @Option(
    help:
      "Where functions, snapshots, runtimes and logs are kept (default: $XDG_DATA_HOME/thaw or ~/.local/share/thaw).")
  var dataDir: String?

  func open() throws -> DataDirectory { try DataDirectory(dataDir) }
}

/// Interpreters named on the command line.
struct InterpreterOption: ParsableArguments {
  @Option(
    name: .customLong("runtime"),
    help: ArgumentHelp(
      "What runs a runtime's functions, instead of what is found: an interpreter, a Java home, a dotnet; may be repeated.",
      valueName: "RUNTIME=PATH"))
  var interpreters: [String] = []

  func parsed() throws -> [(String, String)] {
    try interpreters.map { text in
      let parts = text.split(separator: "=", maxSplits: 1).map(String.init)
      guard parts.count == 2 else {
        throw ValidationError(
          "--runtime wants RUNTIME=PATH, such as python3.12=/usr/bin/python3.12 or java21=/opt/jdk-21, not '\(text)'")
      }
      guard ServerConfiguration.knows(runtime: parts[0]) else {
        throw ValidationError("--runtime \(text): there is no runtime \(parts[0]); see `thaw runtime list`")
      }
      return (parts[0], parts[1])
    }
  }
}
