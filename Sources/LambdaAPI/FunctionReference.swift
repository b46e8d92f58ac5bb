/// How a client names a function: a name, `name:qualifier`, a partial ARN (`123456789012:function:name`) or an ARN,
/// each with an optional qualifier.
struct FunctionReference: Equatable {
  var name: String
  var qualifier: String?

  /// Reads a reference; nil if it is none, or names another account or region.
  init?(_ text: String, account: String, region: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false).map(String.init)
    let rest: [String]
    switch parts.count {
    case 1, 2: rest = parts
    case 3...4 where parts[1] == "function":
      guard parts[0] == account else { return nil }
      rest = Array(parts[2...])
    case 7...8 where parts[0] == "arn" && parts[2] == "lambda" && parts[5] == "function":
      guard parts[1].hasPrefix("aws"), parts[3] == region, parts[4] == account else { return nil }
      rest = Array(parts[6...])
    default: return nil
    }
    guard FunctionReference.isName(rest[0]) else { return nil }
    name = rest[0]
    if rest.count > 1 {
      guard FunctionReference.isQualifier(rest[1]) else { return nil }
      qualifier = rest[1]
    }
  }

  /// `[a-zA-Z0-9-_]+`, at most 64 (Lambda's model, FunctionName).
  static func isName(_ text: String) -> Bool {
    (1...64).contains(text.utf8.count) && text.utf8.allSatisfy(isNameByte)
  }

  /// `$LATEST`, a number or an alias: `(|[a-zA-Z0-9$_-]+)`, at most 128.
  static func isQualifier(_ text: String) -> Bool {
    (1...128).contains(text.utf8.count) && text.utf8.allSatisfy { isNameByte($0) || $0 == 0x24 }
  }

  private static func isNameByte(_ byte: UInt8) -> Bool {
    switch byte {
    case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x5f: true
    default: false
    }
  }
}
