/// An open descriptor of a process. Descriptors with the same ``description`` share one open file description, as
/// after `dup(2)`.
public struct Descriptor: Sendable, Equatable {
  /// What it refers to.
  public enum Kind: Sendable, Equatable {
    /// Given anew to every restored process.
    case supplied(SuppliedRole)
    /// A regular file, directory or device, opened by path; seekable ones stand at `offset`.
    case file(path: String, offset: UInt64)
    /// One end of the pipe `pipe`; the reading end carries the bytes that wait in it and the pipe's capacity.
    case pipe(pipe: UInt64, writes: Bool, waiting: [UInt8], capacity: UInt32)
    /// An eventfd with its counter.
    case event(count: UInt64, semaphore: Bool)
    /// An epoll set.
    case epoll([EpollEntry])
    /// One end of a unix socket pair: own and other end's identity (0: the other end is closed), SOCK_ type, and
    /// the messages that wait to be read from it (a stream's bytes are one message), and which directions are shut
    /// down: reading 1, writing 2.
    case socketPair(socket: UInt64, peer: UInt64, type: UInt32, waiting: [[UInt8]], shutdown: UInt8)
    /// A TCP connection to somewhere: comes back closed by the other end.
    case closedConnection
    /// A timerfd.
    case timer(TimerDescriptor)
    /// A signalfd that accepts the signals of `mask` (bit n - 1 for signal n).
    case signals(mask: UInt64)
    /// The object at this place in ``SnapshotManifest/objects``, opened anew, at `offset`.
    case object(index: UInt32, offset: UInt64)
    /// A socket that is not connected to another process: listening, bound, or neither; see ``SocketState``.
    case socket(SocketState)
    /// An inotify instance with its watches.
    case inotify([InotifyWatch])
    /// A named pipe (mkfifo(3)) at `path`; `pipe` is the same for all openings of one, and one of them carries the
    /// bytes that wait in it.
    case fifo(path: String, pipe: UInt64, waiting: [UInt8], capacity: UInt32)
    /// A process descriptor (`pidfd_open(2)`) of a process inside the sandbox.
    case process(processID: UInt32)
  }

  /// A descriptor of another process.
  public struct Origin: Sendable, Hashable {
    /// Which process, by its place in ``SnapshotManifest/processes``.
    public var process: UInt32
    /// The descriptor's number there.
    public var number: UInt32

    /// A descriptor of another process.
    public init(process: UInt32, number: UInt32) {
      self.process = process
      self.number = number
    }
  }

  /// A watch of an inotify instance.
  public struct InotifyWatch: Sendable, Equatable {
    /// The number that inotify_add_watch(2) answered.
    public var number: UInt32
    /// What is watched, inside the sandbox.
    public var path: String
    /// The events, IN_ bits of linux/inotify.h.
    public var mask: UInt32

    /// A watch.
    public init(number: UInt32, path: String, mask: UInt32) {
      self.number = number
      self.path = path
      self.mask = mask
    }
  }

  /// What an epoll set watches.
  public struct EpollEntry: Sendable, Equatable {
    /// The watched descriptor's number.
    public var target: UInt32
    /// EPOLL event bits.
    public var events: UInt32
    /// The user's data word.
    public var data: UInt64

    /// An entry.
    public init(target: UInt32, events: UInt32, data: UInt64) {
      self.target = target
      self.events = events
      self.data = data
    }
  }

  /// Its number.
  public var number: UInt32
  /// The lowest number of this process that has the same open file description.
  public var description: UInt32
  /// Where an earlier process has the same open file description: what `fork(2)` or SCM_RIGHTS have shared.
  public var origin: Origin?
  /// Whether no other descriptor before it has its open file description.
  public var isFirst: Bool { description == number && origin == nil }
  /// Open flags (`fcntl(2)`, F_GETFL) without close-on-exec.
  public var statusFlags: UInt32
  /// FD_CLOEXEC.
  public var closeOnExec: Bool
  /// What it refers to.
  public var kind: Kind
  /// For a socket, the options that differ from a new socket's.
  public var socketOptions: [SocketOption] = []

  /// A descriptor.
  public init(number: UInt32, description: UInt32, statusFlags: UInt32, closeOnExec: Bool, kind: Kind) {
    self.number = number
    self.description = description
    self.statusFlags = statusFlags
    self.closeOnExec = closeOnExec
    self.kind = kind
  }
}

extension Descriptor.Kind {
  /// The same without what only the first descriptor of a description has to hold: bytes that wait, what is watched.
  public var withoutContent: Self {
    switch self {
    case .pipe(let pipe, let writes, _, let capacity):
      .pipe(pipe: pipe, writes: writes, waiting: [], capacity: capacity)
    case .fifo(let path, let pipe, _, let capacity): .fifo(path: path, pipe: pipe, waiting: [], capacity: capacity)
    case .socketPair(let socket, let peer, let type, _, let shutdown):
      .socketPair(socket: socket, peer: peer, type: type, waiting: [], shutdown: shutdown)
    case .epoll: .epoll([])
    case .inotify: .inotify([])
    default: self
    }
  }
}
