public import SystemPackage

/// What a runtime needs to know of a function to start it.
public struct RuntimeFunction: Sendable {
  /// The handler, in the notation of its runtime.
  public var handler: String
  /// The unpacked code on this host, shown at /var/task.
  public var codeDirectory: FilePath
  /// The user's environment variables.
  public var environment: [String: String]
  /// `MemorySize`, in MB.
  public var memoryMegabytes: Int

  /// Describes a function.
  public init(handler: String, codeDirectory: FilePath, environment: [String: String], memoryMegabytes: Int) {
    self.handler = handler
    self.codeDirectory = codeDirectory
    self.environment = environment
    self.memoryMegabytes = memoryMegabytes
  }
}

/// How the process of one function is started.
public struct RuntimeLaunch: Sendable {
  /// The program, an absolute path inside, and its arguments.
  public var arguments: [String]
  /// The runtime's variables and the user's, put together: the user's win where the runtime does not join the two.
  public var environment: [String: String]
}

/// Why a function cannot be started by its runtime: what Lambda reports of it, known before anything runs.
public struct RuntimeLaunchError: Error, Sendable, CustomStringConvertible {
  /// Lambda's type, such as `Runtime.InvalidEntrypoint`.
  public var type: String
  /// Lambda's text.
  public var message: String
  public var description: String { message }
}

/// A runtime that is ready to be started: what must be visible in a sandbox, and how a function is started.
public struct RuntimeBundle: Sendable {
  /// Lambda's identifier, such as `python3.12`.
  public var identifier: String
  /// Host directories to show inside, read-only.
  public var mounts: [(source: FilePath, target: FilePath)]
  /// What runs functions, for a person: `Python 3.12 at /usr/bin/python3.12`.
  public var summary: String
  /// Makes the command of a function.
  var plan: @Sendable (RuntimeFunction) throws(RuntimeLaunchError) -> RuntimeLaunch

  /// How a function is started.
  ///
  /// - Throws: what is wrong with the function's code or handler.
  public func launch(_ function: RuntimeFunction) throws(RuntimeLaunchError) -> RuntimeLaunch {
    var launch = try plan(function)
    launch.environment = function.environment.merging(launch.environment) { $1 }
    return launch
  }
}

/// Why a runtime cannot be used here.
public struct RuntimeBundleError: Error, Sendable, CustomStringConvertible {
  /// What is missing, and the remedy.
  public var message: String
  public var description: String { message }
}
