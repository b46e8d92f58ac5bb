internal import Foundation
public import Logging
internal import Runtimes
public import SystemPackage

/// How a daemon runs.
public struct ServerConfiguration: Sendable {
  /// Where it listens if nothing else is said.
  public static let standardListen = "127.0.0.1:4600"

  /// `HOST:PORT`; port 0 takes a free one.
  public var listen = ServerConfiguration.standardListen
  /// See ``DataDirectory``; nil for the standard place.
  public var dataDirectory: String?
  /// The region whose requests are taken.
  public var region = "us-east-1"
  /// Twelve digits.
  public var account = "000000000000"
  /// Most invocations at a time.
  public var concurrencyLimit = 1000
  /// Seconds that an environment without work is kept.
  public var idleSeconds = 600
  /// Most environments without work; 0: none is ever used twice.
  public var idleLimit = 1000
  /// Blank sandboxes that are kept ready for each version.
  public var poolTarget = 4
  /// Most armed environments for each version; 0: none.
  public var armedLimit = 2
  /// Most memory that armed environments together may have copied ahead, in MB.
  public var armedMegabytes = 1024
  /// Days without an invocation after which a version with a snapshot becomes Inactive.
  public var inactiveDays = 14.0
  /// Interpreters by runtime.
  public var interpreters: [String: FilePath] = [:]
  /// How much is logged.
  public var logLevel: Logger.Level = .info

  /// The standard configuration.
  public init() {}

  /// Whether Thaw can run that runtime where its interpreter is there.
  public static func knows(runtime: String) -> Bool { RuntimeLibrary.knows(runtime) }

  /// Where Thaw's own bootstraps are: `bootstraps` beside the helper programs. It need not exist: whoever needs one of
  /// them says what is missing.
  static func bootstraps() -> FilePath {
    ((try? helper("thaw-jailer")) ?? "/nonexistent/thaw-jailer").removingLastComponent().appending("bootstraps")
  }

  /// A helper program beside this one, or in `$THAW_LIBEXEC`.
  static func helper(_ name: String) throws(StartError) -> FilePath {
    var places: [FilePath] = []
    if let directory = ProcessInfo.processInfo.environment["THAW_LIBEXEC"] { places.append(FilePath(directory)) }
    if let own = try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/exe") {
      places.append(FilePath(own).removingLastComponent())
    }
    for place in places where FileManager.default.isExecutableFile(atPath: place.appending(name).string) {
      return place.appending(name)
    }
    throw StartError(
      "\(name) is missing beside \(places.last?.appending("thaw").string ?? "thaw"); build it with `make build`, or name its directory in THAW_LIBEXEC"
    )
  }

  /// Host and port of ``listen``.
  func address() throws(StartError) -> (host: String, port: Int) {
    guard let colon = listen.lastIndex(of: ":"), let port = Int(listen[listen.index(after: colon)...]),
      (0...65535).contains(port), colon != listen.startIndex
    else { throw StartError("--listen wants HOST:PORT, such as 127.0.0.1:4600, not '\(listen)'") }
    return (String(listen[..<colon]).trimmingCharacters(in: CharacterSet(charactersIn: "[]")), port)
  }
}
