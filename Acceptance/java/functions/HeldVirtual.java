package functions;

import static java.nio.charset.StandardCharsets.UTF_8;

import java.io.InputStream;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.locks.ReentrantLock;

/** Virtual threads (Java 21 and later; the tests' compiler may be older): parked, sleeping, blocked on monitors, locks and sockets. */
public final class HeldVirtual {
  private static final int COUNT = 100;
  private static final ThreadLocal<Integer> OWN = new ThreadLocal<>();

  private final ExecutorService executor = (ExecutorService) Executors.class.getMethod("newVirtualThreadPerTaskExecutor").invoke(null);
  private final InetAddress loopback = InetAddress.getLoopbackAddress();
  private final LinkedBlockingQueue<String> queue = new LinkedBlockingQueue<>();
  private final LinkedBlockingQueue<String> taken = new LinkedBlockingQueue<>();
  private final AtomicInteger ticks = new AtomicInteger();
  private final Object condition = new Object();
  private boolean told;
  private final ReentrantLock lock = new ReentrantLock();
  private final ServerSocket server = new ServerSocket(0, 5, loopback);
  private final List<Socket> ends = new ArrayList<>();

  private final List<Future<Integer>> takers = new ArrayList<>();
  private final Future<String> sleeper;
  private final Future<String> waiter;
  private final Future<String> locker;
  private final Future<String> accepted;
  private final Future<Object> reader;

  public HeldVirtual() throws Exception {
    for (int i = 0; i < COUNT; i++) {
      int number = i;
      takers.add(
          executor.submit(() -> {
            OWN.set(number);
            taken.add(queue.take());
            return OWN.get();
          }));
    }
    executor.submit(() -> {
      while (true) {
        Thread.sleep(200);
        ticks.incrementAndGet();
      }
    });
    sleeper = executor.submit(() -> {
      Thread.sleep(6000);
      return "awake";
    });
    waiter = executor.submit(() -> {
      synchronized (condition) {
        while (!told) condition.wait();
      }
      return "notified";
    });
    // Held by a thread that is no virtual one, until the handler lets go.
    lock.lock();
    locker = executor.submit(() -> {
      lock.lock();
      lock.unlock();
      return "locked";
    });
    accepted = executor.submit(() -> {
      try (Socket socket = server.accept()) {
        return new String(socket.getInputStream().readAllBytes(), UTF_8);
      }
    });
    InputStream stream;
    try (ServerSocket other = new ServerSocket(0, 1, loopback)) {
      Socket socket = new Socket(loopback, other.getLocalPort());
      ends.add(socket);
      ends.add(other.accept());
      stream = socket.getInputStream();
    }
    reader = executor.submit(() -> Clone.outcome(stream::read));
    // All of them have begun to wait.
    Thread.sleep(300);
  }

  public Map<String, Object> handleRequest(Map<String, Object> event) throws Exception {
    Clone clone = new Clone(event);
    final int atFirst = ticks.get();
    final boolean pending = takers.stream().noneMatch(Future::isDone) && !waiter.isDone() && !locker.isDone() && !accepted.isDone();
    clone.overlap();
    for (int i = 0; i < COUNT; i++) queue.add(clone.me);
    int numbers = 0;
    for (int i = 0; i < COUNT; i++) numbers += takers.get(i).get(10, TimeUnit.SECONDS) == i ? 1 : 0;
    synchronized (condition) {
      told = true;
      condition.notifyAll();
    }
    // In init and here it is the same thread.
    lock.unlock();
    try (Socket socket = new Socket(loopback, server.getLocalPort())) {
      socket.getOutputStream().write(clone.me.getBytes(UTF_8));
    }
    List<Future<Integer>> more = new ArrayList<>();
    for (int i = 0; i < COUNT; i++) {
      int number = i;
      more.add(
          executor.submit(() -> {
            Thread.sleep(10);
            return number;
          }));
    }
    int sum = 0;
    for (Future<Integer> future : more) sum += future.get(10, TimeUnit.SECONDS);

    Map<String, Object> reply = clone.reply();
    reply.put("pending", pending);
    reply.put("takers", numbers + ", " + new TreeSet<>(taken));
    reply.put("ticking", ticks.get() > atFirst && atFirst > 0);
    reply.put("sleeper", sleeper.get(10, TimeUnit.SECONDS));
    reply.put("waiter", waiter.get(10, TimeUnit.SECONDS));
    reply.put("locker", locker.get(10, TimeUnit.SECONDS));
    reply.put("accepted", accepted.get(10, TimeUnit.SECONDS));
    reply.put("reader", reader.get(10, TimeUnit.SECONDS));
    reply.put("more", sum);
    return reply;
  }
}
