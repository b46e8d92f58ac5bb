/// One process: everything the kernel holds for it that is not a byte of memory.
public struct ProcessState: Sendable, Equatable {
  /// Its process id inside the sandbox.
  public var processID: UInt32
  /// Its parent's process id inside the sandbox; 1 for the first program, and for one whose parent has ended.
  public var parentID: UInt32
  /// Its process group, `getpgid(2)`.
  public var groupID: UInt32
  /// Its session, `getsid(2)`.
  public var sessionID: UInt32
  /// The path of its executable inside the sandbox.
  public var executable: String
  /// Where the kernel's `mm_struct` says things are (`prctl(2)`, PR_SET_MM_MAP).
  public var layout: AddressLayout
  /// The auxiliary vector, raw.
  public var auxiliaryVector: [UInt8]
  /// The kernel's own mappings.
  public var vdso: VirtualLibrary
  /// All other mappings, by address.
  public var mappings: [Mapping]
  /// The current directory.
  public var workingDirectory: String
  /// The file mode creation mask.
  public var umask: UInt32
  /// Signals that are caught or ignored.
  public var signalActions: [SignalAction]
  /// Registrations of `membarrier(2)`: MEMBARRIER_CMD_GET_REGISTRATIONS.
  public var membarrierRegistrations: UInt64
  /// ITIMER_REAL, VIRTUAL and PROF: interval and value as `struct itimerval`, four words each.
  public var intervalTimers: [[UInt64]]
  /// Soft and hard limits by RLIMIT number.
  public var resourceLimits: [ResourceLimit]
  /// Who it runs as.
  public var credentials: Credentials
  /// Its seccomp filters in the order in which they were installed, each a list of `struct sock_filter` as one word.
  public var seccompFilters: [[UInt64]]
  /// Its open descriptors, by number.
  public var descriptors: [Descriptor]
  /// Its threads; the first is the main one.
  public var threads: [ThreadState]
  /// Its POSIX timers, by id.
  public var timers: [PosixTimer] = []
  /// Signals that wait for any of its threads.
  public var pendingSignals: [PendingSignal] = []
  /// Locks on its open files.
  public var fileLocks: [FileLock] = []
  /// Flags of `mlockall(2)` for mappings to come: MCL_FUTURE 2, MCL_ONFAULT 4; 0 for none.
  public var futureLock: UInt32 = 0
  /// The signal that its parent gets when it ends: SIGCHLD, or what `clone(2)` was told.
  public var exitSignal: UInt32 = 17
  /// The signal that it gets when its parent ends, PR_SET_PDEATHSIG; 0 for none.
  public var parentDeathSignal: UInt32 = 0
  /// PR_SET_CHILD_SUBREAPER.
  public var isSubreaper = false

  /// A process of these parts.
  public init(
    processID: UInt32, parentID: UInt32, groupID: UInt32, sessionID: UInt32, executable: String,
    layout: AddressLayout, auxiliaryVector: [UInt8], vdso: VirtualLibrary, mappings: [Mapping],
    workingDirectory: String, umask: UInt32, signalActions: [SignalAction],
    membarrierRegistrations: UInt64, intervalTimers: [[UInt64]], resourceLimits: [ResourceLimit],
    credentials: Credentials, seccompFilters: [[UInt64]], descriptors: [Descriptor], threads: [ThreadState]
  ) {
    self.processID = processID
    self.parentID = parentID
    self.groupID = groupID
    self.sessionID = sessionID
    self.executable = executable
    self.layout = layout
    self.auxiliaryVector = auxiliaryVector
    self.vdso = vdso
    self.mappings = mappings
    self.workingDirectory = workingDirectory
    self.umask = umask
    self.signalActions = signalActions
    self.membarrierRegistrations = membarrierRegistrations
    self.intervalTimers = intervalTimers
    self.resourceLimits = resourceLimits
    self.credentials = credentials
    self.seccompFilters = seccompFilters
    self.descriptors = descriptors
    self.threads = threads
  }
}

/// `struct prctl_mm_map` of linux/prctl.h: addresses that /proc and `brk(2)` go by.
public struct AddressLayout: Sendable, Equatable {
  /// start_code, end_code, start_data, end_data, start_brk, brk, start_stack, arg_start, arg_end, env_start,
  /// env_end: eleven words.
  public var words: [UInt64]

  /// The eleven words in the kernel's order.
  public init(words: [UInt64]) { self.words = words }
}

/// The vDSO and its data, which lie side by side: [vvar], [vvar_vclock], [vdso].
public struct VirtualLibrary: Sendable, Equatable {
  /// Address of [vvar].
  public var start: UInt64
  /// Bytes of [vvar], [vvar_vclock] and [vdso]; 0 for one that this kernel does not have.
  public var lengths: [UInt64]

  /// The three, from `start` on.
  public init(start: UInt64, lengths: [UInt64]) {
    self.start = start
    self.lengths = lengths
  }
}

/// What `sigaction(2)` was told about one signal.
public struct SignalAction: Sendable, Equatable {
  /// The signal's number.
  public var signal: UInt32
  /// `struct sigaction` of the kernel: handler, flags, restorer, mask.
  public var words: [UInt64]

  /// The action for `signal`.
  public init(signal: UInt32, words: [UInt64]) {
    self.signal = signal
    self.words = words
  }
}

/// One resource limit, see `getrlimit(2)`; RLIM_INFINITY is all ones.
public struct ResourceLimit: Sendable, Equatable {
  /// RLIMIT number.
  public var resource: UInt32
  /// Soft limit.
  public var current: UInt64
  /// Hard limit.
  public var maximum: UInt64

  /// A limit.
  public init(resource: UInt32, current: UInt64, maximum: UInt64) {
    self.resource = resource
    self.current = current
    self.maximum = maximum
  }
}

/// Who a process runs as; capabilities are none.
public struct Credentials: Sendable, Equatable {
  /// Real, effective and saved user id.
  public var userIDs: [UInt32]
  /// Real, effective and saved group id.
  public var groupIDs: [UInt32]
  /// Supplementary groups.
  public var groups: [UInt32]
  /// PR_SET_NO_NEW_PRIVS.
  public var noNewPrivileges: Bool
  /// PR_GET_DUMPABLE.
  public var dumpable: Bool

  /// Credentials of these parts.
  public init(userIDs: [UInt32], groupIDs: [UInt32], groups: [UInt32], noNewPrivileges: Bool, dumpable: Bool) {
    self.userIDs = userIDs
    self.groupIDs = groupIDs
    self.groups = groups
    self.noNewPrivileges = noNewPrivileges
    self.dumpable = dumpable
  }
}

/// A process that has ended and that its parent has not waited for.
public struct Zombie: Sendable, Equatable {
  /// Its process id inside the sandbox.
  public var processID: UInt32
  /// Its parent's.
  public var parentID: UInt32
  /// Its process group.
  public var groupID: UInt32
  /// Its session.
  public var sessionID: UInt32
  /// What its parent will be told, as `wait(2)` encodes it.
  public var status: UInt32
  /// The signal that its parent got.
  public var exitSignal: UInt32

  /// A process that has ended.
  public init(
    processID: UInt32, parentID: UInt32, groupID: UInt32, sessionID: UInt32, status: UInt32, exitSignal: UInt32
  ) {
    self.processID = processID
    self.parentID = parentID
    self.groupID = groupID
    self.sessionID = sessionID
    self.status = status
    self.exitSignal = exitSignal
  }
}
