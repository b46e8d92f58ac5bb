internal import Crypto
public import Foundation

/// A key pair with which requests are signed.
public struct Credentials: Sendable, Equatable {
  /// Twenty characters, `AKIA...`.
  public var accessKeyID: String
  /// Forty characters.
  public var secretAccessKey: String

  /// A key pair.
  public init(accessKeyID: String, secretAccessKey: String) {
    self.accessKeyID = accessKeyID
    self.secretAccessKey = secretAccessKey
  }
}

/// A request as Signature Version 4 sees it.
struct SignedRequest {
  var method: String
  /// As sent, percent-encoded.
  var path: String
  /// As sent, without the question mark.
  var query: String
  /// Lower-case names; several values of one name joined with commas.
  var headers: [String: String]
  var body: [UInt8]
}

/// Checks AWS Signature Version 4 (AWS General Reference, "Create a signed AWS API request").
struct SignatureVerifier {
  let credentials: Credentials
  let region: String
  let service = "lambda"
  /// How far a request's time may be from now.
  static let skew: TimeInterval = 300

  /// Throws the error that AWS answers to a request that is not, wrongly, or no longer validly signed.
  func verify(_ request: SignedRequest, now: Date = Date()) throws(APIError) {
    guard let authorization = request.headers["authorization"] else {
      throw APIError(403, "MissingAuthenticationTokenException", "Missing Authentication Token")
    }
    let algorithm = "AWS4-HMAC-SHA256"
    guard authorization.hasPrefix(algorithm + " ") else {
      throw APIError(403, "IncompleteSignatureException", "Authorization header requires '\(algorithm)'.")
    }
    var fields: [String: String] = [:]
    for part in authorization.dropFirst(algorithm.count + 1).split(separator: ",") {
      let pair = part.split(separator: "=", maxSplits: 1)
      if pair.count == 2 {
        fields[pair[0].trimmingCharacters(in: .whitespaces)] = pair[1].trimmingCharacters(in: .whitespaces)
      }
    }
    for name in ["Credential", "SignedHeaders", "Signature"] where fields[name] == nil {
      throw APIError(403, "IncompleteSignatureException", "Authorization header requires '\(name)' parameter.")
    }
    let scope = (fields["Credential"] ?? "").split(separator: "/", omittingEmptySubsequences: false).map(String.init)
    guard scope.count == 5 else {
      throw APIError(403, "IncompleteSignatureException", "Credential must have exactly 5 slash-delimited elements.")
    }
    guard scope[0] == credentials.accessKeyID else {
      throw APIError(
        403, "UnrecognizedClientException", "The security token included in the request is invalid.")
    }
    guard let stamp = request.headers["x-amz-date"], let time = SignatureVerifier.time(stamp) else {
      throw APIError(
        403, "IncompleteSignatureException", "Authorization header requires existence of a valid 'X-Amz-Date' header.")
    }
    guard scope[2] == region, scope[3] == service, scope[4] == "aws4_request", stamp.hasPrefix(scope[1]) else {
      throw APIError(
        403, "InvalidSignatureException",
        "Credential should be scoped to a valid region, service and day: here \(stamp.prefix(8))/\(region)/\(service)/aws4_request, not \(scope.dropFirst().joined(separator: "/"))."
      )
    }
    let nowStamp = SignatureVerifier.stamp(now)
    if time < now.addingTimeInterval(-SignatureVerifier.skew) {
      throw APIError(
        403, "InvalidSignatureException",
        "Signature expired: \(stamp) is now earlier than \(SignatureVerifier.stamp(now.addingTimeInterval(-SignatureVerifier.skew))) (\(nowStamp) - 5 min.)"
      )
    }
    if time > now.addingTimeInterval(SignatureVerifier.skew) {
      throw APIError(
        403, "InvalidSignatureException",
        "Signature not yet current: \(stamp) is still later than \(SignatureVerifier.stamp(now.addingTimeInterval(SignatureVerifier.skew))) (\(nowStamp) + 5 min.)"
      )
    }
    let signed = (fields["SignedHeaders"] ?? "").split(separator: ";").map(String.init)
    guard signed.contains("host") else {
      throw APIError(403, "InvalidSignatureException", "'Host' must be a 'SignedHeader' in the AWS Authorization.")
    }
    let bodyHash = hexadecimal(SHA256.hash(data: request.body))
    let claimed = request.headers["x-amz-content-sha256"] ?? bodyHash
    guard claimed == bodyHash || claimed == "UNSIGNED-PAYLOAD" else { throw mismatch }
    let canonical = [
      request.method, SignatureVerifier.encode(request.path, keepingSlashes: true), canonicalQuery(request.query),
      signed.map { "\($0):\(collapse(request.headers[$0] ?? ""))\n" }.joined(), signed.joined(separator: ";"), claimed,
    ].joined(separator: "\n")
    let scopeText = scope.dropFirst().joined(separator: "/")
    let toSign = [
      algorithm, stamp, scopeText, hexadecimal(SHA256.hash(data: Array(canonical.utf8))),
    ].joined(separator: "\n")
    var key = SymmetricKey(data: Array("AWS4\(credentials.secretAccessKey)".utf8))
    for part in scope.dropFirst() {
      key = SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(part.utf8), using: key))
    }
    guard let given = bytes(ofHexadecimal: fields["Signature"] ?? ""),
      // Compares in constant time.
      HMAC<SHA256>.isValidAuthenticationCode(given, authenticating: Array(toSign.utf8), using: key)
    else { throw mismatch }
  }

  private var mismatch: APIError {
    APIError(
      403, "InvalidSignatureException",
      "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details."
    )
  }

  private func canonicalQuery(_ query: String) -> String {
    query.split(separator: "&").map { pair -> (String, String) in
      let parts = pair.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
      func recode(_ text: Substring) -> String {
        SignatureVerifier.encode(text.removingPercentEncoding ?? String(text), keepingSlashes: false)
      }
      return (recode(parts[0]), parts.count > 1 ? recode(parts[1]) : "")
    }
    .sorted { $0 < $1 }.map { "\($0.0)=\($0.1)" }.joined(separator: "&")
  }

  private func collapse(_ value: String) -> String {
    value.split(separator: " ", omittingEmptySubsequences: true).joined(separator: " ")
  }

  /// Percent-encodes all but unreserved characters. A path is encoded once more than it was sent.
  static func encode(_ text: String, keepingSlashes: Bool) -> String {
    var result = ""
    for byte in text.utf8 {
      switch byte {
      case 0x30...0x39, 0x41...0x5a, 0x61...0x7a, 0x2d, 0x2e, 0x5f, 0x7e:
        result.unicodeScalars.append(Unicode.Scalar(byte))
      case 0x2f where keepingSlashes: result += "/"
      default:
        let digits = String(byte, radix: 16, uppercase: true)
        result += digits.utf8.count == 1 ? "%0" + digits : "%" + digits
      }
    }
    return result
  }

  /// `20261124T120000Z`.
  static func stamp(_ date: Date) -> String {
    var time = time_t(date.timeIntervalSince1970)
    var parts = tm()
    gmtime_r(&time, &parts)
    return String(
      format: "%04d%02d%02dT%02d%02d%02dZ", Int(parts.tm_year) + 1900, Int(parts.tm_mon) + 1, Int(parts.tm_mday),
      Int(parts.tm_hour), Int(parts.tm_min), Int(parts.tm_sec))
  }

  static func time(_ stamp: String) -> Date? {
    let digits = stamp.utf8.filter { $0 >= 0x30 && $0 <= 0x39 }.map { Int32($0) - 0x30 }
    guard stamp.utf8.count == 16, digits.count == 14 else { return nil }
    func number(_ range: Range<Int>) -> Int32 { digits[range].reduce(0) { $0 * 10 + $1 } }
    var parts = tm()
    parts.tm_year = number(0..<4) - 1900
    parts.tm_mon = number(4..<6) - 1
    parts.tm_mday = number(6..<8)
    parts.tm_hour = number(8..<10)
    parts.tm_min = number(10..<12)
    parts.tm_sec = number(12..<14)
    return Date(timeIntervalSince1970: TimeInterval(timegm(&parts)))
  }
}

/// Lower-case hexadecimal digits.
func hexadecimal(_ bytes: some Sequence<UInt8>) -> String {
  let digits = Array("0123456789abcdef".utf8)
  var result: [UInt8] = []
  for byte in bytes {
    result.append(digits[Int(byte >> 4)])
    result.append(digits[Int(byte & 15)])
  }
  return String(decoding: result, as: UTF8.self)
}

private func bytes(ofHexadecimal text: String) -> [UInt8]? {
  let digits = text.utf8.compactMap { Character(Unicode.Scalar($0)).hexDigitValue }
  guard digits.count == text.utf8.count, digits.count % 2 == 0 else { return nil }
  return stride(from: 0, to: digits.count, by: 2).map { UInt8(digits[$0] << 4 | digits[$0 + 1]) }
}

/// Signs requests, as this program's own client does.
public struct RequestSigner {
  private let credentials: Credentials
  private let region: String

  /// A signer with a key pair.
  public init(credentials: Credentials, region: String) {
    self.credentials = credentials
    self.region = region
  }

  /// The headers that sign a request without a body and without a query.
  public func headers(method: String, path: String, host: String, now: Date = Date()) -> [(String, String)] {
    let stamp = SignatureVerifier.stamp(now)
    let scope = [String(stamp.prefix(8)), region, "lambda", "aws4_request"]
    let canonical = [
      method, SignatureVerifier.encode(path, keepingSlashes: true), "", "host:\(host)\nx-amz-date:\(stamp)\n",
      "host;x-amz-date", hexadecimal(SHA256.hash(data: [UInt8]())),
    ].joined(separator: "\n")
    let toSign = [
      "AWS4-HMAC-SHA256", stamp, scope.joined(separator: "/"), hexadecimal(SHA256.hash(data: Array(canonical.utf8))),
    ].joined(separator: "\n")
    var key = SymmetricKey(data: Array("AWS4\(credentials.secretAccessKey)".utf8))
    for part in scope {
      key = SymmetricKey(data: HMAC<SHA256>.authenticationCode(for: Array(part.utf8), using: key))
    }
    let signature = hexadecimal(HMAC<SHA256>.authenticationCode(for: Array(toSign.utf8), using: key))
    let authorization =
      "AWS4-HMAC-SHA256 Credential=\(credentials.accessKeyID)/\(scope.joined(separator: "/")), "
      + "SignedHeaders=host;x-amz-date, Signature=\(signature)"
    return [("Host", host), ("X-Amz-Date", stamp), ("Authorization", authorization)]
  }
}
