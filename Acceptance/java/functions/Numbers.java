package functions;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.lang.reflect.Field;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Collections;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;
import org.crac.Core;
import org.crac.Resource;

/** Draws from every generator of the JDK, all of which are in use when the snapshot is taken. */
public final class Numbers implements RequestHandler<Map<String, Object>, Map<String, Object>>, Resource {
  private static final String ID = UUID.randomUUID().toString();
  private static final SecureRandom SECURE = new SecureRandom();
  private static final ExecutorService OTHER = Executors.newSingleThreadExecutor();
  private static final ExecutorService IDLE = Executors.newSingleThreadExecutor();

  /** Not in a static initializer: the other thread would wait for its end. */
  public Numbers() throws Exception {
    draw();
    IDLE.submit(() -> "this thread has not drawn").get();
    Core.getGlobalContext().register(this);
  }

  /**
   * NativePRNG reads ahead and throws away what is older than 100 ms by the wall clock, as it always is after a snapshot, unless the clock was set back
   * meanwhile: here it is, as far as NativePRNG can tell. Needs `--add-opens=java.base/sun.security.provider=ALL-UNNAMED`.
   */
  @Override
  public void beforeCheckpoint(org.crac.Context<? extends Resource> context) throws Exception {
    for (String variant : new String[] {"NativePRNG", "NativePRNG$Blocking", "NativePRNG$NonBlocking"}) {
      Object instance = field(Class.forName("sun.security.provider." + variant), "INSTANCE").get(null);
      field(instance.getClass(), "lastRead").setLong(instance, Long.MAX_VALUE / 2);
      if (field(instance.getClass(), "buffered").getInt(instance) == 0) throw new IllegalStateException("nothing was read ahead of " + variant);
    }
  }

  @Override
  public void afterRestore(org.crac.Context<? extends Resource> context) {}

  private static Field field(Class<?> type, String name) throws NoSuchFieldException {
    Field field = type.getDeclaredField(name);
    field.setAccessible(true);
    return field;
  }

  private static String drawn(ExecutorService executor) throws InterruptedException, ExecutionException {
    return executor.submit(() -> String.valueOf(ThreadLocalRandom.current().nextLong())).get();
  }

  private static Map<String, Object> draw() throws Exception {
    Map<String, Object> drawn = new LinkedHashMap<>();
    drawn.put("Math.random", Math.random());
    drawn.put("StrictMath.random", StrictMath.random());
    drawn.put("ThreadLocalRandom", String.valueOf(ThreadLocalRandom.current().nextLong()));
    drawn.put("ThreadLocalRandom elsewhere", drawn(OTHER));
    ExecutorService anew = Executors.newSingleThreadExecutor();
    drawn.put("ThreadLocalRandom of a new thread", drawn(anew));
    anew.shutdown();
    drawn.put("Random", String.valueOf(new Random().nextLong()));
    drawn.put("SplittableRandom", String.valueOf(new SplittableRandom().nextLong()));
    List<Integer> numbers = new ArrayList<>();
    for (int i = 0; i < 40; i++) numbers.add(i);
    Collections.shuffle(numbers);
    drawn.put("Collections.shuffle", numbers.toString());
    drawn.put("SecureRandom", String.valueOf(SECURE.nextLong()));
    drawn.put("a new SecureRandom", String.valueOf(new SecureRandom().nextLong()));
    drawn.put("a strong SecureRandom", String.valueOf(SecureRandom.getInstanceStrong().nextLong()));
    drawn.put("a SecureRandom that does not block", String.valueOf(SecureRandom.getInstance("NativePRNGNonBlocking").nextLong()));
    drawn.put("UUID", UUID.randomUUID().toString());
    drawAlgorithms(drawn);
    return drawn;
  }

  /** java.util.random of Java 17 and later. */
  private static void drawAlgorithms(Map<String, Object> drawn) throws Exception {
    if (Runtime.version().feature() < 17) return;
    Class<?> type = Class.forName("java.util.random.RandomGenerator");
    drawn.put("RandomGenerator", String.valueOf(type.getMethod("nextLong").invoke(type.getMethod("getDefault").invoke(null))));
    String[] names = {
      "L32X64MixRandom", "L64X128MixRandom", "L64X128StarStarRandom", "L64X256MixRandom", "L64X1024MixRandom", "L128X128MixRandom", "L128X256MixRandom",
      "L128X1024MixRandom", "Xoroshiro128PlusPlus", "Xoshiro256PlusPlus"
    };
    for (String name : names) {
      Object generator = type.getMethod("of", String.class).invoke(null, name);
      drawn.put(name, type.getMethod("nextLong").invoke(generator).toString());
    }
  }

  @Override
  public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
    try {
      Map<String, Object> fresh = draw();
      fresh.put("ThreadLocalRandom of a thread that had not drawn", drawn(IDLE));
      Map<String, Object> reply = new LinkedHashMap<>();
      reply.put("id", ID);
      reply.put("fresh", fresh);
      // The 48 bits with which new Random() begins, without those that differ by the monotonic clock, which goes on from the snapshot's.
      reply.put("seed", ((AtomicLong) field(Random.class, "seed").get(new Random())).get() >>> 36);
      return reply;
    } catch (Exception error) {
      throw new IllegalStateException(error);
    }
  }
}
