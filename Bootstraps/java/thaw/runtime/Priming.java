package thaw.runtime;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;

/**
 * What every event needs of this bootstrap is loaded, linked and compiled before the snapshot, with events of our own for a handler of our own. The
 * function's code is not run: whether it is primed is its author's choice.
 */
final class Priming {
  private static final int ROUNDS = 400;
  private static final String EVENT =
      "{\"text\":\"a \\\"quoted\\\" text\\n\",\"number\":1.5,\"count\":3,\"list\":[{\"text\":\"x\"}],\"map\":{\"a\":[1,9007199254740993,true,null]},\"other\":0}";

  private Priming() {}

  /** A bean with a bit of everything. */
  public static class Sample {
    private String text;
    private double number;
    private int count;
    private List<Sample> list = new ArrayList<>();
    private Map<String, Object> map;

    public String getText() {
      return text;
    }

    public void setText(String text) {
      this.text = text;
    }

    public double getNumber() {
      return number;
    }

    public void setNumber(double number) {
      this.number = number;
    }

    public int getCount() {
      return count;
    }

    public void setCount(int count) {
      this.count = count;
    }

    public List<Sample> getList() {
      return list;
    }

    public void setList(List<Sample> list) {
      this.list = list;
    }

    public Map<String, Object> getMap() {
      return map;
    }

    public void setMap(Map<String, Object> map) {
      this.map = map;
    }

    public Sample handleRequest(Sample sample) {
      return sample;
    }
  }

  static void run(Handler handler) {
    Map<String, String> headers = new HashMap<>();
    headers.put("lambda-runtime-aws-request-id", "00000000-0000-0000-0000-000000000000");
    headers.put("lambda-runtime-deadline-ms", "1");
    RuntimeClient.Answer event = new RuntimeClient.Answer(200, headers, EVENT.getBytes(StandardCharsets.UTF_8));
    try {
      handler.prime(event);
    } catch (ReflectiveOperationException | RuntimeException | LinkageError error) {
      // What cannot be found out ahead of the first event is found out, or fails, with it: a class may be missing that is never used.
    }
    try {
      Handler own = Handler.load(Sample.class.getName(), Priming.class.getClassLoader());
      for (int i = 0; i < ROUNDS; i++) own.call(event);
    } catch (Throwable error) {
      throw new IllegalStateException("the bootstrap could not be primed", error);
    }
    ErrorReport.json(new IllegalStateException("primed", new IllegalArgumentException()));
  }
}
