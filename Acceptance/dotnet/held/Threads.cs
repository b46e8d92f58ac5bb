using System;
using System.Collections.Generic;
using System.Threading;
using System.Threading.Tasks;

namespace Held {
  /// <summary>Threads in every kind of wait.</summary>
  public sealed class Threads {
    static readonly ThreadLocal<string> Own = new ThreadLocal<string>();

    readonly object monitor = new object();
    readonly object condition = new object();
    bool told;
    readonly ReaderWriterLockSlim readers = new ReaderWriterLockSlim();
    readonly SemaphoreSlim permits = new SemaphoreSlim(0);
    readonly Semaphore kernelPermits = new Semaphore(0, 10);
    readonly EventWaitHandle manual = new EventWaitHandle(false, EventResetMode.ManualReset);
    readonly AutoResetEvent automatic = new AutoResetEvent(false);
    readonly ManualResetEventSlim go = new ManualResetEventSlim(false);
    readonly Mutex mutex = new Mutex();
    readonly Barrier barrier = new Barrier(2);
    readonly CountdownEvent countdown = new CountdownEvent(2);
    readonly Dictionary<string, Task<string>> tasks = new Dictionary<string, Task<string>>();

    public Threads() {
      var holds = new CountdownEvent(3);
      Start("holds a monitor", () => {
        lock (monitor) {
          holds.Signal();
          go.Wait();
        }
        return "released";
      });
      Start("writes", () => {
        readers.EnterWriteLock();
        holds.Signal();
        go.Wait();
        readers.ExitWriteLock();
        return "released";
      });
      Start("holds a mutex", () => {
        mutex.WaitOne();
        holds.Signal();
        go.Wait();
        mutex.ReleaseMutex();
        return "released";
      });
      holds.Wait();
      Start("blocked", () => {
        lock (monitor) return "entered";
      });
      for (int i = 0; i < 3; i++) {
        Start("reads " + i, () => {
          readers.EnterReadLock();
          readers.ExitReadLock();
          return "read";
        });
      }
      Start("waits for the mutex", () => {
        mutex.WaitOne();
        mutex.ReleaseMutex();
        return "had";
      });
      Start("waits", () => {
        lock (condition) {
          while (!told) Monitor.Wait(condition);
        }
        return "pulsed";
      });
      Start("waits for a time", () => {
        int waits = 0;
        lock (condition) {
          for (; !told; waits++) Monitor.Wait(condition, 300);
        }
        return waits > 1 ? "pulsed after timeouts" : "pulsed at once";
      });
      Start("sleeps", () => {
        Thread.Sleep(6000);
        return "awake";
      });
      Start("semaphore", () => permits.Wait(60000) ? "entered" : "timed out");
      tasks["semaphore of a task"] = Enter();
      Start("kernel semaphore", () => kernelPermits.WaitOne() ? "entered" : "timed out");
      Start("manual event", () => manual.WaitOne(60000) ? "set" : "timed out");
      Start("one of several", () => "number " + WaitHandle.WaitAny(new WaitHandle[] { new ManualResetEvent(false), automatic }));
      Start("all of several", () => WaitHandle.WaitAll(new WaitHandle[] { manual, new ManualResetEvent(true) }, 60000) ? "set" : "timed out");
      Start("barrier", () => barrier.SignalAndWait(60000) ? "passed" : "timed out");
      Start("countdown", () => countdown.Wait(60000) ? "counted" : "timed out");
      // All of them have begun to wait.
      Thread.Sleep(300);
    }

    void Start(string name, Func<string> wait) {
      tasks[name] = Clone.Start(() => {
        Own.Value = name;
        var result = wait();
        return Own.Value == name ? result : "lost its ThreadLocal";
      });
    }

    async Task<string> Enter() {
      await permits.WaitAsync();
      return "entered";
    }

    public object Handle(Event input) {
      var clone = new Clone(input);
      var pending = true;
      foreach (var task in tasks.Values) pending &= !task.IsCompleted;
      clone.Overlap();
      go.Set();
      lock (condition) {
        told = true;
        Monitor.PulseAll(condition);
      }
      permits.Release(2);
      kernelPermits.Release();
      manual.Set();
      automatic.Set();
      countdown.Signal(2);
      var passed = barrier.SignalAndWait(10000);
      var ends = new Dictionary<string, string>();
      foreach (var task in tasks) ends[task.Key] = Clone.Soon(task.Value);
      var reply = clone.Reply();
      reply["pending"] = pending && passed;
      reply["ends"] = ends;
      return reply;
    }
  }

  /// <summary>A mutex with a name, which the runtime keeps in files of /tmp that it maps shared.</summary>
  public sealed class NamedMutex {
    readonly Mutex mutex = new Mutex(false, "held");
    readonly ManualResetEventSlim go = new ManualResetEventSlim(false);
    readonly Task<string> holder;
    readonly Task<string> waiter;

    public NamedMutex() {
      var holds = new ManualResetEventSlim(false);
      holder = Clone.Start(() => {
        mutex.WaitOne();
        holds.Set();
        go.Wait();
        mutex.ReleaseMutex();
        return "released";
      });
      holds.Wait();
      waiter = Clone.Start(() => {
        using (var same = new Mutex(false, "held")) {
          same.WaitOne();
          same.ReleaseMutex();
        }
        return "had";
      });
      Thread.Sleep(300);
    }

    public object Handle(Event input) {
      var clone = new Clone(input);
      var free = mutex.WaitOne(0);
      clone.Overlap();
      go.Set();
      var reply = clone.Reply();
      reply["mutex"] = free + ", " + Clone.Soon(holder) + ", " + Clone.Soon(waiter) + ", " + mutex.WaitOne(10000);
      return reply;
    }
  }
}
