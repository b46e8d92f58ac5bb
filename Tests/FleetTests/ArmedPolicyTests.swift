import Testing

@testable import Fleet

@Suite("Which versions have armed environments")
struct ArmedPolicyTests {
  private let now = ContinuousClock.now
  private func policy(limit: Int = 3) -> ArmedPolicy {
    ArmedPolicy(limit: limit, memoryBytes: 100, idleTimeout: .seconds(600))
  }

  @Test func aVersionThatWasNotStartedHasNone() {
    #expect(policy().target("a", at: now) == 0)
  }

  @Test func oneAfterAStartUntilItsTimeIsOver() {
    var policy = policy()
    policy.started("a", at: now)
    #expect(policy.target("a", at: now + .seconds(599)) == 1)
    #expect(policy.target("a", at: now + .seconds(601)) == 0)
    #expect(policy.target("b", at: now) == 0)
  }

  @Test func oneForEachStartOfABurstUpToTheLimit() {
    var policy = policy()
    for _ in 0..<2 { policy.started("a", at: now) }
    #expect(policy.target("a", at: now) == 2)
    for _ in 0..<50 { policy.started("a", at: now) }
    #expect(policy.target("a", at: now) == 3)
    #expect(policy.target("a", at: now + .seconds(11)) == 1)
  }

  @Test func noneWhereTheyAreTurnedOff() {
    var policy = policy(limit: 0)
    policy.started("a", at: now)
    #expect(policy.target("a", at: now) == 0)
  }

  @Test func noneForAVersionThatIsGone() {
    var policy = policy()
    policy.started("a", at: now)
    policy.forget("a")
    #expect(policy.target("a", at: now) == 0)
  }

  @Test func givenUpUnderMemoryPressureUntilItIsWellOver() {
    var policy = policy()
    policy.started("a", at: now)
    policy.memoryIs(available: 9, of: 100)
    #expect(policy.target("a", at: now) == 0)
    #expect(!policy.allows(1, beside: 0))
    policy.memoryIs(available: 12, of: 100)
    #expect(policy.target("a", at: now) == 0)
    policy.memoryIs(available: 16, of: 100)
    #expect(policy.target("a", at: now) == 1)
  }

  @Test func togetherTheyCopyNoMoreThanTheirShare() {
    #expect(policy().allows(40, beside: 60))
    #expect(!policy().allows(41, beside: 60))
  }
}
