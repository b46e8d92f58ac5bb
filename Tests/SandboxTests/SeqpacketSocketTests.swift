import Foundation
import Linux
import SystemPackage
import Testing

/// Messages keep their boundaries, and descriptors travel along.
@Suite("SEQPACKET sockets", .timeLimit(.minutes(1)))
struct SeqpacketSocketTests {
  /// A pair with both ends as sockets.
  private func pair() throws -> (SeqpacketSocket, SeqpacketSocket) {
    let pair = try SeqpacketSocket.pair()
    return (pair.own, SeqpacketSocket(owning: pair.other))
  }

  @Test func keepsBoundaries() throws {
    let (one, other) = try pair()
    try one.send([1, 2, 3])
    try one.send([4])
    #expect(try other.receive()?.bytes == [1, 2, 3])
    #expect(try other.receive()?.bytes == [4])
  }

  @Test func carriesDescriptors() throws {
    let (one, other) = try pair()
    let pipe = try FileDescriptor.pipe()
    try one.send([7], descriptors: [pipe.readEnd, pipe.writeEnd])
    let message = try #require(try other.receive())
    #expect(message.descriptors.count == 2)
    try pipe.readEnd.close()
    try pipe.writeEnd.close()
    try message.descriptors[1].closeAfter { _ = try message.descriptors[1].writeAll([42]) }
    var byte: [UInt8] = [0]
    try message.descriptors[0].closeAfter {
      let flags = fcntl(message.descriptors[0].rawValue, F_GETFD)
      #expect(flags & FD_CLOEXEC != 0)
      _ = try byte.withUnsafeMutableBytes { try message.descriptors[0].read(into: $0) }
    }
    #expect(byte == [42])
  }

  @Test func tellsTheSender() throws {
    let pair = try SeqpacketSocket.pair()
    let other = SeqpacketSocket(owning: pair.other)
    try other.send([1])
    #expect(try pair.own.receive()?.sender == getpid())
    try other.send([2], descriptors: [FileDescriptor](repeating: .standardInput, count: 32))
    let full = try #require(try pair.own.receive())
    #expect(full.sender == getpid() && full.descriptors.count == 32)
    for descriptor in full.descriptors { try descriptor.close() }
    try pair.own.send([3])
    #expect(try other.receive()?.sender == 0)
  }

  @Test func answersWithoutWaiting() throws {
    let (one, other) = try pair()
    #expect { try other.receive(waiting: false) } throws: {
      ($0 as? SystemCallError)?.errno == .resourceTemporarilyUnavailable
    }
    one.close()
  }

  @Test func refusesWhatIsTooLong() throws {
    let (one, other) = try pair()
    try one.send([UInt8](repeating: 0, count: 100), descriptors: [FileDescriptor.standardInput])
    #expect { try other.receive(maximum: 10) } throws: { ($0 as? SystemCallError)?.errno == .messageTooLong }
    let many = [FileDescriptor](repeating: .standardInput, count: 33)
    #expect { try one.send([0], descriptors: many) } throws: { ($0 as? SystemCallError)?.errno == .invalidArgument }
  }

  @Test func tellsTheEnd() throws {
    let (one, other) = try pair()
    try one.send([9])
    one.close()
    one.close()
    #expect(try other.receive()?.bytes == [9])
    #expect(try other.receive() == nil)
    #expect { try one.send([1]) } throws: { ($0 as? SystemCallError)?.errno == .brokenPipe }
  }

  @Test(arguments: [true, false])
  func readerSeesEverythingAndThenTheEnd(_ closesItself: Bool) async throws {
    let (one, other) = try pair()
    let (messages, told) = AsyncStream.makeStream(of: [UInt8]?.self)
    other.readMessages { message in
      told.yield(message?.bytes)
      if message == nil { told.finish() }
    }
    for number in 0..<100 { try one.send([UInt8(number)]) }
    var seen: [UInt8] = []
    var ended = false
    for await message in messages {
      guard let message else {
        ended = true
        break
      }
      seen += message
      if seen.count == 100 { closesItself ? other.close() : one.close() }
    }
    #expect(ended)
    #expect(seen == Array(0..<100))
  }
}
