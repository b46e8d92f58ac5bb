import CRestoreProgram
import SnapshotFormat

/// The descriptors of all processes as if the first one had them all: its own with their numbers, the others' parked
/// above, from where their processes take them.
struct DescriptorUnion {
  private(set) var descriptors: [Descriptor]
  /// The directories in which relative names of sockets of other processes than the first are meant, by number.
  private(set) var directories: [UInt32: String] = [:]
  /// Where each process's descriptors are parked, by their numbers.
  private var parked: [[UInt32: UInt64]] = [[:]]

  init(_ processes: [ProcessState], parking: inout ParkingPlace) {
    descriptors = processes[0].descriptors.filter { !$0.isOfProcess }
    for process in processes.dropFirst() {
      var places: [UInt32: UInt64] = [:]
      for descriptor in process.descriptors where !descriptor.isOfProcess {
        if places[descriptor.description] == nil {
          let number = parking.next()
          places[descriptor.number] = number
          var copy = descriptor
          copy.number = UInt32(number)
          copy.description = copy.number
          copy.closeOnExec = true
          if let origin = descriptor.origin {
            copy.description =
              origin.process == 0 ? origin.number : UInt32(parked[Int(origin.process)][origin.number] ?? 0)
            copy.origin = nil
          }
          if case .socket = copy.kind { directories[copy.number] = process.workingDirectory }
          descriptors.append(copy)
        } else {
          places[descriptor.number] = places[descriptor.description]
        }
      }
      parked.append(places)
    }
  }

  /// In a process that was forked: its descriptors get their numbers; what the fork has copied besides is closed.
  func operations(ofProcess index: Int, _ own: [Descriptor], below base: UInt64) -> [Operation] {
    var operations: [Operation] = []
    var next: UInt64 = 0
    func close(before end: UInt64) {
      guard next < end else { return }
      operations.append(
        Operation(number: SystemCallNumber.close_range, arguments: [.value(next), .value(end - 1), 0]))
    }
    for descriptor in own {
      guard let place = parked[index][descriptor.number] else { continue }
      let number = UInt64(descriptor.number)
      close(before: number)
      operations.append(
        Operation(
          number: SystemCallNumber.dup3,
          arguments: [.value(place), .value(number), .value(descriptor.closeOnExec ? Flag.closeOnExec : 0)]))
      next = number + 1
    }
    close(before: base)
    return operations
  }
}

extension Descriptor {
  /// Whether it is a process descriptor: it cannot be made before the process.
  fileprivate var isOfProcess: Bool {
    if case .process = kind { true } else { false }
  }
}
