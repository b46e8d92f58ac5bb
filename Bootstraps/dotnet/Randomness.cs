using System;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.InteropServices;

namespace Thaw.Dotnet {
  /// <summary>
  /// Reseeds generators of random numbers whose state would be the same in every clone of a snapshot: Random.Shared, and OpenSSL's, from which
  /// RandomNumberGenerator takes. Guid.NewGuid takes from the kernel. Generators that the function made for itself are its own to reseed; so is
  /// Random.Shared where another thread had drawn from it before the snapshot, because each thread has its own state.
  /// </summary>
  static class Randomness {
    static FieldInfo shared;
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
      Reseed();
    }

    /// <summary>After the restore, before any callback of the function's. What fails is said, and keeps no invocation from running.</summary>
    public static void Reseed() {
      try {
        // The thread's generator is made anew at its next use, with a seed of the kernel's.
        shared?.SetValue(null, null);
        if (hasOpenSsl) AddToOpenSsl(Fresh(48), 48, 48.0);
      } catch (Exception error) {
        Console.Error.WriteLine("thaw: generators of random numbers could not be reseeded after the restore: " + error);
      }
    }
  }
}
