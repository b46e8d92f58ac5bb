using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Security.Cryptography;
using System.Text;
using System.Threading;
using System.Threading.Tasks;
using Amazon.Lambda.Core;

namespace Functions {
  public sealed class Order {
    public double[] Prices { get; set; }
    public Guid Id { get; set; }
    public Dictionary<string, int> Points { get; set; }
  }

  public sealed class Receipt {
    public double Total { get; set; }
    public Guid Id { get; set; }
    public int Points { get; set; }
    public int Invocation { get; set; }
    public Dictionary<string, object> Context { get; set; }
  }

  public sealed class Orders {
    int invocations;

    public async Task<Receipt> Handle(Order order, ILambdaContext context) {
      await Task.Delay(1);
      context.Logger.LogLine("an order of " + (order.Prices?.Length ?? 0));
      context.Logger.Log("a plain log");
      Console.WriteLine("on standard output");
      Console.Error.WriteLine("on standard error");
      return new Receipt {
        Total = (order.Prices ?? new double[0]).Sum(),
        Id = order.Id,
        Points = order.Points?.Values.Sum() ?? 0,
        Invocation = ++invocations,
        Context = new Dictionary<string, object> {
          { "name", context.FunctionName },
          { "version", context.FunctionVersion },
          { "arn", context.InvokedFunctionArn },
          { "request", context.AwsRequestId },
          { "memory", context.MemoryLimitInMB },
          { "hasTime", context.RemainingTime > TimeSpan.FromSeconds(1) },
          { "custom", context.ClientContext?.Custom },
          { "app", context.ClientContext?.Client?.AppTitle },
          { "type", Environment.GetEnvironmentVariable("AWS_LAMBDA_INITIALIZATION_TYPE") },
          { "runtime", Environment.Version.Major },
        },
      };
    }
  }

  /// <summary>Draws from every generator, all of which are in use when the snapshot is taken.</summary>
  public sealed class Numbers {
    static readonly string Id = Guid.NewGuid().ToString();
    // Mono's class library, against which this is compiled, does not have it.
    static readonly Random Shared = (Random)typeof(Random).GetProperty("Shared").GetValue(null);
    readonly RandomNumberGenerator secure = RandomNumberGenerator.Create();

    public Numbers() {
      Draw();
      // Each of a few threads of the pool, too.
      using (var all = new CountdownEvent(3)) {
        Task.WaitAll(Enumerable.Range(0, 3).Select(i => Task.Run(() => {
          DrawElsewhere();
          all.Signal();
          all.Wait();
        })).ToArray());
      }
    }

    static string DrawElsewhere() {
      var bytes = new byte[16];
      RandomNumberGenerator.Create().GetBytes(bytes);
      return Shared.NextDouble().ToString("R") + " " + Convert.ToBase64String(bytes);
    }

    Dictionary<string, object> Draw() {
      var bytes = new byte[16];
      secure.GetBytes(bytes);
      var others = new byte[16];
      RandomNumberGenerator.Create().GetBytes(others);
      var elsewhere = Task.Run(() => DrawElsewhere()).Result.Split(' ');
      return new Dictionary<string, object> {
        { "Random.Shared", Shared.NextDouble() },
        { "Random", new Random().NextDouble() },
        { "RandomNumberGenerator", Convert.ToBase64String(bytes) },
        { "a new RandomNumberGenerator", Convert.ToBase64String(others) },
        { "Random.Shared of the pool", elsewhere[0] },
        { "RandomNumberGenerator of the pool", elsewhere[1] },
        { "Guid", Guid.NewGuid().ToString() },
      };
    }

    public Dictionary<string, object> Handle(Dictionary<string, object> input) {
      return new Dictionary<string, object> { { "id", Id }, { "fresh", Draw() } };
    }
  }

  /// <summary>A serializer of the function's own: text in capitals.</summary>
  public sealed class Capitals : ILambdaSerializer {
    public T Deserialize<T>(Stream requestStream) {
      return (T)(object)new StreamReader(requestStream).ReadToEnd().Trim('"').ToUpperInvariant();
    }

    public void Serialize<T>(T response, Stream responseStream) {
      var bytes = Encoding.UTF8.GetBytes("\"" + response + "!\"");
      responseStream.Write(bytes, 0, bytes.Length);
    }
  }

  public static class Plain {
    public static int Add(List<int> numbers) {
      return numbers.Sum();
    }

    public static Stream Stream(Stream input) {
      var text = new StreamReader(input).ReadToEnd();
      return new MemoryStream(Encoding.UTF8.GetBytes("{\"length\":" + text.Length + "}"));
    }

    public static ValueTask<string> Later(string text) {
      return new ValueTask<string>(Task.Run(async () => {
        await Task.Delay(5);
        return text + " later";
      }));
    }

    [LambdaSerializer(typeof(Capitals))]
    public static string Capitals(string text, ILambdaContext context) {
      return text + " " + context.FunctionName.Length;
    }

    public static async Task Nothing() {
      await Task.Yield();
    }

    public static async Task<string> Fail(object input) {
      await Task.Yield();
      throw new InvalidOperationException("cannot do it", new ArgumentException("because of this"));
    }

    public static string Slow(object input) {
      Thread.Sleep(60000);
      return "late";
    }

    public static string Exit(object input) {
      Environment.Exit(7);
      return "never";
    }

    public static int Exhaust(object input) {
      var all = new List<byte[]>();
      while (true) {
        var bytes = new byte[1 << 24];
        for (int i = 0; i < bytes.Length; i += 4096) bytes[i] = 1;
        all.Add(bytes);
      }
    }
  }

  public sealed class Hooks {
    readonly List<string> events = new List<string> { "init" };
    readonly Guid shared = Guid.NewGuid();
    Guid own;

    public Hooks() {
      var mode = Environment.GetEnvironmentVariable("FAIL");
      foreach (var name in new[] { "1", "2" }) {
        SnapshotRestore.RegisterBeforeSnapshot(() => new ValueTask(Before(name, mode)));
        SnapshotRestore.RegisterAfterRestore(() => {
          events.Add("after " + name);
          own = Guid.NewGuid();
          if (mode == "after") throw new InvalidOperationException("cannot wake up");
          if (mode == "slow") Thread.Sleep(60000);
          return default(ValueTask);
        });
      }
    }

    async Task Before(string name, string mode) {
      await Task.Yield();
      events.Add("before " + name);
      if (mode == "before") throw new InvalidOperationException("no snapshot today");
    }

    public object Handle() {
      // Calls at the same time get environments of their own.
      Thread.Sleep(500);
      return new { events, shared, own };
    }
  }

  public sealed class BrokenInit {
    public BrokenInit() {
      throw new InvalidOperationException("the table is not there");
    }

    public string Handle() {
      return "never";
    }
  }

  /// <summary>Threads that wait, timers, tasks, files: all of it made before the snapshot and used after it.</summary>
  public sealed class Threads {
    readonly BlockingQueue queue = new BlockingQueue();
    readonly Timer timer;
    int ticks;

    sealed class BlockingQueue {
      readonly Queue<Action> actions = new Queue<Action>();

      public BlockingQueue() {
        for (int i = 0; i < 3; i++) new Thread(Run) { IsBackground = true }.Start();
      }

      void Run() {
        while (true) {
          Action action;
          lock (actions) {
            while (actions.Count == 0) Monitor.Wait(actions);
            action = actions.Dequeue();
          }
          action();
        }
      }

      public void Add(Action action) {
        lock (actions) {
          actions.Enqueue(action);
          Monitor.Pulse(actions);
        }
      }
    }

    public Threads() {
      timer = new Timer(state => Interlocked.Increment(ref ticks), null, 50, 50);
      File.WriteAllText("/tmp/state", "kept");
      Parallel.For(0, 8, i => Thread.SpinWait(1000));
    }

    public object Handle() {
      var done = new TaskCompletionSource<int>();
      queue.Add(() => done.SetResult(42));
      var before = ticks;
      Thread.Sleep(300);
      var garbage = new List<byte[]>();
      for (int i = 0; i < 2000; i++) {
        garbage.Add(new byte[1 << 16]);
        if (garbage.Count > 64) garbage.RemoveAt(0);
      }
      GC.Collect();
      byte[] digest;
      using (var hash = SHA256.Create()) digest = hash.ComputeHash(Encoding.ASCII.GetBytes("abc"));
      return new {
        queue = done.Task.Wait(5000) ? done.Task.Result : 0, ticking = ticks > before, file = File.ReadAllText("/tmp/state"),
        parallel = Enumerable.Range(0, 1000).AsParallel().Sum(), digest = BitConverter.ToString(digest, 0, 4), timer = timer != null,
      };
    }
  }
}
