import SnapshotFormat

extension ProcessState {
  /// In which order the threads but the main one are let go, by their places among these: `first` and `second` by the
  /// main one, each other one by the one whose `next` it is.
  ///
  /// The thread that waits on the connection on which every clone is given its first answer goes first, and lets no
  /// other one go.
  var threadOrder: (first: Int?, second: Int?, next: [Int: Int]) {
    let reader = threads.firstIndex { waitsOnConnection($0) }
    let rest = threads.indices.dropFirst().filter { $0 != reader }.map { $0 - 1 }
    let next = Dictionary(uniqueKeysWithValues: zip(rest, rest.dropFirst()))
    guard let reader, reader > 0 else { return (rest.first, nil, next) }
    return (reader - 1, rest.first, next)
  }

  /// Whether a thread waits to read from the supplied connection, or for an epoll set that has it.
  private func waitsOnConnection(_ thread: ThreadState) -> Bool {
    // read, readv, recvfrom, recvmsg; epoll_wait, epoll_pwait, epoll_pwait2: all have the descriptor first.
    guard [0, 19, 45, 47, 232, 281, 441].contains(thread.registers[.origRax]) else { return false }
    let connections = descriptors.filter { $0.kind == .supplied(.connection) }.map(\.number)
    return descriptors.contains { descriptor in
      guard descriptor.number == thread.registers[.rdi] else { return false }
      if case .epoll(let entries) = descriptor.kind { return entries.contains { connections.contains($0.target) } }
      return connections.contains(descriptor.number)
    }
  }
}
