internal import CLinux
internal import Glibc
internal import Synchronization
public import SystemPackage

/// Calls handlers when descriptors become readable: one `epoll(7)` and one thread for all of them.
///
/// Dispatch's read sources would do the same, but on Linux their event loop crashes now and then when many sources
/// are cancelled while events come in
/// (`_dispatch_event_loop_drain`, seen with Swift 6.3.1 after a few thousand short-lived pipes).
public final class DescriptorWatch: Sendable {
  /// The watch of this process.
  public static let shared = DescriptorWatch()

  private struct State: Sendable {
    var nextID: UInt64 = 1
    var handlers: [UInt64: @Sendable () -> Bool] = [:]
  }
  private let state = Mutex(State())
  private let epoll: UInt

  private init() {
    // epoll_create1(EPOLL_CLOEXEC) fails only when the process has no descriptors left.
    let result = thaw_syscall(291, 0o2000000, 0, 0, 0, 0, 0)
    precondition(result >= 0, "epoll_create1: \(Errno(rawValue: CInt(-result)))")
    epoll = UInt(result)
    BlockingThread.start(name: "thaw-watch") { [self] in run() }
  }

  /// Calls `handler` on the watch's thread whenever `descriptor` is readable or at its end, until it answers false.
  ///
  /// - Returns: what ``remove(_:_:)`` takes. The caller keeps the descriptor open until the watch is removed or has
  ///   ended.
  public func add(
    _ descriptor: FileDescriptor, _ handler: @escaping @Sendable () -> Bool
  ) throws(SystemCallError) -> UInt64 {
    let id = state.withLock { state in
      defer { state.nextID += 1 }
      state.handlers[state.nextID] = handler
      return state.nextID
    }
    // struct epoll_event is packed: events (EPOLLIN 1), data.
    var event = [UInt32(1), UInt32(truncatingIfNeeded: id), UInt32(truncatingIfNeeded: id >> 32)]
    let result = event.withUnsafeMutableBytes {
      thaw_syscall(233, epoll, 1, UInt(descriptor.rawValue), UInt(bitPattern: $0.baseAddress), 0, 0)
    }
    if result < 0 { state.withLock { $0.handlers[id] = nil } }
    _ = try checked(result, "epoll_ctl", "\(descriptor.rawValue)")
    return id
  }

  /// Ends a watch; a call of its handler may still be under way. The descriptor must still be open, or have been
  /// closed with the watch.
  public func remove(_ id: UInt64, _ descriptor: FileDescriptor) {
    guard state.withLock({ $0.handlers.removeValue(forKey: id) }) != nil else { return }
    _ = thaw_syscall(233, epoll, 2, UInt(descriptor.rawValue), 0, 0, 0)
  }

  private func run() {
    var events = [UInt32](repeating: 0, count: 64 * 3)
    while true {
      let count = events.withUnsafeMutableBytes {
        thaw_syscall(232, epoll, UInt(bitPattern: $0.baseAddress), 64, UInt(bitPattern: -1), 0, 0)
      }
      guard count > 0 else { continue }
      for index in 0..<count {
        let id = UInt64(events[index * 3 + 1]) | UInt64(events[index * 3 + 2]) << 32
        // An event of a watch that was removed meanwhile finds no handler.
        guard let handler = state.withLock({ $0.handlers[id] }) else { continue }
        if !handler() { state.withLock { $0.handlers[id] = nil } }
      }
    }
  }
}

/// Threads for calls that block.
public enum BlockingThread {
  private final class Body: Sendable {
    let name: String
    let run: @Sendable () -> Void
    init(_ name: String, _ run: @escaping @Sendable () -> Void) {
      self.name = name
      self.run = run
    }
  }

  /// Runs `body` on a new thread, whose name has at most 15 bytes.
  public static func start(name: String, _ body: @escaping @Sendable () -> Void) {
    var thread = pthread_t()
    let argument = Unmanaged.passRetained(Body(name, body))
    let result = pthread_create(
      &thread, nil,
      { argument in
        guard let argument else { return nil }
        let body = Unmanaged<Body>.fromOpaque(argument).takeRetainedValue()
        _ = body.name.withCString { thaw_syscall(157, 15, UInt(bitPattern: $0), 0, 0, 0, 0) }  // PR_SET_NAME
        body.run()
        return nil
      }, argument.toOpaque())
    precondition(result == 0, "pthread_create: \(Errno(rawValue: result))")
    pthread_detach(thread)
  }
}
