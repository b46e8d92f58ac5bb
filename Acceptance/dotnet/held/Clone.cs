using System;
using System.Collections.Generic;
using System.IO;
using System.Threading;
using System.Threading.Tasks;

namespace Held {
  public sealed class Event {
    public string Me { get; set; }
    public long Until { get; set; }
  }

  /// <summary>What tells clones of one snapshot apart, and what keeps them there at the same time.</summary>
  sealed class Clone {
    static int invocations;
    readonly Dictionary<string, object> identity;
    readonly long until;

    public readonly string Me;

    /// <summary>At the beginning of an invocation, of its event.</summary>
    public Clone(Event input) {
      Me = input.Me;
      until = input.Until;
      identity = new Dictionary<string, object> {
        { "invocation", Interlocked.Increment(ref invocations) },
        { "uts", Namespace("uts") },
        { "net", Namespace("net") },
        { "began", Now },
      };
    }

    static object Namespace(string kind) {
      // Mono's class library, against which this is compiled, does not have it.
      return typeof(FileInfo).GetProperty("LinkTarget").GetValue(new FileInfo("/proc/self/ns/" + kind));
    }

    public static long Now {
      get { return DateTimeOffset.UtcNow.ToUnixTimeMilliseconds(); }
    }

    /// <summary>Returns when all clones are there.</summary>
    public void Overlap() {
      Thread.Sleep((int)Math.Max(0, until - Now));
    }

    /// <summary>A reply, to which the function adds what it found.</summary>
    public Dictionary<string, object> Reply() {
      identity["ended"] = Now;
      return new Dictionary<string, object> { { "clone", identity } };
    }

    /// <summary>The result, or the type of what was thrown.</summary>
    public static object Outcome(Func<object> attempt) {
      try {
        return attempt();
      } catch (Exception error) {
        return (error is AggregateException ? error.InnerException : error).GetType().Name;
      }
    }

    /// <summary>The result of a task that ends soon.</summary>
    public static T Soon<T>(Task<T> task) {
      return task.Wait(10000) ? task.Result : throw new TimeoutException("a task did not end after the restore");
    }

    /// <summary>Runs a wait in a thread of its own.</summary>
    public static Task<T> Start<T>(Func<T> wait) {
      return Task.Factory.StartNew(wait, CancellationToken.None, TaskCreationOptions.LongRunning, TaskScheduler.Default);
    }
  }
}
