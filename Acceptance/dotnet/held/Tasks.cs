using System;
using System.Collections.Generic;
using System.Diagnostics;
using System.Linq;
using System.Text.RegularExpressions;
using System.Threading;
using System.Threading.Tasks;

namespace Held {
  /// <summary>Timers that tick, tasks that await; clocks, collections, exceptions, compiled expressions.</summary>
  public sealed class Tasks {
    const int Period = 200;

    readonly Stopwatch watch = Stopwatch.StartNew();
    readonly DateTime madeAt = DateTime.UtcNow;
    readonly Timer timer;
    readonly IDisposable periodic;
    readonly Func<CancellationToken, ValueTask<bool>> nextTick;
    long last;
    volatile bool backwards;
    int ticks;
    int periods;

    readonly Func<CancellationToken, ValueTask<string>> fromChannel;
    readonly Func<string, bool> toChannel;
    readonly TaskCompletionSource<string> promised = new TaskCompletionSource<string>();
    readonly CancellationTokenSource cancelled = new CancellationTokenSource();
    readonly CancellationTokenSource timeout = new CancellationTokenSource();
    readonly AsyncLocal<string> own = new AsyncLocal<string>();
    readonly Dictionary<string, Task<string>> tasks = new Dictionary<string, Task<string>>();
    readonly Regex regex = new Regex(@"^(?<name>[a-z]+)-(?<number>\d+)$", RegexOptions.Compiled);
    readonly List<byte[]> kept = new List<byte[]>();
    readonly WeakReference lost = Garbage();

    public Tasks() {
      timer = new Timer(state => Tick(), null, Period, Period);
      // PeriodicTimer and Channel: Mono's class library, against which this is compiled, does not have them.
      periodic = (IDisposable)Activator.CreateInstance(Type.GetType("System.Threading.PeriodicTimer"), TimeSpan.FromMilliseconds(Period));
      nextTick = Method<Func<CancellationToken, ValueTask<bool>>>(periodic, "WaitForNextTickAsync");
      var channel = Type.GetType("System.Threading.Channels.Channel, System.Threading.Channels")
        .GetMethod("CreateUnbounded", Type.EmptyTypes).MakeGenericMethod(typeof(string)).Invoke(null, null);
      fromChannel = Method<Func<CancellationToken, ValueTask<string>>>(Property(channel, "Reader"), "ReadAsync");
      toChannel = Method<Func<string, bool>>(Property(channel, "Writer"), "TryWrite");
      tasks["periods"] = Periods();
      tasks["channel"] = With("channel", async () => await fromChannel(CancellationToken.None));
      tasks["promised"] = With("promised", async () => await promised.Task);
      tasks["delay"] = With("delay", async () => {
        await Task.Delay(6000);
        return "over";
      });
      tasks["cancelled"] = With("cancelled", async () => await Cancelled(cancelled.Token));
      timeout.CancelAfter(6000);
      tasks["timeout"] = With("timeout", async () => await Cancelled(timeout.Token));
      tasks["both"] = With("both", async () => string.Join("+", await Task.WhenAll(promised.Task, tasks["delay"])));
      regex.Match("init-1");
      for (int i = 0; i < 100; i++) kept.Add(Filled(i));
      for (int i = 0; i < 3; i++) Faults(null, 0);
      while (Volatile.Read(ref ticks) < 2) Thread.Sleep(50);
    }

    void Tick() {
      var now = watch.ElapsedTicks;
      if (now < Interlocked.Exchange(ref last, now)) backwards = true;
      Interlocked.Increment(ref ticks);
    }

    static T Method<T>(object target, string name) {
      return (T)(object)Delegate.CreateDelegate(typeof(T), target, name);
    }

    static object Property(object target, string name) {
      return target.GetType().GetProperty(name).GetValue(target);
    }

    /// <summary>A task with a value of its own that flows with it.</summary>
    async Task<string> With(string name, Func<Task<string>> wait) {
      own.Value = name;
      var result = await wait();
      return own.Value == name ? result : "lost its AsyncLocal";
    }

    async Task<string> Periods() {
      while (await nextTick(CancellationToken.None)) periods++;
      return "disposed";
    }

    static async Task<string> Cancelled(CancellationToken token) {
      try {
        await Task.Delay(Timeout.Infinite, token);
        return "never";
      } catch (OperationCanceledException) {
        return "cancelled";
      }
    }

    static byte[] Filled(int i) {
      var bytes = new byte[10000];
      for (int j = 0; j < bytes.Length; j++) bytes[j] = (byte)(i + j);
      return bytes;
    }

    [System.Runtime.CompilerServices.MethodImpl(System.Runtime.CompilerServices.MethodImplOptions.NoInlining)]
    static WeakReference Garbage() {
      return new WeakReference(new byte[1000]);
    }

    /// <summary>Exceptions that are thrown, and that the kernel's signals become.</summary>
    static string Faults(string nothing, int zero) {
      var found = new List<object> {
        Clone.Outcome(() => nothing.Length), Clone.Outcome(() => 1 / zero), Clone.Outcome(() => new int[1][1 + zero]),
        Clone.Outcome(() => throw new InvalidOperationException()), Clone.Outcome(() => Clone.Soon(Later())),
      };
      return string.Join(" ", found);
    }

    static async Task<int> Later() {
      await Task.Yield();
      throw new FormatException();
    }

    public object Handle(Event input) {
      var goesOn = watch.ElapsedTicks >= Interlocked.Read(ref last);
      var clone = new Clone(input);
      int ticksAtFirst = Volatile.Read(ref ticks), periodsAtFirst = Volatile.Read(ref periods);
      var pending = true;
      foreach (var task in tasks.Values) pending &= !task.IsCompleted;

      // 200 MB, of which 100 MB stay for a while.
      var much = new List<byte[]>();
      for (int i = 0; i < 200; i++) {
        var bytes = new byte[1 << 20];
        for (int j = 0; j < bytes.Length; j += 4096) bytes[j] = (byte)i;
        much.Add(bytes);
        if (much.Count > 100) much.RemoveAt(0);
      }
      GC.Collect();
      var whole = true;
      for (int i = 0; i < kept.Count; i++) whole &= kept[i].SequenceEqual(Filled(i));
      for (int i = 0; i < much.Count; i++) whole &= much[i][4096] == i + 100;
      var faults = Faults(null, 0);

      clone.Overlap();
      toChannel(clone.Me);
      promised.SetResult(clone.Me);
      cancelled.Cancel();
      int elapsed = (int)watch.ElapsedMilliseconds, ticksNow = Volatile.Read(ref ticks), periodsNow = Volatile.Read(ref periods);
      periodic.Dispose();
      var ends = new Dictionary<string, string>();
      foreach (var task in tasks) ends[task.Key] = Clone.Soon(task.Value);
      var match = regex.Match(clone.Me);

      var reply = clone.Reply();
      reply["pending"] = pending;
      reply["counted on"] = ticksAtFirst >= 2 && periodsAtFirst >= 2;
      reply["ticking"] = ticksNow > ticksAtFirst && periodsNow > periodsAtFirst;
      // Never more than the clock says, as there would be if it had jumped.
      reply["no burst"] = ticksNow <= elapsed / Period + 1 && periodsNow <= elapsed / Period + 1;
      reply["goes on"] = goesOn && !backwards;
      reply["not counted"] = (long)(DateTime.UtcNow - madeAt).TotalMilliseconds - watch.ElapsedMilliseconds;
      reply["ends"] = ends;
      reply["collected"] = whole + ", " + lost.IsAlive + ", " + (GC.CollectionCount(2) > 0);
      reply["faults"] = faults;
      reply["regex"] = match.Groups["name"].Value + " " + match.Groups["number"].Value + " " + regex.IsMatch("-");
      GC.KeepAlive(timer);
      return reply;
    }
  }
}
