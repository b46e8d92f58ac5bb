import NIOCore
import Testing

@testable import RuntimeAPI

@Suite("The session's state machine")
struct StateMachineTests {
  typealias Machine = RuntimeSession.StateMachine<Int>

  private let event = InvocationEvent(
    requestID: "one", deadlineMilliseconds: 0, invokedARN: "", traceID: nil, clientContext: nil, payload: ByteBuffer())

  /// A client that gave up waiting (a connection with a time limit) asks again on another connection.
  @Test func whoeverClosedItsConnectionMayAskAgain() {
    var machine = Machine(restored: false, snapStart: false)
    guard case .wait(first: true) = machine.next(1) else { return #expect(Bool(false), "not kept waiting") }
    machine.closed { $0 == 1 }
    guard case .wait(first: false) = machine.next(2) else { return #expect(Bool(false), "refused") }
    guard case .deliver(_, to: 2, first: false) = machine.invoke(event) else {
      return #expect(Bool(false), "not delivered to the second connection")
    }
  }

  @Test func theEventWaitsForWhoeverAsksAgain() {
    var machine = Machine(restored: false, snapStart: false)
    _ = machine.next(1)
    machine.closed { $0 == 1 }
    guard case .none = machine.invoke(event) else { return #expect(Bool(false), "given to a closed connection") }
    guard case .deliver(_, to: 2, first: false) = machine.next(2) else {
      return #expect(Bool(false), "not delivered")
    }
  }

  @Test func anotherConnectionsEndChangesNothing() {
    var machine = Machine(restored: false, snapStart: false)
    _ = machine.next(1)
    machine.closed { $0 == 7 }
    guard case .refuse(from: "Ready", to: "Ready") = machine.next(2) else {
      return #expect(Bool(false), "two may not wait at once")
    }
  }
}
