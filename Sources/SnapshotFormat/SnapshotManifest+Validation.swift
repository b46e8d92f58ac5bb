import Crypto

extension SnapshotManifest {
  /// Checks what the compiler of restore programs takes for granted.
  func validate() throws(SnapshotFormatError) {
    let page = SnapshotManifest.pageSize
    func fail(_ message: String) throws(SnapshotFormatError) -> Never { throw SnapshotFormatError(message) }
    // An image that a disk could hold, every page of which stands for one page of memory.
    guard imageBytes <= 1 << 46 else { try fail("an image of \(imageBytes) bytes") }
    let extents = processes.lazy.flatMap(\.mappings).flatMap(\.extents).map(\.length)
    let objectExtents = objects.lazy.flatMap(\.extents).map(\.length)
    var unclaimed = imageBytes
    for length in Array(extents) + Array(objectExtents) {
      guard length <= unclaimed else { try fail("the extents are longer than the image") }
      unclaimed -= length
    }
    guard imageBytes % page == 0 else { try fail("the image's length \(imageBytes) is not whole pages") }
    // Nanoseconds as the kernel counts them, ktime_t: 63 bits.
    guard clocks.monotonic < 1 << 62, clocks.boottime < 1 << 62 else { try fail("a clock's reading is out of bounds") }
    guard imageDigest.count == ImageChecksum.byteCount, compatibility.vdsoDigest.count == SHA256.byteCount else {
      try fail("a digest has the wrong length")
    }
    for object in objects { try object.validate(imageBytes: imageBytes) }
    try validateTree()
    for process in processes {
      try validate(process)
      try process.validateKernelObjects(objectCount: objects.count)
    }
  }

  private func validate(_ process: ProcessState) throws(SnapshotFormatError) {
    let page = SnapshotManifest.pageSize
    func fail(_ message: String) throws(SnapshotFormatError) -> Never { throw SnapshotFormatError(message) }
    try process.vdso.validate(below: SnapshotManifest.top)
    guard !process.threads.isEmpty else { try fail("a process without threads") }
    guard process.threads[0].threadID == process.processID else { try fail("the first thread is not the main one") }
    var previous: UInt64 = 0
    for mapping in process.mappings {
      guard mapping.start >= previous, mapping.start < mapping.end, mapping.end <= SnapshotManifest.top,
        mapping.start % page == 0, mapping.end % page == 0
      else { try fail("mapping \(hexadecimal(mapping.start)) is out of order or out of bounds") }
      previous = mapping.end
      if case .file(let index, let offset) = mapping.backing {
        guard Int(index) < compatibility.files.count, offset % page == 0 else {
          try fail("mapping \(hexadecimal(mapping.start)) names a file that is not listed")
        }
      }
      if case .object(let index, let offset) = mapping.backing {
        guard Int(index) < objects.count, offset % page == 0, offset <= SnapshotManifest.top else {
          try fail("mapping \(hexadecimal(mapping.start)) names an object that is not listed")
        }
      }
      var next = mapping.start
      for extent in mapping.extents {
        guard extent.start >= next, extent.start < mapping.end, extent.start % page == 0, extent.length % page == 0,
          extent.length > 0,
          extent.length <= mapping.end - extent.start, extent.imageOffset % page == 0,
          extent.imageOffset <= imageBytes, extent.length <= imageBytes - extent.imageOffset
        else { try fail("an extent of mapping \(hexadecimal(mapping.start)) is out of bounds") }
        next = extent.start + extent.length
      }
      for guardRegion in mapping.guards {
        guard guardRegion.count == 2, guardRegion[0] >= mapping.start, guardRegion[0] < mapping.end,
          guardRegion[1] <= mapping.end - guardRegion[0]
        else { try fail("a guard region of mapping \(hexadecimal(mapping.start)) is out of bounds") }
      }
    }
    for thread in process.threads {
      // 512 bytes of legacy area and 64 of header come before anything else.
      guard thread.registers.words.count == 27, (576...16384).contains(thread.vectorState.count),
        thread.alternateStack.count == 3, thread.name.count <= 15
      else { try fail("thread \(thread.threadID) has a malformed state") }
    }
    var lastNumber: Int64 = -1
    for descriptor in process.descriptors {
      guard descriptor.number <= 1 << 20, Int64(descriptor.number) > lastNumber else {
        try fail("descriptor \(descriptor.number) is out of order or out of bounds")
      }
      lastNumber = Int64(descriptor.number)
    }
  }

  /// Checks that every process has a parent among those before it, and an id of its own.
  private func validateTree() throws(SnapshotFormatError) {
    func fail(_ message: String) throws(SnapshotFormatError) -> Never { throw SnapshotFormatError(message) }
    guard let first = processes.first, first.parentID == 1, processes.count <= 4096, zombies.count <= 4096 else {
      try fail("a process tree without a root, or with more processes than any sandbox has")
    }
    let firsts = processes.map { Set($0.descriptors.filter(\.isFirst).map(\.number)) }
    var known: Set<UInt32> = [1]
    var taken: Set<UInt32> = [0, 1]
    for (index, process) in processes.enumerated() {
      guard known.contains(process.parentID) else {
        try fail("process \(process.processID) is not listed after its parent")
      }
      for thread in process.threads where !taken.insert(thread.threadID).inserted {
        try fail("thread \(thread.threadID) is listed twice, or out of bounds")
      }
      known.insert(process.processID)
      guard process.exitSignal <= 64, process.parentDeathSignal <= 64 else {
        try fail("a signal of process \(process.processID) is out of bounds")
      }
      for descriptor in process.descriptors {
        guard let origin = descriptor.origin else { continue }
        guard origin.process < index, firsts[Int(origin.process)].contains(origin.number) else {
          try fail("descriptor \(descriptor.number) of process \(process.processID) comes from nowhere")
        }
      }
    }
    for zombie in zombies {
      guard known.contains(zombie.parentID), zombie.parentID != 1, taken.insert(zombie.processID).inserted,
        zombie.exitSignal <= 64, zombie.status <= 0xffff, !Zombie.harmless.contains(zombie.status & 0x7f)
      else { try fail("the ended process \(zombie.processID) is malformed") }
    }
    let largest: UInt32 = 1 << 22  // PID_MAX_LIMIT of linux/threads.h
    guard taken.allSatisfy({ $0 <= largest }),
      processes.allSatisfy({ $0.groupID <= largest && $0.sessionID <= largest }),
      zombies.allSatisfy({ $0.groupID <= largest && $0.sessionID <= largest })
    else { try fail("a process id is out of bounds") }
    _ = try ProcessTree(processes: processes, zombies: zombies)
  }

  /// Where user space ends, TASK_SIZE of x86-64 with four levels of page tables.
  public static let top: UInt64 = 0x7fff_ffff_f000
}

extension VirtualLibrary {
  /// Checks that the three parts are whole pages in user space.
  func validate(below top: UInt64) throws(SnapshotFormatError) {
    let page = SnapshotManifest.pageSize
    guard lengths.count == 3, lengths.allSatisfy({ $0 <= 1 << 20 && $0 % page == 0 }), start % page == 0,
      start <= top - lengths.reduce(0, +)
    else { throw SnapshotFormatError("the vDSO is out of bounds") }
  }
}

extension SharedObject {
  /// Checks size and extents.
  func validate(imageBytes: UInt64) throws(SnapshotFormatError) {
    let page = SnapshotManifest.pageSize
    // MAX_LFS_FILESIZE is more; nothing that a sandbox can fill is.
    guard size <= 1 << 46 else { throw SnapshotFormatError("an object of \(size) bytes") }
    guard mode <= 0o7777 else { throw SnapshotFormatError("an object's mode \(mode) is out of bounds") }
    let end = (size + page - 1) / page * page
    var next: UInt64 = 0
    for extent in extents {
      guard extent.start >= next, extent.start < end, extent.start % page == 0, extent.length % page == 0,
        extent.length > 0, extent.length <= end - extent.start, extent.imageOffset % page == 0,
        extent.imageOffset <= imageBytes, extent.length <= imageBytes - extent.imageOffset
      else { throw SnapshotFormatError("an extent of a shared object is out of bounds") }
      next = extent.start + extent.length
    }
  }
}

extension ProcessState {
  /// Checks timers, signals, sockets and locks, and what names another list's elements.
  func validateKernelObjects(objectCount: Int) throws(SnapshotFormatError) {
    func fail(_ message: String) throws(SnapshotFormatError) -> Never { throw SnapshotFormatError(message) }
    let threadIDs = Set(threads.map(\.threadID))
    var lastTimer: Int64 = -1
    for timer in timers {
      guard timer.id <= UInt32(Int32.max), Int64(timer.id) > lastTimer else {
        try fail("timer \(timer.id) is out of order or out of bounds")
      }
      lastTimer = Int64(timer.id)
      // SIGEV_SIGNAL, SIGEV_NONE, SIGEV_THREAD_ID of asm-generic/siginfo.h.
      guard [0, 1, 4].contains(timer.notification), timer.notification == 1 || (1...64).contains(timer.signal),
        timer.notification != 4 || threadIDs.contains(timer.threadID)
      else { try fail("timer \(timer.id) tells nobody") }
      guard isTimerSetting(timer.setting) else { try fail("the setting of timer \(timer.id) is malformed") }
    }
    for signal in pendingSignals + threads.flatMap(\.pendingSignals) {
      guard signal.information.count == PendingSignal.size, (1...64).contains(signal.signal) else {
        try fail("a pending signal is malformed")
      }
    }
    for thread in threads {
      guard (-20...19).contains(thread.scheduling.niceness), [0, 1, 2, 3, 5].contains(thread.scheduling.policy),
        thread.scheduling.priority < 100, thread.scheduling.affinity.count <= 128
      else { try fail("the scheduling of thread \(thread.threadID) is out of bounds") }
    }
    guard futureLock <= 7 else { try fail("unknown flags \(futureLock) of mlockall") }
    let numbers = Set(descriptors.map(\.number))
    for lock in fileLocks where !numbers.contains(lock.descriptor) {
      try fail("a file lock belongs to descriptor \(lock.descriptor), which is not listed")
    }
    for descriptor in descriptors {
      guard descriptor.socketOptions.count <= 64, descriptor.socketOptions.allSatisfy({ $0.value.count <= 256 }) else {
        try fail("the options of descriptor \(descriptor.number) are too many or too long")
      }
      switch descriptor.kind {
      case .timer(let timer):
        guard isTimerSetting(timer.setting), timer.flags <= 3 else {
          try fail("the setting of timer descriptor \(descriptor.number) is malformed")
        }
      case .object(let index, _):
        guard Int(index) < objectCount else {
          try fail("descriptor \(descriptor.number) names an object that is not listed")
        }
      case .socket(let socket):
        // struct sockaddr_storage is 128 bytes.
        guard [socket.localAddress, socket.remoteAddress].allSatisfy({ $0.count <= 128 }) else {
          try fail("the addresses of descriptor \(descriptor.number) are too long")
        }
      case .socketPair(_, _, _, _, let shutdown):
        guard shutdown <= 3 else { try fail("descriptor \(descriptor.number) is shut down in no known way") }
      case .inotify(let watches):
        var last: UInt32 = 0
        for watch in watches {
          guard watch.number > last, watch.number <= UInt32(Int32.max) else {
            try fail("watch \(watch.number) of descriptor \(descriptor.number) is out of order or out of bounds")
          }
          last = watch.number
        }
      default: break
      }
    }
  }

  private func isTimerSetting(_ words: [UInt64]) -> Bool {
    words.count == 4 && words[0] < 1 << 62 && words[2] < 1 << 62 && words[1] < 1_000_000_000
      && words[3] < 1_000_000_000
  }
}

extension Zombie {
  /// Signals by which nothing ends, signal(7): CHLD, CONT, STOP, TSTP, TTIN, TTOU, URG, WINCH; and what says that a
  /// process was stopped.
  fileprivate static let harmless: Set<UInt32> = [17, 18, 19, 20, 21, 22, 23, 28, 0x7f]
}
