package functions;

import java.io.ByteArrayOutputStream;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Map;
import java.util.TreeMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.zip.GZIPOutputStream;

/** Threads that wait, timers, direct memory, files in /tmp: all of it made before the snapshot and used after it. */
public class ThreadsAndFiles {
  private final ExecutorService pool = Executors.newFixedThreadPool(4);
  private final ScheduledExecutorService timer = Executors.newSingleThreadScheduledExecutor();
  private final AtomicInteger ticks = new AtomicInteger();
  private final java.nio.ByteBuffer direct = java.nio.ByteBuffer.allocateDirect(1 << 20);
  private final Path file = Path.of("/tmp/state");

  public ThreadsAndFiles() throws Exception {
    for (int i = 0; i < 4; i++) pool.submit(() -> Thread.currentThread().getName()).get();
    timer.scheduleAtFixedRate(ticks::incrementAndGet, 50, 50, TimeUnit.MILLISECONDS);
    direct.putInt(12345, 4711);
    Files.writeString(file, "kept");
  }

  public Map<String, Object> handleRequest(Map<String, Object> event) throws Exception {
    Map<String, Object> result = new TreeMap<>();
    Future<Integer> sum = pool.submit(() -> 40 + 2);
    result.put("pool", sum.get(5, TimeUnit.SECONDS));
    int before = ticks.get();
    Thread.sleep(300);
    result.put("ticking", ticks.get() > before);
    result.put("direct", direct.getInt(12345));
    result.put("file", Files.readString(file));
    ByteArrayOutputStream bytes = new ByteArrayOutputStream();
    try (GZIPOutputStream zip = new GZIPOutputStream(bytes)) {
      zip.write("text ".repeat(1000).getBytes(StandardCharsets.UTF_8));
    }
    result.put("zipped", bytes.size() < 200);
    byte[][] garbage = new byte[64][];
    for (int i = 0; i < 2000; i++) garbage[i % 64] = new byte[1 << 16];
    System.gc();
    result.put("collected", Runtime.getRuntime().totalMemory() > 0);
    return result;
  }
}
