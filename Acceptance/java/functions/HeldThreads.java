package functions;

import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Timer;
import java.util.TimerTask;
import java.util.concurrent.Callable;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.CyclicBarrier;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ForkJoinPool;
import java.util.concurrent.ForkJoinTask;
import java.util.concurrent.Future;
import java.util.concurrent.FutureTask;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RecursiveTask;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.ScheduledFuture;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.Condition;
import java.util.concurrent.locks.LockSupport;
import java.util.concurrent.locks.ReentrantLock;
import org.crac.Core;
import org.crac.Resource;

/** Schedulers that tick, pools with work under way, futures nobody has completed, threads in every kind of wait; compiled code; clocks. */
public final class HeldThreads implements Resource {
  private static final int PERIOD = 200;
  /** Seconds of which some are left when the snapshot is taken. */
  private static final int LEFT = 6;
  private static final ThreadLocal<String> OWN = new ThreadLocal<>();

  /** Compiled code relies on there being one class of it, until another one is loaded. */
  abstract static class Shape {
    abstract long area(long side);
  }

  static final class Square extends Shape {
    @Override
    long area(long side) {
      return side * side;
    }
  }

  static final class Strip extends Shape {
    @Override
    long area(long side) {
      return 3 * side;
    }
  }

  private final class Sum extends RecursiveTask<Long> {
    private static final long serialVersionUID = 1;
    private final int from;
    private final int to;

    Sum(int from, int to) {
      this.from = from;
      this.to = to;
    }

    @Override
    protected Long compute() {
      if (to - from <= 250) {
        try {
          go.await();
        } catch (InterruptedException error) {
          throw new IllegalStateException(error);
        }
        long sum = 0;
        for (int i = from; i < to; i++) sum += i;
        return sum;
      }
      int middle = (from + to) / 2;
      ForkJoinTask<Long> left = new Sum(from, middle).fork();
      return new Sum(middle, to).compute() + left.join();
    }
  }

  private final long made = System.nanoTime();
  private final long madeAt = System.currentTimeMillis();
  private final CountDownLatch go = new CountDownLatch(1);

  private final ScheduledExecutorService scheduler = Executors.newScheduledThreadPool(2);
  private final AtomicInteger ticks = new AtomicInteger();
  private final AtomicInteger delayed = new AtomicInteger();
  private final Timer timer = new Timer("timer", true);
  private final AtomicInteger timerTicks = new AtomicInteger();
  private volatile long last = made;
  private volatile boolean backwards;
  private int ticksBefore;
  private ScheduledFuture<String> once;

  private final ForkJoinPool pool = new ForkJoinPool(3);
  private final Future<Long> sum = pool.submit(new Sum(0, 1000));
  private final CompletableFuture<String> promised = new CompletableFuture<>();
  private final CompletableFuture<String> composed =
      promised.thenApplyAsync(text -> Thread.currentThread().getName().equals("main") ? "not asynchronous" : text);
  private CompletableFuture<String> late;

  private final Object monitor = new Object();
  private final Object condition = new Object();
  private boolean told;
  private final ReentrantLock lock = new ReentrantLock();
  private final Condition changed = lock.newCondition();
  private final LinkedBlockingQueue<String> queue = new LinkedBlockingQueue<>();
  private final Semaphore permits = new Semaphore(0);
  private final CyclicBarrier barrier = new CyclicBarrier(2);
  private final Map<String, Thread> threads = new LinkedHashMap<>();
  private final Map<String, FutureTask<String>> results = new LinkedHashMap<>();

  private final ExecutorService other = Executors.newSingleThreadExecutor();
  private final Shape shape = new Square();
  private final long computed;

  public HeldThreads() throws Exception {
    scheduler.scheduleAtFixedRate(this::tick, PERIOD, PERIOD, TimeUnit.MILLISECONDS);
    scheduler.scheduleWithFixedDelay(delayed::incrementAndGet, PERIOD, PERIOD, TimeUnit.MILLISECONDS);
    timer.schedule(
        new TimerTask() {
          @Override
          public void run() {
            timerTicks.incrementAndGet();
          }
        },
        PERIOD,
        PERIOD);
    CountDownLatch holds = new CountDownLatch(1);
    start("holds a monitor", () -> {
      synchronized (monitor) {
        holds.countDown();
        go.await();
      }
      return "released";
    });
    holds.await();
    start("blocked", () -> {
      synchronized (monitor) {
        return "entered";
      }
    });
    start("parked", () -> {
      while (!told()) LockSupport.park(this);
      return "unparked";
    });
    start("parked for a time", () -> {
      long end = System.nanoTime() + TimeUnit.SECONDS.toNanos(LEFT);
      while (System.nanoTime() < end) LockSupport.parkNanos(end - System.nanoTime());
      return "over";
    });
    start("sleeps", () -> {
      Thread.sleep(LEFT * 1000);
      return "awake";
    });
    start("waits", () -> {
      synchronized (condition) {
        while (!told) condition.wait();
      }
      return "notified";
    });
    start("waits for a time", () -> {
      int waits = 0;
      synchronized (condition) {
        for (; !told; waits++) condition.wait(300);
      }
      return waits > 1 ? "notified after timeouts" : "notified at once";
    });
    start("awaits a condition", () -> {
      lock.lock();
      try {
        changed.await();
      } finally {
        lock.unlock();
      }
      return "signalled";
    });
    start("takes", queue::take);
    start("acquires", () -> {
      permits.acquire();
      return "acquired";
    });
    start("at a barrier", () -> {
      barrier.await();
      return "passed";
    });
    long sum = 0;
    for (int i = 0; i < 60_000; i++) sum += work(i, shape);
    computed = sum;
    for (int i = 0; i < 3000; i++) faults(null, 0);
    other.submit(() -> faults(null, 0)).get();
    while (ticks.get() < 2) Thread.sleep(50);
    Core.getGlobalContext().register(this);
  }

  private void tick() {
    long now = System.nanoTime();
    if (now < last) backwards = true;
    last = now;
    ticks.incrementAndGet();
  }

  /** Runs a wait in a daemon thread that has a value of its own. */
  private void start(String name, Callable<String> wait) {
    FutureTask<String> task =
        new FutureTask<>(() -> {
          OWN.set("of " + name);
          String result = wait.call();
          return OWN.get().equals("of " + name) ? result : "lost its ThreadLocal";
        });
    Thread thread = new Thread(task, name);
    thread.setDaemon(true);
    thread.start();
    threads.put(name, thread);
    results.put(name, task);
  }

  private boolean told() {
    synchronized (condition) {
      return told;
    }
  }

  /** Hot enough to be compiled: integers, floating point, strings, a virtual call. */
  private static long work(int i, Shape shape) {
    long hash = i * 0x9e3779b97f4a7c15L;
    hash ^= hash >>> 31;
    double root = Math.sqrt(i) * 1000;
    return (hash & 0xffff) + (long) root + Integer.toString(i).hashCode() % 7 + shape.area(i & 63);
  }

  /** Errors that HotSpot finds out by signals and by guard pages, caught. */
  private static String faults(String nothing, int zero) {
    return Clone.outcome(() -> nothing.length()) + " " + Clone.outcome(() -> 1 / zero) + " " + Clone.outcome(() -> OWN.toString().charAt(-1 - zero));
  }

  private static int deep(int depth) {
    try {
      return depth + deep(depth + 1) % 2;
    } catch (StackOverflowError error) {
      return depth;
    }
  }

  @Override
  public void beforeCheckpoint(org.crac.Context<? extends Resource> context) {
    ticksBefore = ticks.get();
    once = scheduler.schedule(() -> "once", LEFT, TimeUnit.SECONDS);
    late = new CompletableFuture<String>().completeOnTimeout("by timeout", LEFT, TimeUnit.SECONDS);
  }

  @Override
  public void afterRestore(org.crac.Context<? extends Resource> context) {}

  public Map<String, Object> handleRequest(Map<String, Object> event) throws Exception {
    final int atFirst = ticks.get();
    final int delayedAtFirst = delayed.get();
    final int timerAtFirst = timerTicks.get();
    final boolean goesOn = System.nanoTime() >= last;
    Clone clone = new Clone(event);
    Map<String, Object> states = new LinkedHashMap<>();
    threads.forEach((name, thread) -> states.put(name, thread.getState().name()));
    boolean pending = !sum.isDone() && !composed.isDone() && !late.isDone() && !once.isDone();

    long again = 0;
    for (int i = 0; i < 60_000; i++) again += work(i, shape);
    // Another class of Shape is loaded: what was compiled for one is thrown away while it is in use.
    long strips = 0;
    for (int i = 0; i < 60_000; i++) strips += work(i, new Strip()) - work(i, shape) - 3L * (i & 63) + (long) (i & 63) * (i & 63);

    String faults = faults(null, 0) + " " + (deep(0) >= 0) + ", " + other.submit(() -> faults(null, 0) + " " + (deep(0) >= 0)).get();

    clone.overlap();
    go.countDown();
    promised.complete(clone.me);
    synchronized (condition) {
      told = true;
      condition.notifyAll();
    }
    LockSupport.unpark(threads.get("parked"));
    lock.lock();
    changed.signalAll();
    lock.unlock();
    queue.add(clone.me);
    permits.release();
    barrier.await(10, TimeUnit.SECONDS);
    Map<String, Object> ends = new LinkedHashMap<>();
    for (String name : results.keySet()) ends.put(name, results.get(name).get(10, TimeUnit.SECONDS));
    List<Object> futures = new ArrayList<>();
    futures.add(sum.get(10, TimeUnit.SECONDS));
    futures.add(composed.get(10, TimeUnit.SECONDS));
    futures.add(late.get(10, TimeUnit.SECONDS));
    futures.add(once.get(10, TimeUnit.SECONDS));

    Map<String, Object> reply = clone.reply();
    reply.put("states", states);
    reply.put("pending", pending);
    reply.put("ends", ends);
    reply.put("futures", futures);
    reply.put("counted on", ticksBefore >= 2 && atFirst >= ticksBefore);
    long elapsed = System.nanoTime() - made;
    reply.put("ticking", ticks.get() > atFirst && delayed.get() > delayedAtFirst && timerTicks.get() > timerAtFirst);
    // Never more than the clock says, as there would be if it had jumped.
    reply.put("no burst", ticks.get() <= elapsed / 1_000_000 / PERIOD + 1);
    reply.put("nanoTime goes on", goesOn && !backwards);
    reply.put("not counted", (System.currentTimeMillis() - madeAt) - elapsed / 1_000_000);
    reply.put("compiled", again == computed && strips == 0);
    reply.put("faults", faults);
    return reply;
  }
}
