package thaw.runtime;

import java.lang.reflect.Field;
import java.security.SecureRandom;
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
  private Randomness() {}

  /** Reads the kernel's generator itself: that of the JDK keeps bytes it has read ahead. */
  private static byte[] fresh(int count) throws java.io.IOException {
    byte[] bytes = new byte[count];
    try (java.io.InputStream source = new java.io.FileInputStream("/dev/urandom")) {
      if (source.readNBytes(bytes, 0, count) != count) throw new java.io.EOFException("/dev/urandom");
    }
    return bytes;
  }

  /** What fails is said, and keeps no invocation from running. */
  static void reseed() {
    try {
      java.nio.ByteBuffer seeds = java.nio.ByteBuffer.wrap(fresh(64));
      // NativePRNG, the default: what is set is mixed into what it gives from then on, in all of its instances. UUID.randomUUID takes from it.
      new SecureRandom().setSeed(fresh(32));
      // new Random() counts from here.
      ((AtomicLong) field(Random.class, "seedUniquifier").get(null)).set(seeds.getLong());
      // new SplittableRandom() as well.
      ((AtomicLong) field(SplittableRandom.class, "defaultGen").get(null)).set(seeds.getLong());
      // Math.random().
      Class<?> holder = Class.forName("java.lang.Math$RandomNumberGeneratorHolder");
      ((Random) field(holder, "randomNumberGenerator").get(null)).setSeed(seeds.getLong());
      // ThreadLocalRandom: threads that have used it begin anew, each with a seed of its own; others take theirs from the seeder.
      ((AtomicLong) field(ThreadLocalRandom.class, "seeder").get(null)).set(seeds.getLong());
      Field seed = field(Thread.class, "threadLocalRandomSeed");
      long next = seeds.getLong();
      for (Thread thread : threads()) {
        if (seed.getLong(thread) != 0) seed.setLong(thread, next += 0x9e3779b97f4a7c15L);
      }
    } catch (Exception error) {
      System.err.println("thaw: the JDK's generators of random numbers could not be reseeded after the restore: " + error);
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
