import CXXHash

/// The checksum of an image: XXH3, 128 bits (xxhash.h), in its canonical form.
///
/// It shows damage, not forgery: who may write the image may write the manifest beside it as well, so a
/// cryptographic hash without a key would promise no more. It is some ten times faster than SHA-256, which took longer than
/// reading the memory of a process and writing it together.
public struct ImageChecksum: ~Copyable {
  /// Length of a digest in bytes.
  public static let byteCount = 16
  private let state: OpaquePointer

  public init() {
    guard let state = XXH3_createState() else { preconditionFailure("no memory for a checksum") }
    XXH3_128bits_reset(state)
    self.state = state
  }

  deinit { XXH3_freeState(state) }

  /// Goes on with these bytes.
  public mutating func update(_ bytes: UnsafeRawBufferPointer) {
    XXH3_128bits_update(state, bytes.baseAddress, bytes.count)
  }

  /// The digest of all bytes so far, ``byteCount`` of them.
  public func digest() -> [UInt8] {
    var canonical = XXH128_canonical_t()
    XXH128_canonicalFromHash(&canonical, XXH3_128bits_digest(state))
    return withUnsafeBytes(of: canonical) { Array($0) }
  }
}
