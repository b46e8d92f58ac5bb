import Foundation
import SnapshotFormat
import Testing

@testable import Restore

/// Manifests with a right checksum and wrong values, as an attacker or a broken writer would make them: each is refused,
/// or compiled to a program, and never more than that. A trap of Swift's ends the whole run.
///
/// Runs for two seconds; THAW_FUZZ_SECONDS makes it longer.
@Suite("Hostile manifests")
struct HostileManifestTests {
  /// A generator that gives the same series for the same seed (SplitMix64).
  private struct Generator: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
      state &+= 0x9e37_79b9_7f4a_7c15
      var word = state
      word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
      word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
      return word ^ (word >> 31)
    }
  }

  private static let interesting: [UInt64] = [
    0, 1, 2, 7, 8, 0x7f, 0x80, 0xff, 0xfff, 0x1000, 0x1001, 0xffff, 0x7fff_ffff, 0x8000_0000, 0xffff_ffff,
    0x1_0000_0000, 0x7fff_ffff_f000, 0x7fff_ffff_ffff_ffff, 0x8000_0000_0000_0000, .max - 0xfff, .max,
  ]

  private func mutate(_ body: [UInt8], _ random: inout Generator) -> [UInt8] {
    var bytes = body
    for _ in 0..<Int.random(in: 1...4, using: &random) {
      let place = Int.random(in: 20..<bytes.count, using: &random)
      switch Int.random(in: 0..<6, using: &random) {
      case 0: bytes[place] = UInt8.random(in: 0...255, using: &random)
      case 1: bytes[place] ^= 1 << UInt8.random(in: 0..<8, using: &random)
      case 2, 3:
        // A whole word, as most values are.
        let size = Bool.random(using: &random) ? 8 : 4
        let word = HostileManifestTests.interesting.randomElement(using: &random) ?? 0
        for offset in 0..<size where place + offset < bytes.count {
          bytes[place + offset] = UInt8(truncatingIfNeeded: word >> (8 * UInt64(offset)))
        }
      case 4: bytes.removeSubrange(place..<min(bytes.count, place + Int.random(in: 1...16, using: &random)))
      default: bytes.insert(contentsOf: bytes[place..<min(bytes.count, place + 16)], at: place)
      }
      if bytes.count < 64 { return body }
    }
    return bytes
  }

  @Test func anyValueIsRefusedOrHarmless() throws {
    let seconds = ProcessInfo.processInfo.environment["THAW_FUZZ_SECONDS"].flatMap(Double.init) ?? 2
    let seed = ProcessInfo.processInfo.environment["THAW_FUZZ_SEED"].flatMap(UInt64.init) ?? 1
    let body = Array(sample().encode().dropLast(32))
    #expect(throws: Never.self) { try ProgramCompiler.compile(sample()) }
    let end = ContinuousClock.now + .seconds(seconds)
    var random = Generator(state: seed)
    var counts = (tried: 0, refused: 0, compiled: 0, notCompiled: 0)
    while ContinuousClock.now < end {
      counts.tried += 1
      let signed = SnapshotManifest.sign(mutate(body, &random))
      guard let manifest = try? SnapshotManifest(decoding: signed) else {
        counts.refused += 1
        continue
      }
      if (try? ProgramCompiler.compile(manifest)) != nil { counts.compiled += 1 } else { counts.notCompiled += 1 }
    }
    // The mutations reach both ends: some manifests are refused, some are as good as before.
    #expect(counts.refused > 10 && counts.compiled > 10, "\(counts)")
    print("hostile manifests: \(counts)")
  }
}
