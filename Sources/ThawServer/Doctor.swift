internal import Foundation
internal import Linux
internal import Logging
internal import Runtimes
internal import SystemPackage

/// What this host has and lacks.
public enum Doctor {
  /// One thing that was looked at.
  public struct Finding: Sendable {
    /// How it stands.
    public enum Verdict: String, Sendable {
      case good = "ok"
      case warning = "warn"
      case missing = "MISSING"
    }
    public var subject: String
    public var verdict: Verdict
    public var detail: String
    /// What helps, if something is wrong.
    public var remedy: String?
  }

  /// Looks at everything.
  public static func examine(_ data: DataDirectory, _ configuration: ServerConfiguration) async -> [Finding] {
    var findings: [Finding] = []
    func add(_ subject: String, _ good: Bool, _ detail: String, _ remedy: String, _ verdict: Finding.Verdict = .missing)
    {
      findings.append(
        Finding(subject: subject, verdict: good ? .good : verdict, detail: detail, remedy: good ? nil : remedy))
    }
    let release = (try? Kernel.release()) ?? "?"
    let parts = release.split(whereSeparator: { !$0.isNumber }).compactMap { Int($0) }
    let isNew = parts.count > 1 && (parts[0], parts[1]) >= (6, 7)
    add("kernel", isNew, release, "Thaw needs Linux 6.7 or later on x86-64 (PAGEMAP_SCAN)")
    add("root", getuid() == 0, "user \(getuid())", "start thaw with sudo: it makes namespaces, mounts and cgroups")
    let status = try? ProcessFields(path: "/proc/self/status")
    let effective = status?.number("CapEff", radix: 16) ?? 0
    // linux/capability.h
    for (number, name) in [
      (21, "CAP_SYS_ADMIN"), (19, "CAP_SYS_PTRACE"), (12, "CAP_NET_ADMIN"), (40, "CAP_CHECKPOINT_RESTORE"),
    ] {
      add(
        name, effective & 1 << UInt64(number) != 0, "",
        "this process lacks the capability: run outside of containers that drop it")
    }
    for namespace in ["pid", "mnt", "net", "ipc", "uts", "time"] {
      let exists = FileManager.default.fileExists(atPath: "/proc/self/ns/\(namespace)")
      add(
        "\(namespace) namespaces", exists, "", "the kernel was built without them",
        namespace == "time" ? .warning : .missing)
    }
    let controllers = (try? ProcessFiles.text("/sys/fs/cgroup/cgroup.controllers")) ?? ""
    if controllers.contains("memory") {
      add("cgroups", true, "version 2: \(controllers.trimmingCharacters(in: .whitespacesAndNewlines))", "")
    } else {
      for controller in ["memory", "cpu", "pids"] {
        add(
          "cgroup \(controller)", FileManager.default.fileExists(atPath: "/sys/fs/cgroup/\(controller)"), "version 1",
          "mount the controller at /sys/fs/cgroup/\(controller); without it functions have no such limit", .warning)
      }
    }
    do {
      let pages = try PageMap(process: getpid())
      _ = try pages.regions(from: 0x10000, to: 0x20000)
      add("PAGEMAP_SCAN", true, "", "")
    } catch { add("PAGEMAP_SCAN", false, "\(error)", "Thaw needs Linux 6.7 or later") }
    for helper in ["thaw-jailer", "thaw-restorer"] {
      do throws(StartError) {
        add(helper, true, try ServerConfiguration.helper(helper).string, "")
      } catch { add(helper, false, "", error.description) }
    }
    let library = RuntimeLibrary(
      directory: data.runtimes, bootstraps: ServerConfiguration.bootstraps(),
      interpreters: configuration.interpreters, logger: .init(label: "doctor"))
    for runtime in await library.list() {
      let found = runtime.interpreter.map {
        "\($0)\(runtime.isInstalled ? ", installed" : ", to be installed at first need")"
      }
      add(
        runtime.identifier, runtime.interpreter != nil, found ?? "",
        runtime.remedy, .warning)
    }
    var space = statvfs()
    if statvfs(data.path.string, &space) == 0 {
      let gigabytes = Double(space.f_bavail) * Double(space.f_frsize) / 1e9
      add(
        "disk", gigabytes > 1, String(format: "%.1f GB free for %@", gigabytes, data.path.string),
        "make room, or choose another place with --data-dir", .warning)
    }
    return findings
  }
}

extension Doctor.Finding {
  /// For a terminal; the remedy stands below.
  public var line: String {
    "\(verdict.rawValue.padded(9))\(subject.padded(26))\(detail)" + (remedy.map { "\n         -> \($0)" } ?? "")
  }
}
