internal import Catalog
internal import Fleet
internal import Foundation
internal import HTTPTypes
internal import Hummingbird

extension LambdaAPI {
  /// Runtimes of Lambda's model that are known by name, though not all can be run here.
  static let knownRuntimes = [
    "nodejs18.x", "nodejs20.x", "nodejs22.x", "nodejs24.x", "java8.al2", "java11", "java17", "java21", "java25",
    "python3.9", "python3.10", "python3.11", "python3.12", "python3.13", "python3.14", "dotnet6", "dotnet8",
    "dotnet10", "go1.x", "ruby3.2", "ruby3.3", "ruby3.4", "provided", "provided.al2", "provided.al2023",
  ]

  /// Everything below /2015-03-31/functions.
  func functions(_ call: Call) async throws -> Response {
    let segments = call.segments
    if segments.count == 2 {
      switch call.method {
      case .post: return try await createFunction(call)
      case .get: return try listFunctions(call)
      default: throw unknown(call)
      }
    }
    let reference = try reference(segments[2])
    switch (call.method, segments.count, segments.dropFirst(3).first) {
    case (.get, 3, _): return try getFunction(call, reference)
    case (.delete, 3, _): return try await deleteFunction(call, reference)
    case (.get, 4, "configuration"): return try getConfiguration(call, reference)
    case (.put, 4, "configuration"): return try await updateConfiguration(call, reference)
    case (.put, 4, "code"): return try await updateCode(call, reference)
    case (.post, 4, "versions"): return try await publishVersion(call, reference)
    case (.get, 4, "versions"): return try listVersions(call, reference)
    case (.post, 4, "invocations"): return try await invoke(call, reference)
    case (.post, 4, "aliases"): return try createAlias(call, reference)
    case (.get, 4, "aliases"): return try listAliases(call, reference)
    case (.get, 5, "aliases"):
      return try alias(200, try catalog.alias(reference.name, segments[4]))
    case (.put, 5, "aliases"): return try updateAlias(call, reference, segments[4])
    case (.delete, 5, "aliases"):
      try catalog.deleteAlias(reference.name, segments[4])
      return Response(status: .noContent)
    default: throw unknown(call)
    }
  }

  private func reference(_ text: String) throws(APIError) -> FunctionReference {
    if let reference = FunctionReference(text, account: names.account, region: names.region) { return reference }
    var validation = Validation()
    validation.length(text, "functionName", 1...140)
    validation.pattern(text, "functionName", Validation.Pattern.functionName)
    try validation.check()
    // A well-formed ARN of somebody else's.
    throw APIError(
      403, "AccessDeniedException", "\(text) is not in account \(names.account) and region \(names.region)")
  }

  private func qualifier(_ call: Call, _ reference: FunctionReference) throws(APIError) -> String? {
    guard let given = call.parameters["Qualifier"] else { return reference.qualifier }
    guard FunctionReference.isQualifier(given) else {
      throw .validation(
        "1 validation error detected: Value '\(given)' at 'qualifier' failed to satisfy constraint: Member must satisfy regular expression pattern: (|[a-zA-Z0-9$_-]+)"
      )
    }
    if let own = reference.qualifier, own != given {
      throw .invalidParameter(
        "The derived qualifier from the function name does not match the specified qualifier.")
    }
    return given
  }

  func configuration(_ version: FunctionVersion, qualified: Bool) -> FunctionConfigurationWire {
    FunctionConfigurationWire(
      version, arn: names.arn(qualified ? "\(version.name):\(version.version)" : version.name))
  }

  // MARK: Create and update

  private func createFunction(_ call: Call) async throws -> Response {
    let request: ConfigurationRequest = try call.decode()
    var validation = Validation()
    validation.present(request.FunctionName, "functionName")
    validation.present(request.Role, "role")
    validation.present(request.Code, "code")
    validation.length(request.FunctionName, "functionName", 1...140)
    validation.pattern(request.FunctionName, "functionName", Validation.Pattern.functionName)
    check(request, &validation)
    try validation.check()
    guard let given = request.FunctionName,
      let reference = FunctionReference(given, account: names.account, region: names.region), reference.qualifier == nil
    else {
      throw APIError.invalidParameter(
        "The name \(request.FunctionName ?? "") is not a name of at most 64 characters, or an ARN of account \(names.account) in \(names.region)"
      )
    }
    guard let runtime = request.Runtime, let handler = request.Handler else {
      throw APIError.invalidParameter(
        "Runtime and Handler are mandatory parameters for functions created with deployment packages.")
    }
    try refuseUnsupported(request)
    try checkSnapStart(request.SnapStart, runtime: runtime, storage: request.EphemeralStorage?.Size ?? 512)
    try checkVariables(request.Environment?.Variables)
    guard catalog.list(allVersions: false).allSatisfy({ $0.name != reference.name }) else {
      throw APIError.conflict("Function already exist: \(reference.name)")
    }
    let stored = try await store(request.Code)
    defer { code.release(stored) }
    let version = try catalog.create(
      FunctionVersion(
        name: reference.name, functionID: UUID().uuidString.lowercased(), runtime: runtime, handler: handler,
        role: request.Role ?? "", description: request.Description ?? "", timeout: request.Timeout ?? 3,
        memorySize: request.MemorySize ?? 128, ephemeralStorage: request.EphemeralStorage?.Size ?? 512,
        environment: request.Environment?.Variables ?? [:], architecture: request.Architectures?.first ?? "x86_64",
        tracingMode: request.TracingConfig?.Mode ?? "PassThrough", tags: request.Tags ?? [:], code: stored,
        appliesSnapStart: request.SnapStart?.ApplyOn == "PublishedVersions"))
    await lifecycle.begin(version)
    if request.Publish == true {
      let published = try await publishWhenReady(version)
      return try LambdaAPI.json(201, configuration(published, qualified: true))
    }
    return try LambdaAPI.json(201, configuration(version, qualified: false))
  }

  /// `Publish: true`: the version is cut as soon as `$LATEST` is ready, which takes long only when the runtime has
  /// to be installed first.
  private func publishWhenReady(_ version: FunctionVersion) async throws -> FunctionVersion {
    while true {
      let current = try catalog.resolve(version.name, qualifier: nil)
      if current.state != .pending, current.updateStatus != .inProgress { break }
      try await Task.sleep(for: .milliseconds(20))
    }
    let (published, isNew) = try catalog.publish(version.name, description: nil, codeSHA256: nil, revisionID: nil)
    if isNew, published.state == .pending { await lifecycle.begin(published) }
    return published
  }

  private func check(_ request: ConfigurationRequest, _ validation: inout Validation) {
    validation.oneOf(request.Runtime, "runtime", LambdaAPI.knownRuntimes)
    validation.pattern(request.Role, "role", Validation.Pattern.role)
    validation.length(request.Handler, "handler", 1...128)
    validation.pattern(request.Handler, "handler", Validation.Pattern.handler)
    validation.length(request.Description, "description", 0...256)
    validation.range(request.Timeout, "timeout", 1...900)
    validation.range(request.MemorySize, "memorySize", 128...10240)
    validation.range(request.EphemeralStorage?.Size, "ephemeralStorage.size", 512...10240)
    validation.oneOf(request.SnapStart?.ApplyOn, "snapStart.applyOn", ["PublishedVersions", "None"])
    validation.oneOf(request.TracingConfig?.Mode, "tracingConfig.mode", ["Active", "PassThrough"])
    validation.oneOf(request.PackageType, "packageType", ["Zip", "Image"])
    for architecture in request.Architectures ?? [] {
      validation.oneOf(architecture, "architectures", ["x86_64", "arm64"])
    }
    for name in (request.Environment?.Variables ?? [:]).keys.sorted() {
      validation.pattern(name, "environment.variables", Validation.Pattern.variable)
    }
  }

  /// What is valid on AWS and not done here is said, never ignored.
  private func refuseUnsupported(_ request: ConfigurationRequest) throws(APIError) {
    if request.PackageType == "Image" || request.Code?.ImageUri != nil || request.ImageConfig?.isEmpty == false {
      throw .invalidParameter("Container images are not supported by Thaw yet: use a zip archive.")
    }
    if request.Code?.S3Bucket != nil || request.Code?.S3Key != nil {
      throw .invalidParameter("Code in S3 is not supported by Thaw yet: give it as ZipFile.")
    }
    let fields: [(AnyWire?, String)] = [
      (request.Layers, "Layers"), (request.VpcConfig, "VpcConfig"), (request.FileSystemConfigs, "FileSystemConfigs"),
      (request.DeadLetterConfig, "DeadLetterConfig"),
    ]
    for (value, name) in fields where value?.isEmpty == false {
      throw .invalidParameter("\(name) is not supported by Thaw yet.")
    }
    if let architecture = request.Architectures?.first, architecture != "x86_64" {
      throw .invalidParameter("The architecture \(architecture) is not this host's: x86_64.")
    }
  }

  private func checkSnapStart(_ setting: SnapStartWire?, runtime: String, storage: Int) throws(APIError) {
    guard setting?.ApplyOn == "PublishedVersions" else { return }
    // SnapStart needs python3.12, java11, dotnet8 or later, or a custom runtime, which has to call restore/next.
    func number(_ prefix: String) -> Double? {
      runtime.hasPrefix(prefix) ? Double(runtime.dropFirst(prefix.count)) : nil
    }
    let supported =
      (runtime.hasPrefix("python3.") && (Int(runtime.dropFirst(8)) ?? 0) >= 12) || (number("java") ?? 0) >= 11
      || (number("dotnet") ?? 0) >= 8 || runtime.hasPrefix("provided.al2")
    guard supported else {
      throw .invalidParameter("\(runtime) is not supported for SnapStart enabled functions.")
    }
    guard storage <= 512 else {
      throw .invalidParameter("SnapStart is not supported with ephemeral storage above 512 MB.")
    }
  }

  private func checkVariables(_ variables: [String: String]?) throws(APIError) {
    guard let variables else { return }
    let reserved = variables.keys.filter(Validation.reservedVariables.contains).sorted()
    guard reserved.isEmpty else {
      throw .invalidParameter(
        "Lambda was unable to configure your environment variables because the environment variables you have provided contains reserved keys that are currently not supported for modification. Reserved keys used in this request: \(reserved.joined(separator: ", "))"
      )
    }
    let size = variables.reduce(0) { $0 + $1.key.utf8.count + $1.value.utf8.count }
    guard size <= 4096 else {
      throw .invalidParameter(
        "Lambda was unable to configure your environment variables because the environment variables you have provided exceeded the 4KB limit. String measured: \(size) bytes"
      )
    }
  }

  /// Unpacks off the event loops; the caller releases the code when the catalog names it.
  private func store(_ request: CodeRequest?) async throws -> StoredCode {
    guard let zip = request?.ZipFile, !zip.isEmpty else {
      throw APIError.invalidParameter("Please provide a source for function code.")
    }
    let code = code
    return try await withCheckedThrowingContinuation { continuation in
      DispatchQueue.global().async { continuation.resume(with: Result { try code.store(Array(zip)) }) }
    }
  }

  private func updateCode(_ call: Call, _ reference: FunctionReference) async throws -> Response {
    let request: CodeRequest = try call.decode()
    _ = try catalog.resolve(reference.name, qualifier: nil)
    if request.S3Bucket != nil || request.ImageUri != nil {
      throw APIError.invalidParameter("Only code given as ZipFile is supported by Thaw yet.")
    }
    let stored = try await store(request)
    defer { code.release(stored) }
    if request.DryRun == true {
      return try LambdaAPI.json(
        200, configuration(try catalog.resolve(reference.name, qualifier: nil), qualified: false))
    }
    let (old, new) = try catalog.update(reference.name, revisionID: request.RevisionId) { version in
      version.codeSHA256 = stored.sha256
      version.codeID = stored.id
      version.codeSize = stored.size
    }
    await lifecycle.begin(new, replacing: old)
    if request.Publish == true {
      return try LambdaAPI.json(200, configuration(try await publishWhenReady(new), qualified: true))
    }
    return try LambdaAPI.json(200, configuration(new, qualified: false))
  }

  private func updateConfiguration(_ call: Call, _ reference: FunctionReference) async throws -> Response {
    let request: ConfigurationRequest = try call.decode()
    let current = try catalog.resolve(reference.name, qualifier: nil)
    var validation = Validation()
    check(request, &validation)
    try validation.check()
    try refuseUnsupported(request)
    try checkVariables(request.Environment?.Variables)
    let applies = request.SnapStart ?? SnapStartWire(ApplyOn: current.appliesSnapStart ? "PublishedVersions" : "None")
    try checkSnapStart(
      applies, runtime: request.Runtime ?? current.runtime,
      storage: request.EphemeralStorage?.Size ?? current.ephemeralStorage)
    let (old, new) = try catalog.update(reference.name, revisionID: request.RevisionId) { version in
      version.runtime = request.Runtime ?? version.runtime
      version.role = request.Role ?? version.role
      version.handler = request.Handler ?? version.handler
      version.description = request.Description ?? version.description
      version.timeout = request.Timeout ?? version.timeout
      version.memorySize = request.MemorySize ?? version.memorySize
      version.ephemeralStorage = request.EphemeralStorage?.Size ?? version.ephemeralStorage
      version.tracingMode = request.TracingConfig?.Mode ?? version.tracingMode
      if let variables = request.Environment { version.environment = variables.Variables ?? [:] }
      if let applyOn = request.SnapStart?.ApplyOn { version.appliesSnapStart = applyOn == "PublishedVersions" }
    }
    await lifecycle.begin(new, replacing: old)
    return try LambdaAPI.json(200, configuration(new, qualified: false))
  }

  private func deleteFunction(_ call: Call, _ reference: FunctionReference) async throws -> Response {
    let deleted = try catalog.delete(reference.name, qualifier: try qualifier(call, reference))
    await lifecycle.end(deleted)
    return Response(status: .noContent)
  }

  // MARK: Read

  private func getFunction(_ call: Call, _ reference: FunctionReference) throws -> Response {
    let qualifier = try qualifier(call, reference)
    let version = try catalog.resolve(reference.name, qualifier: qualifier)
    let host = call.headers["host"] ?? "127.0.0.1"
    return try LambdaAPI.json(
      200,
      GetFunctionWire(
        Configuration: configuration(version, qualified: qualifier != nil),
        Code: CodeLocationWire(
          Location: "http://\(host)/thaw/code/\(version.codeID).zip?token=\(token(version.codeID))"),
        Tags: version.tags.isEmpty ? nil : version.tags))
  }

  private func getConfiguration(_ call: Call, _ reference: FunctionReference) throws -> Response {
    let qualifier = try qualifier(call, reference)
    return try LambdaAPI.json(
      200, configuration(try catalog.resolve(reference.name, qualifier: qualifier), qualified: qualifier != nil))
  }

  /// A page of `all` from the one after `Marker` on; the marker is the last key of the page before.
  private func page<Item>(_ call: Call, _ all: [Item], key: (Item) -> String) throws -> (items: [Item], next: String?) {
    var limit = 50
    if let text = call.parameters["MaxItems"] {
      guard let number = Int(text) else {
        throw APIError(400, "SerializationException", "MaxItems is not a number: \(text)")
      }
      var validation = Validation()
      validation.range(number, "maxItems", 1...10000)
      try validation.check()
      limit = min(number, 50)
    }
    var start = 0
    if let marker = call.parameters["Marker"], !marker.isEmpty {
      guard let data = Data(base64Encoded: marker), let last = String(data: data, encoding: .utf8) else {
        throw APIError.invalidParameter("Invalid Marker: \(marker)")
      }
      // What was deleted meanwhile does not end the listing: it goes on behind its place.
      let keys = all.map(key)
      start = keys.firstIndex(of: last).map { $0 + 1 } ?? keys.firstIndex { $0 > last } ?? all.count
    }
    let items = Array(all.dropFirst(start).prefix(limit))
    let more = start + items.count < all.count
    return (items, more ? items.last.map { Data(key($0).utf8).base64EncodedString() } : nil)
  }

  private func listFunctions(_ call: Call) throws -> Response {
    var validation = Validation()
    validation.oneOf(call.parameters["FunctionVersion"], "functionVersion", ["ALL"])
    try validation.check()
    let all = call.parameters["FunctionVersion"] == "ALL"
    let (items, next) = try page(call, catalog.list(allVersions: all)) { "\($0.name):\($0.version)" }
    return try LambdaAPI.json(
      200, ListFunctionsWire(NextMarker: next, Functions: items.map { configuration($0, qualified: all) }))
  }

  private func listVersions(_ call: Call, _ reference: FunctionReference) throws -> Response {
    let (items, next) = try page(call, try catalog.versions(reference.name)) { $0.version }
    return try LambdaAPI.json(
      200, ListVersionsWire(NextMarker: next, Versions: items.map { configuration($0, qualified: true) }))
  }

  // MARK: Versions and aliases

  private func publishVersion(_ call: Call, _ reference: FunctionReference) async throws -> Response {
    let request: PublishRequest = try call.decode()
    var validation = Validation()
    validation.length(request.Description, "description", 0...256)
    try validation.check()
    let (version, isNew) = try catalog.publish(
      reference.name, description: request.Description, codeSHA256: request.CodeSha256, revisionID: request.RevisionId)
    if isNew, version.state == .pending { await lifecycle.begin(version) }
    return try LambdaAPI.json(201, configuration(version, qualified: true))
  }

  private func alias(_ status: Int, _ alias: FunctionAlias) throws -> Response {
    try LambdaAPI.json(status, AliasWire(alias, functionARN: names.arn(alias.function)))
  }

  private func check(_ request: AliasRequest, creating: Bool) throws(APIError) {
    var validation = Validation()
    if creating {
      validation.present(request.Name, "name")
      validation.present(request.FunctionVersion, "functionVersion")
    }
    validation.length(request.Name, "name", 1...128)
    validation.pattern(request.Name, "name", Validation.Pattern.alias)
    validation.pattern(request.FunctionVersion, "functionVersion", Validation.Pattern.version)
    validation.length(request.Description, "description", 0...256)
    try validation.check()
    let weights = request.RoutingConfig?.AdditionalVersionWeights ?? [:]
    guard weights.count <= 1 else {
      throw .invalidParameter("Number of items in AdditionalVersionWeights cannot be greater than 1")
    }
    for (version, weight) in weights {
      guard (0...1).contains(weight) else {
        throw .validation(
          "1 validation error detected: Value '\(weight)' at 'routingConfig.additionalVersionWeights.\(version)' failed to satisfy constraint: Member must have value between 0.0 and 1.0"
        )
      }
      guard version != "$LATEST", request.FunctionVersion != "$LATEST" else {
        throw .invalidParameter("$LATEST is not supported for an alias pointing to more than 1 version")
      }
      guard version != request.FunctionVersion else {
        throw .invalidParameter(
          "Invalid function version \(version). Function version \(version) is already included in routing configuration."
        )
      }
    }
  }

  private func createAlias(_ call: Call, _ reference: FunctionReference) throws -> Response {
    let request: AliasRequest = try call.decode()
    try check(request, creating: true)
    let name = request.Name ?? ""
    do {
      return try alias(
        201,
        try catalog.createAlias(
          FunctionAlias(
            function: reference.name, name: name, version: request.FunctionVersion ?? "",
            description: request.Description ?? "", weights: request.RoutingConfig?.AdditionalVersionWeights ?? [:])))
    } catch CatalogError.conflict {
      throw APIError.conflict("Alias already exists: \(names.arn("\(reference.name):\(name)"))")
    }
  }

  private func updateAlias(_ call: Call, _ reference: FunctionReference, _ name: String) throws -> Response {
    let request: AliasRequest = try call.decode()
    try check(request, creating: false)
    return try alias(
      200,
      try catalog.updateAlias(reference.name, name, revisionID: request.RevisionId) { alias in
        alias.version = request.FunctionVersion ?? alias.version
        alias.description = request.Description ?? alias.description
        if let routing = request.RoutingConfig { alias.weights = routing.AdditionalVersionWeights ?? [:] }
      })
  }

  private func listAliases(_ call: Call, _ reference: FunctionReference) throws -> Response {
    let (items, next) = try page(
      call, try catalog.aliases(reference.name, version: call.parameters["FunctionVersion"])
    ) { $0.name }
    return try LambdaAPI.json(
      200,
      ListAliasesWire(
        NextMarker: next, Aliases: items.map { AliasWire($0, functionARN: names.arn(reference.name)) }))
  }
}
