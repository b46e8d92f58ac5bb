internal import Glibc
internal import Linux
internal import Logging
internal import Subprocess
internal import SystemPackage

/// What runtimes need of the machine they are looked for on.
struct RuntimeHost: Sendable {
  /// `runtimes/` of the data directory.
  var directory: FilePath
  /// Where Thaw's own bootstraps are, one directory for each family: `java`, `dotnet`.
  var bootstraps: FilePath
  /// Interpreters by runtime identifier that come before those that are found.
  var interpreters: [String: FilePath]
  var logger: Logger

  /// A variable of this process.
  static func variable(_ name: String) -> String? { getenv(name).map { String(cString: $0) } }

  static func exists(_ path: FilePath) -> Bool { (try? FileStatus(path: path.string)) != nil }

  static func isExecutable(_ path: FilePath) -> Bool { access(path.string, X_OK) == 0 }

  /// What is in a directory; empty if it cannot be read.
  static func names(in directory: FilePath) -> [String] { (try? DirectoryCopy.names(in: directory.string)) ?? [] }

  /// The path without symbolic links.
  static func resolved(_ path: FilePath) -> FilePath? {
    guard let real = realpath(path.string, nil) else { return nil }
    defer { free(real) }
    return FilePath(String(cString: real))
  }

  /// The text of a small file.
  static func text(_ path: FilePath) -> String? { try? ProcessFiles.text(path.string) }

  /// A directory of Thaw's own bootstrap for a family.
  ///
  /// - Throws: the remedy, if it was not built.
  func bootstrap(_ family: String, file: String) throws(RuntimeBundleError) -> FilePath {
    let directory = bootstraps.appending(family)
    guard RuntimeHost.exists(directory.appending(file)) else {
      throw RuntimeBundleError(
        message: "Thaw's bootstrap for \(family) is missing (\(directory.appending(file))); build it with `make build`")
    }
    return directory
  }

  /// Tells the daemon's log of something that takes a while.
  func announce(_ text: String) { logger.info("\(text)") }

  /// Runs a program and answers what it printed; the error is its last line that says something.
  func run(_ path: FilePath, _ arguments: [String]) async -> Result<String, RuntimeBundleError> {
    do {
      let result = try await Subprocess.run(
        .path(path), arguments: Arguments(arguments), output: .string(limit: 1 << 20), error: .string(limit: 1 << 20))
      if case .exited(0) = result.terminationStatus { return .success(result.standardOutput) }
      let lines = result.standardError.split(separator: "\n")
      let text = lines.filter { $0.contains("ERROR") }.last ?? lines.last ?? "no message"
      return .failure(RuntimeBundleError(message: "\(result.terminationStatus): \(text)"))
    } catch {
      return .failure(RuntimeBundleError(message: "\(error)"))
    }
  }

  /// Makes `target` by filling a directory beside it and renaming that: it is there whole or not at all.
  func install(
    _ target: FilePath, fill: (FilePath) async throws(RuntimeBundleError) -> Void
  ) async throws(RuntimeBundleError) {
    if RuntimeHost.exists(target) { return }
    let staging = directory.appending(".staging-\(target.lastComponent?.string ?? "runtime")-\(getpid())")
    do {
      try DirectoryCopy.remove(staging.string)
      mkdir(directory.string, 0o755)
      guard mkdir(staging.string, 0o755) == 0 else {
        throw SystemCallError(call: "mkdir", subject: staging.string, errno: Errno(rawValue: errno))
      }
    } catch { throw RuntimeBundleError(message: "\(error)") }
    do throws(RuntimeBundleError) {
      try await fill(staging)
    } catch {
      try? DirectoryCopy.remove(staging.string)
      throw error
    }
    guard rename(staging.string, target.string) == 0 || errno == ENOTEMPTY || errno == EEXIST else {
      throw RuntimeBundleError(message: "rename \(staging): \(Errno(rawValue: errno))")
    }
    logger.info("\(target) is installed")
  }
}
