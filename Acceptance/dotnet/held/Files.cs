using System;
using System.Collections.Concurrent;
using System.Collections.Generic;
using System.IO;
using System.IO.MemoryMappedFiles;
using System.IO.Pipes;
using System.Linq;
using System.Text;
using System.Threading;

namespace Held {
  /// <summary>Maps, locks, watches, open and deleted files of /tmp, pipes.</summary>
  public sealed class Files {
    const int Size = 1 << 16;

    readonly MemoryMappedFile mapped;
    readonly MemoryMappedViewAccessor view;
    readonly MemoryMappedFile anonymous = MemoryMappedFile.CreateNew(null, Size);
    readonly MemoryMappedViewAccessor anonymousView;
    readonly FileStream exclusive = new FileStream("/tmp/exclusive", FileMode.Create, FileAccess.ReadWrite, FileShare.None);
    readonly FileStream locked = new FileStream("/tmp/locked", FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite);
    readonly FileStream deleted = new FileStream("/tmp/deleted", FileMode.Create, FileAccess.ReadWrite, FileShare.ReadWrite | FileShare.Delete);
    readonly StreamReader lines;
    readonly AnonymousPipeServerStream pipe = new AnonymousPipeServerStream(PipeDirection.Out);
    readonly AnonymousPipeClientStream pipeEnd;
    readonly FileSystemWatcher watcher;
    readonly ConcurrentQueue<string> events = new ConcurrentQueue<string>();

    public Files() {
      File.WriteAllBytes("/tmp/mapped", new byte[Size]);
      mapped = MemoryMappedFile.CreateFromFile("/tmp/mapped", FileMode.Open);
      view = mapped.CreateViewAccessor();
      Put(view, 100, "from init");
      anonymousView = anonymous.CreateViewAccessor();
      Put(anonymousView, 100, "from init");
      Write(exclusive, "0123456789");
      exclusive.Position = 4;
      Write(locked, "0123456789");
      locked.Lock(2, 3);
      Write(deleted, "nobody finds this");
      File.Delete("/tmp/deleted");
      File.WriteAllText("/tmp/lines", "one\ntwo\nthree\n");
      lines = new StreamReader("/tmp/lines");
      lines.ReadLine();
      pipeEnd = new AnonymousPipeClientStream(PipeDirection.In, pipe.ClientSafePipeHandle);
      Write(pipe, "in the pipe");
      Directory.CreateDirectory("/tmp/watched");
      File.WriteAllText("/tmp/watched/before", "");
      watcher = new FileSystemWatcher("/tmp") { IncludeSubdirectories = true };
      watcher.Created += (sender, change) => events.Enqueue("created " + change.Name);
      watcher.Deleted += (sender, change) => events.Enqueue("deleted " + change.Name);
      watcher.Renamed += (sender, change) => events.Enqueue("renamed " + change.OldName + " " + change.Name);
      watcher.Error += (sender, error) => events.Enqueue(error.GetException().Message);
      watcher.EnableRaisingEvents = true;
      Thread.Sleep(200);
    }

    static void Put(MemoryMappedViewAccessor view, int position, string text) {
      view.WriteArray(position, Encoding.ASCII.GetBytes(text), 0, text.Length);
    }

    static string Get(MemoryMappedViewAccessor view, int position, int count) {
      var bytes = new byte[count];
      view.ReadArray(position, bytes, 0, count);
      return Encoding.ASCII.GetString(bytes, 0, count);
    }

    static void Write(Stream stream, string text) {
      stream.Write(Encoding.ASCII.GetBytes(text), 0, text.Length);
      stream.Flush();
    }

    static string Read(Stream stream, int count) {
      var bytes = new byte[count];
      return Encoding.ASCII.GetString(bytes, 0, stream.Read(bytes, 0, count));
    }

    /// <summary>What the kernel says about locks of this process's descriptors.</summary>
    static string KernelLocks(FileStream stream) {
      var text = File.ReadAllText("/proc/self/fdinfo/" + stream.SafeFileHandle.DangerousGetHandle());
      return string.Join(
        "; ", text.Split('\n').Where(line => line.StartsWith("lock:")).Select(line => {
          var fields = line.Split(new[] { ' ', '\t' }, StringSplitOptions.RemoveEmptyEntries);
          return fields[2] + " " + fields[4] + " " + fields[7] + "-" + fields[8];
        }));
    }

    public object Handle(Event input) {
      var clone = new Clone(input);
      var first = Get(view, 100, 9) + ", " + Get(anonymousView, 100, 9);
      Put(view, 1000, clone.Me);
      Put(anonymousView, 1000, clone.Me);
      File.WriteAllText("/tmp/watched/" + clone.Me, "");
      File.WriteAllText("/tmp/" + clone.Me, "");
      File.Move("/tmp/watched/before", "/tmp/watched/after");
      File.Delete("/tmp/watched/after");
      Write(deleted, " " + clone.Me);
      clone.Overlap();

      var reply = clone.Reply();
      reply["maps"] = first + ", " + Get(view, 1000, clone.Me.Length) + ", " + Get(anonymousView, 1000, clone.Me.Length);
      view.Flush();
      using (var again = anonymous.CreateViewAccessor()) {
        reply["maps elsewhere"] = Encoding.ASCII.GetString(File.ReadAllBytes("/tmp/mapped"), 1000, clone.Me.Length)
          + ", " + Get(again, 1000, clone.Me.Length);
      }
      reply["exclusive"] = exclusive.Position + ", " + Read(exclusive, 3) + ", " + KernelLocks(exclusive) + ", "
        + Clone.Outcome(() => new FileStream("/tmp/exclusive", FileMode.Open));
      reply["locked"] = KernelLocks(locked);
      locked.Unlock(2, 3);
      reply["unlocked"] = KernelLocks(locked);
      deleted.Position = 0;
      reply["deleted"] = Read(deleted, 100) + ", " + File.Exists("/tmp/deleted");
      reply["lines"] = lines.ReadLine() + ", " + lines.ReadLine() + ", " + lines.ReadLine();
      Write(pipe, ", " + clone.Me);
      reply["pipe"] = Read(pipeEnd, 100);
      for (int i = 0; i < 100 && events.Count < 4; i++) Thread.Sleep(100);
      reply["events"] = events.ToArray();
      GC.KeepAlive(watcher);
      GC.KeepAlive(mapped);
      return reply;
    }
  }
}
