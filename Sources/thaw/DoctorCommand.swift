import ArgumentParser
import SystemPackage
import ThawServer

struct DoctorCommand: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "doctor", abstract: "Say what this host has and lacks, with remedies.")

  @OptionGroup var data: DataDirectoryOption
  @OptionGroup var interpreters: InterpreterOption

  func run() async throws {
    var server = ServerConfiguration()
    for (runtime, path) in try interpreters.parsed() { server.interpreters[runtime] = FilePath(path) }
    let findings = await Doctor.examine(try data.open(), server)
    for finding in findings { print(finding.line) }
    if findings.contains(where: { $0.verdict == .missing }) { throw ExitCode(1) }
  }
}
