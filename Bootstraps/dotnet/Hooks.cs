using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Threading.Tasks;

namespace Thaw.Dotnet {
  /// <summary>
  /// The callbacks that the function registered with Amazon.Lambda.Core.SnapshotRestore. That class hands them over to runtimes by two methods, which
  /// take an action for each of them.
  /// </summary>
  static class Hooks {
    sealed class Collector {
      public readonly List<Func<ValueTask>> Callbacks = new List<Func<ValueTask>>();

      public void Add(Func<ValueTask> callback) {
        Callbacks.Add(callback);
      }
    }

    static List<Func<ValueTask>> Collect(string name) {
      var collector = new Collector();
      foreach (var assembly in AppDomain.CurrentDomain.GetAssemblies().Where(assembly => assembly.GetName().Name == "Amazon.Lambda.Core")) {
        var method = assembly.GetType("Amazon.Lambda.Core.SnapshotRestore")?.GetMethod(name, BindingFlags.Static | BindingFlags.NonPublic | BindingFlags.Public);
        method?.Invoke(null, new object[] { new Action<Func<ValueTask>>(collector.Add) });
      }
      return collector.Callbacks;
    }

    /// <summary>In the reverse order of registration.</summary>
    public static void BeforeSnapshot() {
      var callbacks = Collect("CopyBeforeSnapshotCallbacksToRegistry");
      callbacks.Reverse();
      foreach (var callback in callbacks) callback().AsTask().GetAwaiter().GetResult();
    }

    /// <summary>In the order of registration. They are collected before the snapshot: hooks that run before it may register some.</summary>
    public static Action AfterRestore() {
      var callbacks = Collect("CopyAfterRestoreCallbacksToRegistry");
      return () => {
        foreach (var callback in callbacks) callback().AsTask().GetAwaiter().GetResult();
      };
    }
  }
}
