internal import CRestoreProgram
internal import Dispatch
internal import Linux
public import Logging
public import Sandbox
public import SnapshotFormat
internal import Synchronization
public import SystemPackage

/// A process that holds a snapshot's memory and clones itself into blank sandboxes.
///
/// Orders go to it as one message each; its clones report over the same socket (restore_program.h).
public final class Template: Sendable {
  /// The manifest it was built from.
  public let manifest: SnapshotManifest
  /// The template's process id.
  public let processID: Int32

  /// A clone on its way to ARMED or DONE: its own word, which tells its process id too, is enough. The template's word
  /// that it cloned itself may come before or after that.
  private struct Pending: Sendable {
    let sandbox: Sandbox
    let continuation: CheckedContinuation<Result<RestoredProcess, RestoreError>, Never>
    /// Once it belongs to the sandbox.
    var processID: Int32?
  }
  private struct State: Sendable {
    var isOpen = true
    var nextID: UInt32 = 1
    var pending: [UInt32: Pending] = [:]
    var workingSet: WorkingSet?
    /// The clones that map pages of files one by one, until the working set is known or they end; and by what, when they
    /// have sent it.
    var watches: [UInt32: FileDescriptor?] = [:]

    mutating func unwatch(_ id: UInt32) { try? watches.removeValue(forKey: id)??.close() }

    mutating func unwatch() {
      for id in watches.keys { unwatch(id) }
    }
  }
  private let state = Mutex(State())
  private let socket: SeqpacketSocket
  private let jailer: Jailer

  /// Verifies the snapshot in `directory` (checksums, then kernel, CPU and mapped files), compiles it and brings
  /// its memory back.
  ///
  /// - Throws: `RestoreError` with code `.corrupt` or `.incompatible` when the snapshot must be built anew.
  public static func build(
    directory: FilePath, jailer: Jailer, specification: SandboxSpecification, restorer: FilePath, logger: Logger
  ) async throws(RestoreError) -> Template {
    let clock = ContinuousClock()
    let start = clock.now
    let verified = await withCheckedContinuation { continuation in
      DispatchQueue.global().async {
        continuation.resume(returning: Result { try SnapshotFiles(verifying: directory) })
      }
    }
    let files: SnapshotFiles
    do { files = try verified.get() } catch { throw RestoreError(wrapping: error) }
    defer { try? files.image.close() }
    let checked = clock.now
    let workingSet = WorkingSet(recordedIn: directory, for: files.manifest, logger)
    // What the disk is told to read ahead is left out where there is no room for it.
    let advised = try? ProgramCompiler.compile(files.manifest, workingSet: workingSet)
    let program = if let advised { advised } else { try ProgramCompiler.compile(files.manifest) }
    let template = try await launch(files, program, jailer: jailer, specification: specification, restorer: restorer)
    if let workingSet { template.use(workingSet) } else { template.watch() }
    logger.debug(
      "template ready",
      metadata: [
        "snapshot": "\(directory.string)", "pid": "\(template.processID)", "verify": "\(checked - start)",
        "build": "\(clock.now - checked)", "operations": "\(program.counts.memory)",
      ])
    return template
  }

  private static func launch(
    _ files: borrowing SnapshotFiles, _ program: RestoreProgram, jailer: Jailer, specification: SandboxSpecification,
    restorer: FilePath
  ) async throws(RestoreError) -> Template {
    let (ready, announce) = AsyncStream.makeStream(of: restore_report?.self)
    let socket: SeqpacketSocket
    let processID: Int32
    do {
      let pair = try SeqpacketSocket.pair()
      socket = pair.own
      defer { try? pair.other.close() }
      let table = try Kernel.memoryFile(name: "thaw-program")
      defer { try? table.close() }
      try table.writeAll(program.bytes)
      processID = try await jailer.startTemplate(
        executable: restorer, specification: specification, descriptors: [pair.other, table, files.image])
    } catch { throw RestoreError(wrapping: error) }
    let template = Template(manifest: files.manifest, processID: processID, socket: socket, jailer: jailer)
    socket.readMessages(maximum: 512) { [weak template] message in
      let report = message.flatMap { restore_report(message: $0.bytes) }
      if report == nil || report?.id == 0 { announce.yield(report) }
      if let report, let template, let message {
        template.receive(report, message)
      } else {
        for descriptor in message?.descriptors ?? [] { try? descriptor.close() }
        template?.lost()
      }
    }
    do throws(RestoreError) {
      guard let first = await ready.first(where: { _ in true }) else {
        throw RestoreError(code: .failed, message: "cancelled while the template was built")
      }
      guard let report = first else {
        throw RestoreError(code: .failed, message: "the restorer ended while it brought the memory back")
      }
      guard report.kind == RESTORE_REPORT_TEMPLATE.rawValue else { throw RestoreError(report) }
      try files.manifest.compatibility.checkFiles(root: "/proc/\(processID)/root")
      // Clones that wait hold the socket's other end open: its closing alone does not tell the template's end.
      Task { [weak template] in
        await jailer.waitForTemplate(processID: processID)
        template?.lost()
      }
    } catch {
      await template.close()
      throw error
    }
    return template
  }

  private init(manifest: SnapshotManifest, processID: Int32, socket: SeqpacketSocket, jailer: Jailer) {
    self.manifest = manifest
    self.processID = processID
    self.socket = socket
    self.jailer = jailer
  }

  /// The working set that clones have ahead of need; nil if none was recorded yet.
  public var workingSet: WorkingSet? { state.withLock { $0.workingSet } }

  /// Lets every later clone have these pages before anything else happens in it.
  ///
  /// - Returns: false if the template is gone.
  @discardableResult public func use(_ workingSet: WorkingSet) -> Bool {
    // Without a page of its own a mapping's read pages are of no use to clones.
    let room = WorkingSet.maximumRanges - workingSet.written.count
    let own = workingSet.pagesToOwn(of: manifest).prefix(room)
    let read = workingSet.read.prefix(room - own.count)
    guard send([workingSet.written, Array(read), Array(own), []]) else { return false }
    return state.withLock { state in
      if state.isOpen { state.workingSet = workingSet }
      state.unwatch()
      return state.isOpen
    }
  }

  /// Has clones map pages of files one by one, as long as no working set is known: what they have mapped then is what
  /// they use.
  private func watch() {
    let watched = manifest.process.mappings.filter(\.canBeMappedAhead)
      .prefix(WorkingSet.maximumRanges).map { WorkingSet.Range(start: $0.start, length: $0.end - $0.start) }
    _ = send([[], [], [], watched])
  }

  /// Tells the template what to do with ranges of pages, a list for each enum restore_use.
  private func send(_ ranges: [[WorkingSet.Range]]) -> Bool {
    var order = restore_order()
    order.flags = UInt32(RESTORE_ORDER_WORKING_SET)
    let counts = ranges.map { UInt32($0.count) }
    order.ranges = (counts[0], counts[1], counts[2], counts[3])
    var message = withUnsafeBytes(of: order) { Array($0) }
    for range in ranges.joined() {
      withUnsafeBytes(of: restore_range(start: range.start, length: range.length)) { message.append(contentsOf: $0) }
    }
    return (try? socket.send(message)) != nil
  }

  /// Whether it can be cloned: it is neither closed nor has it ended.
  public var isOpen: Bool { state.withLock { $0.isOpen } }

  /// Brings the snapshot back in a blank sandbox. Many may be under way at once.
  public func restore(into sandbox: Sandbox) async throws(RestoreError) -> RestoredProcess {
    try await order(into: sandbox, release: nil).process
  }

  /// Brings the snapshot back in a blank sandbox but for the first instruction of user code: that waits for
  /// ``ArmedProcess/release()``. The working set's pages are the process's own by then.
  public func arm(into sandbox: Sandbox) async throws(RestoreError) -> ArmedProcess {
    let release: FileDescriptor
    do { release = try Kernel.eventDescriptor() } catch { throw RestoreError(wrapping: error) }
    do {
      let (id, process) = try await order(into: sandbox, release: release)
      return ArmedProcess(id: id, processID: process.processID, template: self, sandbox: sandbox, descriptor: release)
    } catch {
      try? release.close()
      throw error
    }
  }

  private func order(
    into sandbox: Sandbox, release: FileDescriptor?
  ) async throws(RestoreError) -> (id: UInt32, process: RestoredProcess) {
    let supplied = SuppliedRole.allCases.map { role in
      switch role {
      case .output: sandbox.outputWriter
      case .connection: sandbox.connection
      }
    }
    let (id, isWatched) = state.withLock { state in
      defer { state.nextID = state.nextID == .max ? 1 : state.nextID + 1 }
      // One of the first will do.
      let isWatched = state.workingSet == nil && state.watches.count < 4
      if isWatched { state.watches[state.nextID] = .some(nil) }
      return (state.nextID, isWatched)
    }
    var order = restore_order()
    order.id = id
    order.cgroups = UInt32(sandbox.cgroupTasks.count)
    order.supplied = UInt32(supplied.count)
    order.flags = UInt32(RESTORE_ORDER_TOUCH)
    if release != nil { order.flags |= UInt32(RESTORE_ORDER_ARM) }
    if isWatched { order.flags |= UInt32(RESTORE_ORDER_WATCH) }
    let process = try await outcome(of: id, in: sandbox, processID: nil) {
      try socket.send(
        withUnsafeBytes(of: order) { Array($0) },
        descriptors: [sandbox.initDescriptor] + sandbox.cgroupTasks + supplied + [release].compactMap(\.self))
    }
    return (id, process)
  }

  /// Lets an armed clone go, and waits for its word that it is about to run user code.
  func release(_ armed: ArmedProcess) async throws(RestoreError) -> RestoredProcess {
    try await outcome(of: armed.id, in: armed.sandbox, processID: armed.processID) {
      // eventfd(2): eight bytes, added to the counter that the clone waits on.
      _ = try armed.descriptor.writeAll(withUnsafeBytes(of: UInt64(1)) { Array($0) })
      // It may have ended while it waited, which nobody was told then.
      finish(armed.id, whenEnded: armed.sandbox)
    }
  }

  /// Gives an order and waits for what comes of it.
  private func outcome(
    of id: UInt32, in sandbox: Sandbox, processID: Int32?, order: () throws -> Void
  ) async throws(RestoreError) -> RestoredProcess {
    try await withCheckedContinuation {
      (continuation: CheckedContinuation<Result<RestoredProcess, RestoreError>, Never>) in
      let isOpen = state.withLock { state in
        guard state.isOpen else { return false }
        state.pending[id] = Pending(sandbox: sandbox, continuation: continuation, processID: processID)
        return true
      }
      guard isOpen else {
        continuation.resume(returning: .failure(RestoreError(code: .templateGone, message: "the template is closed")))
        return
      }
      do { try order() } catch {
        finish(id, .failure(RestoreError(code: .templateGone, message: "the order was not taken: \(error)")))
      }
    }.get()
  }

  private func receive(_ report: restore_report, _ message: SeqpacketSocket.Message) {
    switch report.kind {
    case RESTORE_REPORT_WATCHED.rawValue:
      let isWanted = state.withLock { state in
        guard message.descriptors.count == 1, state.watches[report.id] != nil else { return false }
        state.watches[report.id] = message.descriptors[0]
        return true
      }
      if !isWanted { for descriptor in message.descriptors { try? descriptor.close() } }
    case RESTORE_REPORT_CLONED.rawValue:
      guard report.value > 0 else {
        finish(report.id, .failure(RestoreError(report)))
        return
      }
      if let sandbox = adopt(report.id, Int32(truncatingIfNeeded: report.value)) {
        finish(report.id, whenEnded: sandbox)
      }
    case RESTORE_REPORT_ARMED.rawValue, RESTORE_REPORT_DONE.rawValue:
      _ = adopt(report.id, message.sender)
      finish(report.id, .success(RestoredProcess(processID: message.sender, timings: RestoreTimings(report))))
    case RESTORE_REPORT_FAILED.rawValue where report.id != 0:
      // It may be a process that the first one has forked.
      if report.process == UInt64(manifest.process.processID) { _ = adopt(report.id, message.sender) }
      finish(report.id, .failure(RestoreError(report)))
    default: break
    }
  }

  /// Tells the sandbox of a clone under way that this process belongs to it, unless that has been told.
  ///
  /// - Returns: the sandbox that has been told now.
  private func adopt(_ id: UInt32, _ processID: Int32) -> Sandbox? {
    let sandbox: Sandbox? = state.withLock { state in
      guard state.pending[id] != nil, state.pending[id]?.processID == nil else { return nil }
      state.pending[id]?.processID = processID
      return state.pending[id]?.sandbox
    }
    sandbox?.adopt(processID: processID)
    return sandbox
  }

  private func finish(_ id: UInt32, _ result: Result<RestoredProcess, RestoreError>) {
    let pending = state.withLock { state in
      if case .failure = result { state.unwatch(id) }
      return state.pending.removeValue(forKey: id)
    }
    pending?.continuation.resume(returning: result)
  }

  /// A clone that is killed on its way (by the out-of-memory killer, say) reports nothing: its end is its word.
  private func finish(_ id: UInt32, whenEnded sandbox: Sandbox) {
    Task { [weak self] in
      let exit = await sandbox.waitForExit()
      self?.finish(id, .failure(RestoreError(code: .failed, message: "the clone ended while it was made: \(exit)")))
    }
  }

  /// The socket is closed: the template is gone.
  private func lost() {
    let pending = state.withLock { state in
      state.isOpen = false
      state.unwatch()
      defer { state.pending = [:] }
      return Array(state.pending.values)
    }
    for restore in pending {
      restore.continuation.resume(
        returning: .failure(RestoreError(code: .templateGone, message: "the template process ended")))
    }
  }

  /// Ends the template; clones go on.
  public func close() async {
    lost()
    socket.close()
    await jailer.endTemplate(processID: processID)
  }
}

extension restore_report {
  /// Reads a report from a message; nil if it has another length.
  fileprivate init?(message: [UInt8]) {
    guard message.count == MemoryLayout<restore_report>.size else { return nil }
    self = message.withUnsafeBytes { $0.loadUnaligned(as: restore_report.self) }
  }
}
