// System calls have the names of the kernel's table.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

import CRestoreProgram
import SnapshotFormat

/// A snapshot compiled to a flat table of system calls with the structures they point to: the bytes that the
/// restorer maps at
/// RESTORE_PROGRAM_BASE (restore_program.h).
struct RestoreProgram: Sendable {
  /// The whole program.
  let bytes: [UInt8]
  /// How many operations each phase has; for printing.
  let counts: (memory: Int, instance: Int, main: Int)
}

/// An operation of a program, before it has its place.
struct Operation {
  /// An argument: a value, or the value that a slot will have.
  enum Argument {
    case value(UInt64)
    case slot(Int)
  }

  var number: UInt16
  var check: UInt32 = RESTORE_MUST_SUCCEED.rawValue
  var resultSlot: Int = 0
  var arguments: [Argument]

  /// The table's entry.
  var encoded: restore_op {
    var op = restore_op()
    op.number = number
    op.check = UInt8(check)
    op.result_slot = UInt8(resultSlot)
    withUnsafeMutableBytes(of: &op.arguments) { words in
      for (index, argument) in arguments.enumerated() {
        switch argument {
        case .value(let value): words.storeBytes(of: value, toByteOffset: index * 8, as: UInt64.self)
        case .slot(let slot):
          words.storeBytes(of: UInt64(slot), toByteOffset: index * 8, as: UInt64.self)
          op.slot_mask |= 1 << UInt32(index)
        }
      }
    }
    return op
  }
}

extension Operation {
  /// `madvise(2)`.
  static func advise(
    _ start: UInt64, _ length: UInt64, _ advice: UInt64, check: restore_check = RESTORE_MUST_SUCCEED
  ) -> Operation {
    Operation(
      number: SystemCallNumber.madvise, check: check.rawValue,
      arguments: [.value(start), .value(length), .value(advice)])
  }

  /// Has the disk begin to read the pages of a mapped file (MADV_WILLNEED 3), in pieces as small as the kernel reads at
  /// once on any host. It is advice: nothing fails.
  static func readAhead(_ start: UInt64, _ length: UInt64) -> [Operation] {
    stride(from: 0, to: length, by: 128 << 10).map {
      .advise(start + $0, min(128 << 10, length - $0), 3, check: RESTORE_MAY_FAIL)
    }
  }

  /// `munmap(2)`.
  static func unmap(_ start: UInt64, _ length: UInt64) -> Operation {
    Operation(number: SystemCallNumber.munmap, arguments: [.value(start), .value(length)])
  }
}

extension Operation.Argument: ExpressibleByIntegerLiteral {
  init(integerLiteral value: UInt64) { self = .value(value) }
}

/// Numbers of x86-64 system calls, asm/unistd_64.h.
enum SystemCallNumber {
  static let write: UInt16 = 1
  static let close: UInt16 = 3
  static let lseek: UInt16 = 8
  static let mmap: UInt16 = 9
  static let mprotect: UInt16 = 10
  static let rt_sigaction: UInt16 = 13
  static let rt_sigprocmask: UInt16 = 14
  static let mremap: UInt16 = 25
  static let wait4: UInt16 = 61
  static let kill: UInt16 = 62
  static let setpgid: UInt16 = 109
  static let rt_sigtimedwait: UInt16 = 128
  static let exit_group: UInt16 = 231
  static let waitid: UInt16 = 247
  static let pidfd_open: UInt16 = 434
  static let munmap: UInt16 = 11
  static let ioctl: UInt16 = 16
  static let pwrite64: UInt16 = 18
  static let madvise: UInt16 = 28
  static let setitimer: UInt16 = 38
  static let socket: UInt16 = 41
  static let connect: UInt16 = 42
  static let shutdown: UInt16 = 48
  static let accept: UInt16 = 43
  static let bind: UInt16 = 49
  static let listen: UInt16 = 50
  static let getsockname: UInt16 = 51
  static let socketpair: UInt16 = 53
  static let setsockopt: UInt16 = 54
  static let fcntl: UInt16 = 72
  static let flock: UInt16 = 73
  static let ftruncate: UInt16 = 77
  static let chdir: UInt16 = 80
  static let unlink: UInt16 = 87
  static let chmod: UInt16 = 90
  static let fchmod: UInt16 = 91
  static let chown: UInt16 = 92
  static let fchown: UInt16 = 93
  static let umask: UInt16 = 95
  static let setsid: UInt16 = 112
  static let setgroups: UInt16 = 116
  static let setresuid: UInt16 = 117
  static let setresgid: UInt16 = 119
  static let rt_sigqueueinfo: UInt16 = 129
  static let prctl: UInt16 = 157
  static let set_tid_address: UInt16 = 218
  static let setpriority: UInt16 = 141
  static let sched_setscheduler: UInt16 = 144
  static let mlockall: UInt16 = 151
  static let sched_setaffinity: UInt16 = 203
  static let timer_create: UInt16 = 222
  static let timer_settime: UInt16 = 223
  static let timer_delete: UInt16 = 226
  static let epoll_ctl: UInt16 = 233
  static let inotify_add_watch: UInt16 = 254
  static let openat: UInt16 = 257
  static let set_robust_list: UInt16 = 273
  static let timerfd_create: UInt16 = 283
  static let timerfd_settime: UInt16 = 286
  static let signalfd4: UInt16 = 289
  static let eventfd2: UInt16 = 290
  static let epoll_create1: UInt16 = 291
  static let dup3: UInt16 = 292
  static let pipe2: UInt16 = 293
  static let inotify_init1: UInt16 = 294
  static let preadv: UInt16 = 295
  static let rt_tgsigqueueinfo: UInt16 = 297
  static let prlimit64: UInt16 = 302
  static let seccomp: UInt16 = 317
  static let memfd_create: UInt16 = 319
  static let membarrier: UInt16 = 324
  static let mlock2: UInt16 = 325
  static let rseq: UInt16 = 334
  static let close_range: UInt16 = 436
  static let mseal: UInt16 = 462
}

/// Lays a program out: data at known addresses, operations in phases.
struct ProgramBuilder {
  private(set) var bytes: [UInt8]
  private var nextSlot = Int(RESTORE_SLOT_FREE)

  init() {
    bytes = [UInt8](repeating: 0, count: MemoryLayout<restore_program>.size)
  }

  /// The address that the byte at `offset` will have.
  func address(_ offset: Int) -> UInt64 { UInt64(RESTORE_PROGRAM_BASE) + UInt64(offset) }

  /// Room for `count` zero bytes; answers their offset.
  mutating func reserve(_ count: Int, alignment: Int = 8) -> Int {
    let offset = (bytes.count + alignment - 1) / alignment * alignment
    bytes += [UInt8](repeating: 0, count: offset - bytes.count + count)
    return offset
  }

  /// Puts bytes down; answers their address.
  mutating func place(_ data: [UInt8], alignment: Int = 8) -> UInt64 {
    let offset = reserve(data.count, alignment: alignment)
    store(data, at: offset)
    return address(offset)
  }

  /// Puts words down; answers their address.
  mutating func place(words: [UInt64], alignment: Int = 8) -> UInt64 {
    let offset = reserve(words.count * 8, alignment: alignment)
    for (index, word) in words.enumerated() { store(word, at: offset + index * 8) }
    return address(offset)
  }

  /// Puts a C string down; answers its address.
  mutating func place(_ text: String) -> UInt64 { place(Array(text.utf8) + [0], alignment: 1) }

  /// Overwrites bytes at an offset.
  mutating func store<Value: BitwiseCopyable>(_ value: Value, at offset: Int) {
    bytes.withUnsafeMutableBytes { $0.storeBytes(of: value, toByteOffset: offset, as: Value.self) }
  }

  /// Overwrites bytes from an offset on.
  mutating func store(_ data: [UInt8], at offset: Int) {
    bytes.withUnsafeMutableBytes { bytes in
      UnsafeMutableRawBufferPointer(rebasing: bytes[offset..<offset + data.count]).copyBytes(from: data)
    }
  }

  /// Puts a phase down.
  mutating func place(_ operations: [Operation]) -> restore_phase {
    let size = MemoryLayout<restore_op>.stride
    let offset = reserve(operations.count * size)
    for (index, operation) in operations.enumerated() { store(operation.encoded, at: offset + index * size) }
    return restore_phase(address: address(offset), count: UInt64(operations.count))
  }

  /// Another process has slots of its own.
  mutating func resetSlots() { nextSlot = Int(RESTORE_SLOT_FREE) }

  /// A slot that nobody else uses. Slots of operations that are done may be used again: see `Compiler`.
  mutating func slot() throws(RestoreError) -> Int {
    guard nextSlot < Int(RESTORE_SLOTS) else {
      throw RestoreError(code: .failed, message: "the snapshot needs more than \(RESTORE_SLOTS) slots")
    }
    defer { nextSlot += 1 }
    return nextSlot
  }
}
