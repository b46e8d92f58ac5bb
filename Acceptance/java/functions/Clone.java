package functions;

import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.concurrent.atomic.AtomicInteger;

/** What tells clones of one snapshot apart, and what keeps them there at the same time. */
final class Clone {
  private static final AtomicInteger INVOCATIONS = new AtomicInteger();

  final String me;
  private final long until;
  private final Map<String, Object> identity = new LinkedHashMap<>();

  /** At the beginning of an invocation, of its event. */
  Clone(Map<String, Object> event) throws IOException {
    me = (String) event.get("me");
    until = ((Number) event.get("until")).longValue();
    identity.put("invocation", INVOCATIONS.incrementAndGet());
    for (String kind : new String[] {"uts", "net"}) identity.put(kind, Files.readSymbolicLink(Path.of("/proc/self/ns/" + kind)).toString());
    identity.put("began", System.currentTimeMillis());
  }

  /** Returns when all clones are there. */
  void overlap() throws InterruptedException {
    Thread.sleep(Math.max(0, until - System.currentTimeMillis()));
  }

  /** A reply, to which the function adds what it found. */
  Map<String, Object> reply() {
    identity.put("ended", System.currentTimeMillis());
    Map<String, Object> reply = new LinkedHashMap<>();
    reply.put("clone", identity);
    return reply;
  }

  /** Code that fails in its own way. */
  interface Attempt {
    Object run() throws Exception;
  }

  /** The result, or the type of what was thrown. */
  static Object outcome(Attempt attempt) {
    try {
      return attempt.run();
    } catch (Exception error) {
      return error.getClass().getSimpleName();
    }
  }
}
