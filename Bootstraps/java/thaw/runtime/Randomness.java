package thaw.runtime;

import java.io.EOFException;
import java.io.FileInputStream;
import java.io.IOException;
import java.io.InputStream;
import java.lang.reflect.Field;
import java.lang.reflect.Method;
import java.nio.ByteBuffer;
import java.security.NoSuchAlgorithmException;
import java.security.SecureRandom;
import java.util.ArrayList;
import java.util.Collections;
import java.util.List;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.atomic.AtomicLong;

/**
 * Reseeds the JDK's own generators of random numbers, whose state would be the same in every clone of a snapshot. Runs before any resource of the
 * function's. Generators that the function made for itself are its own to reseed.
 *
 * <p>Private fields of java.base: the bundle opens the packages (--add-opens). Names are those of OpenJDK 11 to 25.
 */
final class Randomness {
  /** The algorithms of java.util.random (Java 17 and later) that count the generators they make. RandomGenerator.getDefault() is of the first. */
  private static final String[] ALGORITHMS = {
    "L32X64MixRandom", "L64X128MixRandom", "L64X128StarStarRandom", "L64X256MixRandom", "L64X1024MixRandom", "L128X128MixRandom", "L128X256MixRandom",
    "L128X1024MixRandom", "Xoroshiro128PlusPlus", "Xoshiro256PlusPlus"
  };

  /** From which generators that are made without a seed take theirs. */
  private static final List<AtomicLong> counters = new ArrayList<>();
  /** Those behind static methods. */
  private static final List<Random> generators = new ArrayList<>();
  /** One of each kind that reads ahead of the kernel's generator. */
  private static final List<SecureRandom> secure = new ArrayList<>();
  private static Field shuffling;
  private static Field threadSeed;
  private static Exception failure;

  private static final int ROUNDS = 300;

  private Randomness() {}

  /** Before the snapshot: finds, loads and compiles what the clones need. */
  static void prepare() {
    try {
      // What is set is mixed into what all instances of the kind give from then on: NativePRNG reads ahead, and throws away what is older than 100 ms
      // by the wall clock, which may have been set back since the snapshot. UUID.randomUUID takes from the first, getInstanceStrong is the second.
      secure.add(new SecureRandom());
      for (String variant : new String[] {"NativePRNGBlocking", "NativePRNGNonBlocking"}) {
        try {
          secure.add(SecureRandom.getInstance(variant));
        } catch (NoSuchAlgorithmException error) {
          // A provider of the user's: it is not there, and nobody uses it.
        }
      }
      // Math.random() and StrictMath.random().
      for (String type : new String[] {"java.lang.Math", "java.lang.StrictMath"}) {
        generators.add((Random) field(Class.forName(type + "$RandomNumberGeneratorHolder"), "randomNumberGenerator").get(null));
      }
      // Collections.shuffle(list): made at its first use.
      shuffling = field(Collections.class, "r");
      // new Random(), new SplittableRandom(); ThreadLocalRandom of threads that have not used it.
      counter(Random.class, "seedUniquifier");
      counter(SplittableRandom.class, "defaultGen");
      counter(ThreadLocalRandom.class, "seeder");
      threadSeed = field(Thread.class, "threadLocalRandomSeed");
      if (Runtime.version().feature() >= 17) for (String name : ALGORITHMS) algorithm(name);
    } catch (Exception error) {
      failure = error;
    }
    // Until it is compiled; what fails is said once.
    int rounds = 0;
    while (rounds < ROUNDS && reseed()) rounds++;
  }

  /** What fails is said, and keeps no invocation from running; answers whether nothing did. */
  static boolean reseed() {
    try {
      ByteBuffer seeds = ByteBuffer.wrap(fresh(32 * secure.size() + 8 * (generators.size() + counters.size() + 1)));
      byte[] seed = new byte[32];
      for (int i = 0; i < secure.size(); i++) {
        seeds.get(seed);
        secure.get(i).setSeed(seed);
      }
      for (int i = 0; i < generators.size(); i++) generators.get(i).setSeed(seeds.getLong());
      for (int i = 0; i < counters.size(); i++) counters.get(i).set(seeds.getLong());
      if (shuffling != null) shuffling.set(null, null);
      // Threads that have used ThreadLocalRandom begin anew, each with a seed of its own.
      long next = seeds.getLong();
      if (threadSeed != null) {
        for (Thread thread : threads()) {
          if (threadSeed.getLong(thread) != 0) threadSeed.setLong(thread, next += 0x9e3779b97f4a7c15L);
        }
      }
      if (failure != null) throw failure;
      return true;
    } catch (Exception error) {
      System.err.println("thaw: the JDK's generators of random numbers could not be reseeded after the restore: " + error);
      return false;
    }
  }

  /** Reads the kernel's generator itself: that of the JDK keeps bytes it has read ahead. */
  private static byte[] fresh(int count) throws IOException {
    byte[] bytes = new byte[count];
    try (InputStream source = new FileInputStream("/dev/urandom")) {
      if (source.readNBytes(bytes, 0, count) != count) throw new EOFException("/dev/urandom");
    }
    return bytes;
  }

  private static void counter(Class<?> type, String name) throws ReflectiveOperationException {
    counters.add((AtomicLong) field(type, name).get(null));
  }

  /** In a package that the command line does not open, because Java's releases do not agree on its name; java.lang, which it opens, can. */
  private static void algorithm(String name) throws ReflectiveOperationException {
    Class<?> type;
    try {
      type = Class.forName("jdk.internal.random." + name);
    } catch (ClassNotFoundException notOfJava21) {
      try {
        type = Class.forName("jdk.random." + name);
      } catch (ClassNotFoundException error) {
        // A runtime without the module.
        return;
      }
    }
    Method open = Module.class.getDeclaredMethod("implAddOpensToAllUnnamed", String.class);
    open.setAccessible(true);
    open.invoke(type.getModule(), type.getPackageName());
    // defaultGen or DEFAULT_GEN.
    for (Field field : type.getDeclaredFields()) {
      if (field.getType() == AtomicLong.class) counter(type, field.getName());
    }
  }

  private static Field field(Class<?> type, String name) throws NoSuchFieldException {
    Field field = type.getDeclaredField(name);
    field.setAccessible(true);
    return field;
  }

  private static Thread[] threads() {
    ThreadGroup root = Thread.currentThread().getThreadGroup();
    while (root.getParent() != null) root = root.getParent();
    Thread[] all = new Thread[root.activeCount() + 64];
    Thread[] found = new Thread[root.enumerate(all, true)];
    System.arraycopy(all, 0, found, 0, found.length);
    return found;
  }
}
