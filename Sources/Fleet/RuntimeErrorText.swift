internal import FoundationEssentials
internal import NIOCore

/// What a runtime's error object says, for a person.
struct RuntimeErrorText: CustomStringConvertible {
  private struct Object: Decodable {
    var errorType: String?
    var errorMessage: String?
  }

  let description: String

  /// Reads an error object; what is none is taken as it is.
  init(_ body: ByteBuffer) {
    let object = try? JSONDecoder().decode(Object.self, from: Data(body.readableBytesView))
    let parts = [object?.errorType, object?.errorMessage].compactMap { $0 }
    description = parts.isEmpty ? String(buffer: body) : parts.joined(separator: ": ")
  }
}
