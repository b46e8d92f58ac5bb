// The fields have the names of the wire: Lambda's own.
// swift-format-ignore-file: AlwaysUseLowerCamelCase

internal import Catalog
internal import Foundation

// Requests and answers with the field names of Lambda's model (botocore: lambda/2015-03-31/service-2.json). Only
// what is handled or must be refused.

struct EnvironmentWire: Codable { var Variables: [String: String]? }
struct SizeWire: Codable { var Size: Int }
struct SnapStartWire: Codable {
  var ApplyOn: String?
  var OptimizationStatus: String?
}
struct TracingWire: Codable { var Mode: String? }
/// Something of which only the presence matters.
struct AnyWire: Codable {
  var isEmpty: Bool
  init(from decoder: any Decoder) throws {
    if let list = try? decoder.unkeyedContainer() {
      isEmpty = (list.count ?? 0) == 0
    } else if let object = try? decoder.container(keyedBy: Key.self) {
      isEmpty = object.allKeys.allSatisfy { key in (try? object.decode(AnyWire.self, forKey: key))?.isEmpty ?? false }
    } else if let value = try? decoder.singleValueContainer() {
      isEmpty = value.decodeNil() || (try? value.decode(String.self)) == "" || (try? value.decode(Bool.self)) == false
    } else {
      isEmpty = true
    }
  }
  func encode(to encoder: any Encoder) throws {}
  private struct Key: CodingKey {
    var stringValue: String
    var intValue: Int? { nil }
    init(stringValue: String) { self.stringValue = stringValue }
    init?(intValue: Int) { nil }
  }
}

/// The configuration part that CreateFunction and UpdateFunctionConfiguration share.
struct ConfigurationRequest: Decodable {
  var FunctionName: String?
  var Runtime: String?
  var Role: String?
  var Handler: String?
  var Description: String?
  var Timeout: Int?
  var MemorySize: Int?
  var Environment: EnvironmentWire?
  var EphemeralStorage: SizeWire?
  var SnapStart: SnapStartWire?
  var TracingConfig: TracingWire?
  var Architectures: [String]?
  var PackageType: String?
  var Publish: Bool?
  var RevisionId: String?
  var Tags: [String: String]?
  var Code: CodeRequest?
  var Layers: AnyWire?
  var VpcConfig: AnyWire?
  var FileSystemConfigs: AnyWire?
  var ImageConfig: AnyWire?
  var DeadLetterConfig: AnyWire?
  var KMSKeyArn: String?
  var CodeSigningConfigArn: String?
}

struct CodeRequest: Decodable {
  var ZipFile: Data?
  var S3Bucket: String?
  var S3Key: String?
  var ImageUri: String?
  var Publish: Bool?
  var DryRun: Bool?
  var RevisionId: String?
  var Architectures: [String]?
}

struct PublishRequest: Decodable {
  var CodeSha256: String?
  var Description: String?
  var RevisionId: String?
}

struct RoutingWire: Codable { var AdditionalVersionWeights: [String: Double]? }

struct AliasRequest: Decodable {
  var Name: String?
  var FunctionVersion: String?
  var Description: String?
  var RoutingConfig: RoutingWire?
  var RevisionId: String?
}

struct FunctionConfigurationWire: Encodable {
  var FunctionName: String
  var FunctionArn: String
  var Runtime: String
  var Role: String
  var Handler: String
  var CodeSize: Int
  var Description: String
  var Timeout: Int
  var MemorySize: Int
  var LastModified: String
  var CodeSha256: String
  var Version: String
  var Environment: EnvironmentWire?
  var TracingConfig: TracingWire
  var RevisionId: String
  var State: String
  var StateReason: String?
  var StateReasonCode: String?
  var LastUpdateStatus: String
  var LastUpdateStatusReason: String?
  var LastUpdateStatusReasonCode: String?
  var PackageType = "Zip"
  var Architectures: [String]
  var EphemeralStorage: SizeWire
  var SnapStart: SnapStartWire
  var RuntimeVersionConfig: [String: String]
  var LoggingConfig: [String: String]

  init(_ version: FunctionVersion, arn: String) {
    FunctionName = version.name
    FunctionArn = arn
    Runtime = version.runtime
    Role = version.role
    Handler = version.handler
    CodeSize = version.codeSize
    Description = version.description
    Timeout = version.timeout
    MemorySize = version.memorySize
    LastModified = version.lastModified
    CodeSha256 = version.codeSHA256
    Version = version.version
    Environment = version.environment.isEmpty ? nil : EnvironmentWire(Variables: version.environment)
    TracingConfig = TracingWire(Mode: version.tracingMode)
    RevisionId = version.revisionID
    State = version.state.rawValue
    StateReason = version.stateReason
    StateReasonCode = version.stateReasonCode
    LastUpdateStatus = version.updateStatus.rawValue
    LastUpdateStatusReason = version.updateStatusReason
    LastUpdateStatusReasonCode = version.updateStatusReasonCode
    Architectures = [version.architecture]
    EphemeralStorage = SizeWire(Size: version.ephemeralStorage)
    SnapStart = SnapStartWire(
      ApplyOn: version.appliesSnapStart ? "PublishedVersions" : "None",
      OptimizationStatus: version.isOptimized ? "On" : "Off")
    RuntimeVersionConfig = [
      "RuntimeVersionArn": "arn:aws:lambda:\(arn.split(separator: ":")[3])::runtime:\(version.runtime)"
    ]
    LoggingConfig = ["LogFormat": "Text", "LogGroup": "/aws/lambda/\(version.name)"]
  }
}

struct CodeLocationWire: Encodable {
  var RepositoryType = "S3"
  var Location: String
}

struct GetFunctionWire: Encodable {
  var Configuration: FunctionConfigurationWire
  var Code: CodeLocationWire
  var Tags: [String: String]?
}

struct ListFunctionsWire: Encodable {
  var NextMarker: String?
  var Functions: [FunctionConfigurationWire]
}

struct ListVersionsWire: Encodable {
  var NextMarker: String?
  var Versions: [FunctionConfigurationWire]
}

struct AliasWire: Encodable {
  var AliasArn: String
  var Name: String
  var FunctionVersion: String
  var Description: String
  var RoutingConfig: RoutingWire?
  var RevisionId: String

  init(_ alias: FunctionAlias, functionARN: String) {
    AliasArn = "\(functionARN):\(alias.name)"
    Name = alias.name
    FunctionVersion = alias.version
    Description = alias.description
    RoutingConfig = alias.weights.isEmpty ? nil : RoutingWire(AdditionalVersionWeights: alias.weights)
    RevisionId = alias.revisionID
  }
}

struct ListAliasesWire: Encodable {
  var NextMarker: String?
  var Aliases: [AliasWire]
}

struct ErrorWire: Encodable {
  var `Type`: String
  var Message: String
  var Reason: String?
}
