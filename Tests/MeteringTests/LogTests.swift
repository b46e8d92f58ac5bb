import Foundation
import Metering
import SystemPackage
import Testing

@Suite struct LogTests {
  private func withLog(_ body: (EnvironmentLog, () throws -> [String]) throws -> Void) throws {
    let directory = FilePath(FileManager.default.temporaryDirectory.path).appending("thaw-log-\(UUID().uuidString)")
    try FileManager.default.createDirectory(atPath: directory.string, withIntermediateDirectories: true)
    defer { try? FileManager.default.removeItem(atPath: directory.string) }
    let log = FunctionLog(directory: directory, function: "f", version: "$LATEST")
    try body(EnvironmentLog(log: log, environment: "env-1")) {
      try String(contentsOfFile: log.path.string, encoding: .utf8).split(separator: "\n").map(String.init)
    }
  }

  @Test func linesAreWholeAndStamped() throws {
    try withLog { log, lines in
      log.append(Array("one\ntw".utf8))
      log.append(Array("o\nthree".utf8))
      let whole = try lines()
      #expect(whole.map { String($0.dropFirst(25)) } == ["env-1 one", "env-1 two"])
      #expect(whole.allSatisfy { $0.prefix(24).hasSuffix("Z") })
      _ = log.endInvocation()
      let ended = try lines()
      #expect(ended.count == 3, "the end of an invocation ends the line")
    }
  }

  @Test func theTailIsTheLastFourKilobytesOfOneInvocation() throws {
    try withLog { log, _ in
      log.append(Array("before\n".utf8))
      log.beginInvocation()
      log.write("START")
      for number in 0..<1000 { log.append(Array("line \(number)\n".utf8)) }
      log.write("END")
      let tail = String(decoding: log.endInvocation(), as: UTF8.self)
      #expect(tail.utf8.count == 4096 && tail.hasSuffix("line 999\nEND\n") && !tail.contains("before"))
      log.beginInvocation()
      #expect(log.endInvocation().isEmpty)
    }
  }

  @Test func aLineWithoutEndTakesBoundedMemory() throws {
    try withLog { log, lines in
      for _ in 0..<40 { log.append([UInt8](repeating: 120, count: 10_000)) }
      let written = try lines()
      #expect(written.count == 1)
    }
  }

  @Test func reports() {
    var report = InvocationReport(
      requestID: "r", version: "1", duration: .microseconds(1234), memoryMegabytes: 128, usedMegabytes: 40)
    #expect(
      report.report
        == "REPORT RequestId: r\tDuration: 1.23 ms\tBilled Duration: 2 ms\tMemory Size: 128 MB\tMax Memory Used: 40 MB\t"
    )
    report.restore = (.milliseconds(5), .microseconds(4100))
    #expect(report.report.contains("Restore Duration: 5.00 ms\tBilled Restore Duration: 5 ms"))
    report.restore = nil
    report.initialization = .milliseconds(100)
    #expect(report.report.contains("Billed Duration: 102 ms") && report.report.contains("Init Duration: 100.00 ms"))
  }
}
