package functions;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.UUID;
import org.crac.Core;
import org.crac.Resource;

/** Runtime hooks: org.crac's resources. */
public class Hooks implements RequestHandler<Map<String, Object>, Map<String, Object>> {
  private final List<String> events = new ArrayList<>(Arrays.asList("init"));
  private final UUID shared = UUID.randomUUID();
  private UUID own;

  private final class Named implements Resource {
    private final String name;

    Named(String name) {
      this.name = name;
    }

    @Override
    public void beforeCheckpoint(org.crac.Context<? extends Resource> context) {
      events.add("before " + name);
      if ("before".equals(System.getenv("FAIL"))) throw new IllegalStateException("no snapshot today");
    }

    @Override
    public void afterRestore(org.crac.Context<? extends Resource> context) throws Exception {
      events.add("after " + name);
      own = UUID.randomUUID();
      if ("after".equals(System.getenv("FAIL"))) throw new IllegalStateException("cannot wake up");
      if ("slow".equals(System.getenv("FAIL"))) Thread.sleep(60_000);
    }
  }

  private final List<Resource> resources = List.of(new Named("1"), new Named("2"));

  public Hooks() {
    for (Resource resource : resources) Core.getGlobalContext().register(resource);
  }

  @Override
  public Map<String, Object> handleRequest(Map<String, Object> event, Context context) {
    try {
      // Calls at the same time get environments of their own.
      Thread.sleep(500);
    } catch (InterruptedException error) {
      throw new IllegalStateException(error);
    }
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("events", events);
    result.put("shared", shared);
    result.put("own", own);
    return result;
  }
}
