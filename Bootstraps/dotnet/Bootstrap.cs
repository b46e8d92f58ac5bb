using System;
using System.Collections.Generic;
using System.IO;
using System.Reflection;
using System.Runtime;
using System.Text;
using System.Threading;

[assembly: AssemblyTitle("Runs Lambda functions that are class libraries")]

namespace Thaw.Dotnet {
  /// <summary>
  /// Runs a function that is a class library: loads its handler, waits in restore/next under SnapStart, and answers events one by one.
  /// </summary>
  static class Bootstrap {
    const int PrimingRounds = 200;

    static int Main(string[] arguments) {
      var root = Environment.GetEnvironmentVariable("LAMBDA_TASK_ROOT") ?? "/var/task";
      // The function's libraries: whatever is not of the runtime.
      AppDomain.CurrentDomain.AssemblyResolve += (sender, request) => {
        var path = Path.Combine(root, new AssemblyName(request.Name).Name + ".dll");
        return File.Exists(path) ? Assembly.LoadFrom(path) : null;
      };
      var client = new RuntimeClient(Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API"));
      Handler handler;
      try {
        handler = Handler.Load(arguments.Length > 0 ? arguments[0] : Environment.GetEnvironmentVariable("_HANDLER") ?? "", root);
      } catch (Exception error) {
        Console.Error.WriteLine(error.InnerException ?? error);
        client.InitError("Runtime.InvalidHandler", Json.Error(error));
        return 1;
      }
      if (Environment.GetEnvironmentVariable("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start" && !Snapshot(client, handler)) return 64;
      while (true) {
        var answer = client.Next();
        if (answer.Status != 200) throw new IOException("invocation/next answers " + answer.Status);
        Run(client, handler, answer);
      }
    }

    static void Run(RuntimeClient client, Handler handler, Answer answer) {
      Environment.SetEnvironmentVariable("_X_AMZN_TRACE_ID", answer.Header("lambda-runtime-trace-id"));
      var request = answer.Header("lambda-runtime-aws-request-id");
      byte[] response;
      try {
        response = handler.Call(answer);
      } catch (Exception error) {
        Console.Error.WriteLine(error);
        client.Fail(request, error.GetType().Name, Json.Error(error));
        return;
      }
      client.Respond(request, response);
    }

    /// <summary>Everything up to the call of restore/next is in the snapshot; every environment begins with its answer.</summary>
    static bool Snapshot(RuntimeClient client, Handler handler) {
      Action afterRestore;
      try {
        Hooks.BeforeSnapshot();
        afterRestore = Hooks.AfterRestore();
      } catch (Exception error) {
        Console.Error.WriteLine(error);
        client.InitError("Runtime.BeforeSnapshotError", Json.Error(error));
        return false;
      }
      Prime(handler);
      Randomness.Prepare();
      Shrink();
      client.RestoreNext();
      Randomness.Reseed();
      try {
        afterRestore();
      } catch (Exception error) {
        Console.Error.WriteLine(error);
        client.RestoreError("Runtime.AfterRestoreError", Json.Error(error));
        return false;
      }
      return true;
    }

    public enum Choice { First, Second }

    /// <summary>A bean with a bit of everything, and a handler that takes and gives it: the serializer has code of its own for each type of value.</summary>
    public sealed class Sample {
      public string Text { get; set; }
      public string Long { get; set; }
      public double Number { get; set; }
      public float Small { get; set; }
      public int Count { get; set; }
      public long Big { get; set; }
      public decimal Price { get; set; }
      public bool Flag { get; set; }
      public DateTime Time { get; set; }
      public DateTimeOffset Moment { get; set; }
      public Guid Name { get; set; }
      public Choice Choice { get; set; }
      public int? Maybe { get; set; }
      public double? MaybeNumber { get; set; }
      public bool? MaybeFlag { get; set; }
      public DateTime? MaybeTime { get; set; }
      public int[] Numbers { get; set; }
      public List<double> Measures { get; set; }
      public string[] Words { get; set; }
      public List<Sample> List { get; set; }
      public Dictionary<string, object> Map { get; set; }
      public Dictionary<string, string> Texts { get; set; }
      public Dictionary<string, int> Counts { get; set; }

      public static Sample Handle(Sample sample) {
        return sample;
      }
    }

    /// <summary>What every event needs of this bootstrap is loaded and compiled before the snapshot. The function's code is compiled, but not run.</summary>
    static void Prime(Handler handler) {
      var answer = new Answer { Status = 200 };
      answer.Headers["lambda-runtime-aws-request-id"] = "00000000-0000-0000-0000-000000000000";
      answer.Headers["lambda-runtime-deadline-ms"] = "1";
      // Texts as they are, with what must be escaped, and longer than the widest vector.
      const string Event = "{\"text\":\"a \\\"text\\\"\",\"long\":\"Lorem ipsum dolor sit amet, consectetur adipiscing elit, \\\"sed\\\" do eiusmod t\u00e9mpor\",\"number\":1.5,"
        + "\"small\":2.5,\"count\":3,\"big\":9007199254740993,\"price\":12.34,\"flag\":true,\"time\":\"2024-01-02T03:04:05Z\",\"moment\":\"2024-01-02T03:04:05+01:00\","
        + "\"name\":\"00000000-0000-0000-0000-000000000001\",\"choice\":1,\"maybe\":null,\"maybeNumber\":0.5,\"maybeFlag\":false,\"maybeTime\":\"2024-01-02T03:04:05\","
        + "\"numbers\":[1,2],\"measures\":[0.1],\"words\":[\"Lorem ipsum dolor sit amet, consectetur adipiscing elit\"],\"list\":[{\"text\":\"x\",\"maybe\":7}],"
        + "\"map\":{\"a\":[1,true,null]},\"texts\":{\"key\":\"value\"},\"counts\":{\"key\":1},\"other\":{\"is\":[\"skipped\"]}}";
      answer.Body = Encoding.UTF8.GetBytes(Event);
      var own = Handler.Load("Thaw.Dotnet::" + typeof(Sample).FullName + "::Handle", Path.GetDirectoryName(typeof(Bootstrap).Assembly.Location));
      for (int i = 0; i < PrimingRounds; i++) own.Call(answer);
      Json.Error(new InvalidOperationException("primed", new ArgumentException("")));
      // The serializer sweeps a cache when it looks at a type and 200 ms have passed since the last one: once now, instead of in every clone.
      Thread.Sleep(250);
      Json.Prime(typeof(LambdaContext.ClientContext));
      // Only now: the serializer's settings are fixed when they are first used.
      handler.Prime(answer);
      Console.Out.Write("");
      Console.Error.Write("");
    }

    /// <summary>What is freed is given back to the kernel, and is not in the image.</summary>
    static void Shrink() {
      // Methods that were called often are compiled again, 100 ms after the last new one was compiled: now, instead of in every clone.
      Thread.Sleep(400);
      for (int i = 0; i < 2; i++) {
        GCSettings.LargeObjectHeapCompactionMode = GCLargeObjectHeapCompactionMode.CompactOnce;
        // GCCollectionMode.Aggressive of .NET 7 and later.
        GC.Collect(GC.MaxGeneration, (GCCollectionMode)3, true, true);
        GC.WaitForPendingFinalizers();
      }
    }
  }
}
