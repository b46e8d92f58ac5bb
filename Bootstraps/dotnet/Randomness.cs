using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.InteropServices;
using System.Threading;

namespace Thaw.Dotnet {
  /// <summary>
  /// Reseeds generators of random numbers whose state would be the same in every clone of a snapshot: Random.Shared, and OpenSSL's, from which
  /// RandomNumberGenerator takes. Guid.NewGuid takes from the kernel. Generators that the function made for itself are its own to reseed; so is
  /// Random.Shared where a thread of the function's own had drawn from it before the snapshot, because each thread has its own state.
  /// </summary>
  static class Randomness {
    const int PatienceMilliseconds = 200;
    /// <summary>Of 64 bits: the state of Random.Shared.</summary>
    const int Words = 4;

    static readonly List<object> ofPool = new List<object>();
    static FieldInfo shared;
    static FieldInfo[] state = new FieldInfo[0];
    static bool hasOpenSsl;

    [DllImport("libcrypto.so.3", EntryPoint = "RAND_add")]
    static extern void AddToOpenSsl(byte[] bytes, int count, double entropy);

    static byte[] Fresh(int count) {
      var bytes = new byte[count];
      using (var source = new FileStream("/dev/urandom", FileMode.Open, FileAccess.Read, FileShare.ReadWrite, 1)) {
        for (var done = 0; done < count;) done += source.Read(bytes, done, count - done);
      }
      return bytes;
    }

    /// <summary>Before the snapshot: looks up and compiles what the clones need.</summary>
    public static void Prepare() {
      shared = typeof(Random).GetNestedType("ThreadSafeRandom", BindingFlags.NonPublic)?.GetField("t_random", BindingFlags.Static | BindingFlags.NonPublic);
      hasOpenSsl = File.ReadLines("/proc/self/maps").Any(line => line.Contains("/libcrypto.so.3"));
      if (shared != null) {
        state = shared.FieldType.GetFields(BindingFlags.Instance | BindingFlags.NonPublic).Where(field => field.FieldType == typeof(ulong)).ToArray();
        FindOfPool();
      }
      Reseed();
    }

    /// <summary>
    /// The generators of the thread pool's threads, on which tasks of init have run and those of events will: each thread tells its own. Threads that are
    /// busy for longer than this waits are left out.
    /// </summary>
    static void FindOfPool() {
      var count = (int)typeof(ThreadPool).GetProperty("ThreadCount").GetValue(null);
      if (count == 0) return;
      // Not disposed of: a thread that was busy comes here later.
      var all = new CountdownEvent(count);
      for (var i = 0; i < count; i++) {
        ThreadPool.UnsafeQueueUserWorkItem(nothing => {
          var generator = shared.GetValue(null);
          if (generator != null) {
            lock (ofPool) ofPool.Add(generator);
          }
          all.Signal();
          all.Wait(PatienceMilliseconds);
        }, null);
      }
      all.Wait(PatienceMilliseconds);
    }

    /// <summary>After the restore, before any callback of the function's. What fails is said, and keeps no invocation from running.</summary>
    public static void Reseed() {
      try {
        // The thread's generator is made anew at its next use, with a seed of the kernel's.
        shared?.SetValue(null, null);
        if (hasOpenSsl) AddToOpenSsl(Fresh(48), 48, 48.0);
        if (state.Length != Words) throw new MissingFieldException("Random.Shared does not look like that of .NET 8");
        lock (ofPool) {
          if (ofPool.Count == 0) return;
          var seeds = Fresh(8 * state.Length * ofPool.Count);
          for (var i = 0; i < ofPool.Count; i++) {
            for (var j = 0; j < state.Length; j++) state[j].SetValue(ofPool[i], BitConverter.ToUInt64(seeds, 8 * (i * state.Length + j)));
          }
        }
      } catch (Exception error) {
        Console.Error.WriteLine("thaw: generators of random numbers could not be reseeded after the restore: " + error);
      }
    }
  }
}
