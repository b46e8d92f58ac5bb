package functions;

import java.util.Map;

/** Fails while it is made. */
public class BrokenInit {
  public BrokenInit() {
    throw new IllegalStateException("the table is not there");
  }

  public String handleRequest(Map<String, Object> event) {
    return "never";
  }
}
