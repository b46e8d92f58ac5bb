internal import Logging
internal import Runtimes
internal import SystemPackage

/// `thaw runtime list` and `install`.
public enum RuntimeReport {
  private static func library(_ data: DataDirectory, _ interpreters: [(String, String)]) -> RuntimeLibrary {
    RuntimeLibrary(
      directory: data.runtimes, bootstraps: ServerConfiguration.bootstraps(),
      interpreters: Dictionary(interpreters.map { ($0.0, FilePath($0.1)) }, uniquingKeysWith: { $1 }),
      logger: Logger(label: "thaw") { StreamLogHandler.standardError(label: $0) })
  }

  /// A line for each runtime.
  public static func list(_ data: DataDirectory, interpreters: [(String, String)]) async -> [String] {
    let found = await library(data, interpreters).list()
    return ["RUNTIME         STATE          INTERPRETER"]
      + found.map { runtime in
        let state = runtime.interpreter == nil ? "no interpreter" : runtime.isInstalled ? "installed" : "not installed"
        return runtime.identifier.padded(16) + state.padded(15) + (runtime.interpreter?.string ?? "-")
      }
  }

  /// Installs a runtime; answers what to tell the user.
  public static func install(
    _ runtime: String, _ data: DataDirectory, interpreters: [(String, String)]
  ) async throws(StartError) -> String {
    do throws(RuntimeBundleError) {
      let bundle = try await library(data, interpreters).bundle(runtime)
      return "\(bundle.identifier) is ready: \(bundle.summary)"
    } catch {
      throw StartError(error.message)
    }
  }
}

extension String {
  /// With spaces behind, up to `width`.
  func padded(_ width: Int) -> String { self + String(repeating: " ", count: max(1, width - count)) }
}
