package functions;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.security.SecureRandom;
import java.util.LinkedHashMap;
import java.util.Map;
import java.util.Random;
import java.util.SplittableRandom;
import java.util.UUID;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;

/** Draws from every generator of the JDK, all of which are in use when the snapshot is taken. */
public class Numbers implements RequestHandler<Map<String, Object>, Map<String, Object>> {
  private static final String ID = UUID.randomUUID().toString();
  private static final SecureRandom SECURE = new SecureRandom();
  private static final ExecutorService OTHER = Executors.newSingleThreadExecutor();

  /** Not in a static initializer: the other thread would wait for its end. */
  public Numbers() throws InterruptedException, ExecutionException {
    draw();
  }

  private static Map<String, Object> draw() throws InterruptedException, ExecutionException {
    Map<String, Object> drawn = new LinkedHashMap<>();
    drawn.put("Math.random", Math.random());
    drawn.put("ThreadLocalRandom", String.valueOf(ThreadLocalRandom.current().nextLong()));
    drawn.put("ThreadLocalRandom elsewhere", OTHER.submit(() -> String.valueOf(ThreadLocalRandom.current().nextLong())).get());
    drawn.put("Random", String.valueOf(new Random().nextLong()));
    drawn.put("SplittableRandom", String.valueOf(new SplittableRandom().nextLong()));
    drawn.put("SecureRandom", String.valueOf(SECURE.nextLong()));
    drawn.put("a new SecureRandom", String.valueOf(new SecureRandom().nextLong()));
    drawn.put("UUID", UUID.randomUUID().toString());
    return drawn;
  }

  @Override
  public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
    try {
      Map<String, Object> reply = new LinkedHashMap<>();
      reply.put("id", ID);
      reply.put("fresh", draw());
      return reply;
    } catch (Exception error) {
      throw new IllegalStateException(error);
    }
  }
}
