internal import Logging
internal import Linux
internal import Metering
internal import NIOCore
internal import Restore
internal import RuntimeAPI
internal import Runtimes
internal import Sandbox
internal import SystemPackage

extension Fleet {
  // MARK: Environments

  enum Started {
    case ready(Environment)
    /// Init failed: the error is the invocation's answer.
    case failed(InvocationResult)
  }

  func takeIdle(_ revision: String) -> Environment? {
    while let environment = idle[revision]?.popLast() {
      if environment.exit == nil {
        busy[ObjectIdentifier(environment)] = environment
        return environment
      }
      Task { await environment.end() }
    }
    return nil
  }

  func keep(_ environment: Environment) {
    busy[ObjectIdentifier(environment)] = nil
    let waiting = idle.values.reduce(0) { $0 + $1.count }
    // A timeout that fired just when the answer came has ended the session.
    guard isOpen, environment.exit == nil, !environment.session.isEnded,
      !discarded.contains(environment.function.revision),
      waiting < configuration.idleLimit
    else {
      // The reply does not wait for that.
      Task { await environment.end() }
      return
    }
    environment.idleSince = ContinuousClock.now
    idle[environment.function.revision, default: []].append(environment)
  }

  func giveUp(_ environment: Environment) async {
    busy[ObjectIdentifier(environment)] = nil
    await environment.end()
  }

  func start(_ function: FunctionSpecification) async throws(FleetError) -> Started {
    guard function.snapStart else { return try await startCold(function) }
    let template: Template
    do throws(RestoreError) {
      template = try await self.template(function)
    } catch {
      switch error.code {
      case .corrupt, .incompatible:
        logger.warning(
          "the snapshot of \(function.name):\(function.version) cannot be used, it is served by cold starts until a new one is there: \(error.message)"
        )
        await rebuild(function)
      case .templateGone, .failed:
        logger.error("the snapshot of \(function.name):\(function.version) could not be brought back: \(error.message)")
      }
      return try await startCold(function)
    }
    do {
      return try await restore(function, template)
    } catch let error as FleetError {
      throw error
    } catch let error as RestoreError {
      // A template that has gone is built anew by the next invocation.
      if error.code == .templateGone { await closeTemplate(function.revision, ifStill: template) }
      logger.error("a restore of \(function.name):\(function.version) failed: \(error.message)")
      return try await startCold(function)
    } catch {
      throw FleetError(code: .service, message: "\(error)")
    }
  }

  func makeEnvironment(
    _ function: FunctionSpecification, _ sandbox: Sandbox, session: RuntimeSession
  ) async throws -> Environment {
    try await Environment(
      function: function, sandbox: sandbox, session: session, log: newLog(function), group: group
    ) { [weak self] environment in await self?.processEnded(environment) }
  }

  /// The process of an environment has ended by itself: one that waits for work is of no use any more.
  private func processEnded(_ environment: Environment) async {
    let revision = environment.function.revision
    let waited =
      idle[revision]?.contains { $0 === environment } == true
      || armed[revision]?.contains { $0.environment === environment } == true
    guard waited else { return }
    idle[revision]?.removeAll { $0 === environment }
    armed[revision]?.removeAll { $0.environment === environment }
    await environment.end()
  }

  func newLog(_ function: FunctionSpecification) -> EnvironmentLog {
    let key = "\(function.name)/\(function.version)"
    let log =
      logs[key]
      ?? FunctionLog(directory: configuration.logDirectory, function: function.name, version: function.version)
    logs[key] = log
    environmentNumber += 1
    return EnvironmentLog(log: log, environment: "env-\(environmentNumber)")
  }

  func specification(
    _ function: FunctionSpecification, _ bundle: RuntimeBundle, seed: FilePath? = nil
  ) -> SandboxSpecification {
    SandboxSpecification(
      mounts: bundle.mounts.map { SandboxSpecification.Mount(source: $0.source, target: $0.target) }
        + [SandboxSpecification.Mount(source: function.codeDirectory, target: "/var/task")],
      temporarySeed: seed,
      temporaryBytes: function.ephemeralStorageMegabytes << 20,
      memoryBytes: function.memoryMegabytes << 20,
      cpus: Double(function.memoryMegabytes) / 1769)
  }

  func bundle(_ runtime: String) async throws(FleetError) -> RuntimeBundle {
    do throws(RuntimeBundleError) {
      return try await runtimes.bundle(runtime)
    } catch {
      throw FleetError(code: .runtimeUnavailable, message: error.message)
    }
  }

  // MARK: Cold starts

  enum InitializationType: String { case onDemand = "on-demand", snapStart = "snap-start" }

  enum Launched {
    case running(Environment)
    /// The runtime knows before it runs anything that the code cannot be started.
    case impossible(RuntimeLaunchError)
  }

  /// A sandbox in which the runtime has been started.
  func launch(_ function: FunctionSpecification) async throws(FleetError) -> Launched {
    let bundle = try await bundle(function.runtime)
    let start: RuntimeLaunch
    do throws(RuntimeLaunchError) {
      start = try bundle.launch(
        RuntimeFunction(
          handler: function.handler, codeDirectory: function.codeDirectory, environment: function.environment,
          memoryMegabytes: function.memoryMegabytes))
    } catch {
      let log = newLog(function)
      log.write("INIT_REPORT Init Duration: 0.00 ms\tPhase: init\tStatus: error\tError Type: \(error.type)")
      log.write("Error: \(error.message)\n\(error.type)")
      return .impossible(error)
    }
    do {
      let sandbox = try await pool.acquire(specification(function, bundle))
      let environment: Environment
      do {
        environment = try await makeEnvironment(
          function, sandbox, session: RuntimeSession(snapStart: function.snapStart))
      } catch {
        await sandbox.terminate()
        throw error
      }
      busy[ObjectIdentifier(environment)] = environment
      environment.log.write("INIT_START Runtime Version: \(bundle.identifier)")
      do {
        environment.processID = try await sandbox.start(
          arguments: start.arguments,
          environment: variables(function, start).map { "\($0.key)=\($0.value)" }, workingDirectory: "/var/task")
      } catch {
        await giveUp(environment)
        throw error
      }
      return .running(environment)
    } catch {
      throw FleetError(code: .service, message: "no execution environment could be made: \(error)")
    }
  }

  func variables(_ function: FunctionSpecification, _ start: RuntimeLaunch) -> [String: String] {
    let type: InitializationType = function.snapStart ? .snapStart : .onDemand
    var variables = [
      "PATH": "/usr/local/bin:/usr/bin:/bin:/opt/bin",
      "LD_LIBRARY_PATH": "/lib64:/usr/lib64:/var/runtime:/var/runtime/lib:/var/task:/var/task/lib:/opt/lib",
      "LANG": "C.UTF-8", "TZ": ":UTC", "HOME": "/tmp",
      "_HANDLER": function.handler, "LAMBDA_TASK_ROOT": "/var/task", "LAMBDA_RUNTIME_DIR": "/var/runtime",
      "AWS_LAMBDA_RUNTIME_API": "127.0.0.1:9001", "AWS_LAMBDA_FUNCTION_NAME": function.name,
      "AWS_LAMBDA_FUNCTION_VERSION": function.version,
      "AWS_LAMBDA_FUNCTION_MEMORY_SIZE": "\(function.memoryMegabytes)",
      "AWS_LAMBDA_INITIALIZATION_TYPE": type.rawValue,
      "AWS_REGION": configuration.region, "AWS_DEFAULT_REGION": configuration.region,
    ]
    if type == .onDemand {
      variables["AWS_LAMBDA_LOG_GROUP_NAME"] = "/aws/lambda/\(function.name)"
      variables["AWS_LAMBDA_LOG_STREAM_NAME"] =
        "\(LogTime.now().prefix(10).replacing("-", with: "/"))/[\(function.version)]\(environmentNumber)"
    }
    return variables.merging(start.environment) { $1 }
  }

  func startCold(_ function: FunctionSpecification) async throws(FleetError) -> Started {
    let clock = ContinuousClock()
    let begin = clock.now
    let environment: Environment
    switch try await launch(function) {
    case .running(let running): environment = running
    case .impossible(let error):
      return .failed(
        InvocationResult(
          payload: errorObject(type: error.type, message: "Error: \(error.message)"), functionError: "Unhandled",
          logTail: []))
    }
    environment.log.beginInvocation()
    environment.session.allowRestore()
    // Init has 10 s on demand, as on AWS; a slow one may go on within the function's own time after that.
    let limit = max(Duration.seconds(10), function.timeout)
    let timer = after(limit) { environment.session.end() }
    let outcome = await environment.session.initialized()
    timer.cancel()
    let duration = clock.now - begin
    switch outcome {
    case .ready, .waitingForRestore:
      environment.limitCPU()
      environment.log.write("INIT_REPORT Init Duration: \(duration.milliseconds) ms\tPhase: init\tStatus: success")
      environment.setOrigin(.cold(initialization: duration))
      return .ready(environment)
    case .failed(let error):
      return await initializationFailed(
        environment, after: duration, type: error.type, payload: Array(error.body.readableBytesView))
    case .ended:
      environment.drainOutput()
      let ended = reason(environment, limit: limit)
      return await initializationFailed(
        environment, after: duration, type: ended.type,
        payload: errorObject(type: ended.type, message: "Error: \(ended.text)"))
    }
  }

  private func initializationFailed(
    _ environment: Environment, after duration: Duration, type: String, payload: [UInt8]
  ) async -> Started {
    environment.drainOutput()
    environment.log.write(
      "INIT_REPORT Init Duration: \(duration.milliseconds) ms\tPhase: init\tStatus: error\tError Type: \(type)")
    let tail = environment.log.endInvocation()
    await giveUp(environment)
    return .failed(InvocationResult(payload: payload, functionError: "Unhandled", logTail: tail))
  }
}
