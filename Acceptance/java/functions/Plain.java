package functions;

import com.amazonaws.services.lambda.runtime.Context;
import java.util.List;
import java.util.Map;

/** Methods without any interface, in Lambda's notation Class::method. */
public class Plain {
  public int add(List<Integer> numbers) {
    return numbers.stream().mapToInt(Integer::intValue).sum();
  }

  public Map<String, Object> echo(Map<String, Object> event, Context context) {
    event.put("request", context.getAwsRequestId());
    return event;
  }

  public static String upper(String text) {
    return text.toUpperCase();
  }

  public long length(int[] numbers) {
    return numbers.length;
  }

  public void nothing() {}

  public String fail(Map<String, Object> event) {
    throw new IllegalStateException("cannot do it", new IllegalArgumentException("because of this"));
  }

  public String slow(Map<String, Object> event) throws InterruptedException {
    Thread.sleep(60_000);
    return "late";
  }

  public String exit(Map<String, Object> event) {
    System.exit(7);
    return "never";
  }

  public String exhaust(Map<String, Object> event) {
    List<byte[]> all = new java.util.ArrayList<>();
    while (true) all.add(new byte[1 << 24]);
  }

  public String localHost() throws java.net.UnknownHostException {
    return java.net.InetAddress.getLocalHost().getHostAddress();
  }
}
