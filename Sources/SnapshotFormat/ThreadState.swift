/// One thread: registers and what the kernel holds for it.
public struct ThreadState: Sendable, Equatable {
  /// Its thread id inside the sandbox.
  public var threadID: UInt32
  /// `struct user_regs_struct` of sys/user.h as ptrace answers it.
  public var registers: Registers
  /// XSAVE area as NT_X86_XSTATE answers it.
  public var vectorState: [UInt8]
  /// Blocked signals.
  public var signalMask: UInt64
  /// The `rseq(2)` registration; nil if there is none.
  public var restartableSequence: RestartableSequence?
  /// Head of the robust futex list, `set_robust_list(2)`; 0 if none.
  public var robustList: UInt64
  /// Where the kernel clears the thread id at exit, `set_tid_address(2)`.
  public var clearThreadID: UInt64
  /// `sigaltstack(2)`: sp, flags, size.
  public var alternateStack: [UInt64]
  /// The name, at most 15 bytes.
  public var name: [UInt8]
  /// Signals that wait for this thread.
  public var pendingSignals: [PendingSignal] = []
  /// How it is scheduled.
  public var scheduling = Scheduling()

  /// A thread of these parts.
  public init(
    threadID: UInt32, registers: Registers, vectorState: [UInt8], signalMask: UInt64,
    restartableSequence: RestartableSequence?, robustList: UInt64, clearThreadID: UInt64, alternateStack: [UInt64],
    name: [UInt8]
  ) {
    self.threadID = threadID
    self.registers = registers
    self.vectorState = vectorState
    self.signalMask = signalMask
    self.restartableSequence = restartableSequence
    self.robustList = robustList
    self.clearThreadID = clearThreadID
    self.alternateStack = alternateStack
    self.name = name
  }
}

/// A registration of `rseq(2)`.
public struct RestartableSequence: Sendable, Equatable {
  /// Address of the `struct rseq`.
  public var address: UInt64
  /// Its size as registered.
  public var size: UInt32
  /// The signature before abort handlers.
  public var signature: UInt32

  /// A registration.
  public init(address: UInt64, size: UInt32, signature: UInt32) {
    self.address = address
    self.size = size
    self.signature = signature
  }
}

/// The 27 words of `struct user_regs_struct`, x86-64, by name where the engine needs one.
public struct Registers: Sendable, Equatable {
  /// In the kernel's order.
  public var words: [UInt64]

  /// Registers from the kernel's words.
  public init(words: [UInt64]) { self.words = words }

  /// Places in ``words``, from sys/user.h.
  public enum Name: Int, Sendable, CaseIterable {
    case r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi, origRax, rip, cs, eflags, rsp, ss
    case fsBase, gsBase, ds, es, fs, gs
  }

  public subscript(name: Name) -> UInt64 {
    get { words[name.rawValue] }
    set { words[name.rawValue] = newValue }
  }

  /// The registers with an interrupted system call made ready to be called again.
  ///
  /// What the kernel does itself when a stopped thread goes on (arch_do_signal_or_restart in
  /// arch/x86/kernel/signal.c): -ERESTARTSYS (512),
  /// -ERESTARTNOINTR (513) and -ERESTARTNOHAND (514) call again; -ERESTART_RESTARTBLOCK (516) cannot be continued
  /// in another process, so the
  /// call begins again with its full relative timeout. epoll_wait (232), epoll_pwait (281) and epoll_pwait2 (441)
  /// show -EINTR
  /// when ptrace interrupts them, as do rt_sigtimedwait (128) and, on a socket with a timeout (SO_RCVTIMEO), accept
  /// (43), recvfrom (45), recvmsg (47) and accept4 (288): they are called again as well. A restart_syscall (219) has lost its call: it
  /// answers -EINTR.
  public var restartingInterruptedCall: Registers {
    guard Int64(bitPattern: self[.origRax]) >= 0 else { return self }
    var result = self
    let outcome = Int64(bitPattern: self[.rax])
    let interruptedWait = outcome == -4 && [43, 45, 47, 128, 232, 281, 288, 441].contains(self[.origRax])
    if [-512, -513, -514, -516].contains(outcome) || interruptedWait {
      if self[.origRax] == 219 {
        result[.rax] = UInt64(bitPattern: -4)
      } else {
        result[.rax] = self[.origRax]
        result[.rip] = self[.rip] &- 2
      }
    }
    return result
  }
}
