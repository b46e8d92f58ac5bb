// Stand-ins for what tests need of Amazon.Lambda.Core, source-compatible with its public interface; compiled by the tests.
using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.Threading.Tasks;

namespace Amazon.Lambda.Core {
  public interface ILambdaLogger {
    void Log(string message);
    void LogLine(string message);
  }

  public interface ICognitoIdentity {
    string IdentityId { get; }
    string IdentityPoolId { get; }
  }

  public interface IClientApplication {
    string AppPackageName { get; }
    string AppTitle { get; }
    string AppVersionCode { get; }
    string AppVersionName { get; }
    string InstallationId { get; }
  }

  public interface IClientContext {
    IDictionary<string, string> Environment { get; }
    IClientApplication Client { get; }
    IDictionary<string, string> Custom { get; }
  }

  public interface ILambdaContext {
    string AwsRequestId { get; }
    IClientContext ClientContext { get; }
    string FunctionName { get; }
    string FunctionVersion { get; }
    ICognitoIdentity Identity { get; }
    string InvokedFunctionArn { get; }
    ILambdaLogger Logger { get; }
    string LogGroupName { get; }
    string LogStreamName { get; }
    int MemoryLimitInMB { get; }
    TimeSpan RemainingTime { get; }
  }

  public interface ILambdaSerializer {
    T Deserialize<T>(Stream requestStream);
    void Serialize<T>(T response, Stream responseStream);
  }

  [AttributeUsage(AttributeTargets.Assembly | AttributeTargets.Method)]
  public sealed class LambdaSerializerAttribute : Attribute {
    public Type SerializerType { get; set; }

    public LambdaSerializerAttribute(Type serializerType) {
      SerializerType = serializerType;
    }
  }

  public static class SnapshotRestore {
    static readonly ConcurrentQueue<Func<ValueTask>> Before = new ConcurrentQueue<Func<ValueTask>>();
    static readonly ConcurrentQueue<Func<ValueTask>> After = new ConcurrentQueue<Func<ValueTask>>();

    internal static void CopyBeforeSnapshotCallbacksToRegistry(Action<Func<ValueTask>> register) {
      while (Before.TryDequeue(out var callback)) register(callback);
    }

    internal static void CopyAfterRestoreCallbacksToRegistry(Action<Func<ValueTask>> register) {
      while (After.TryDequeue(out var callback)) register(callback);
    }

    public static void RegisterBeforeSnapshot(Func<ValueTask> callback) {
      Before.Enqueue(callback);
    }

    public static void RegisterAfterRestore(Func<ValueTask> callback) {
      After.Enqueue(callback);
    }
  }
}
