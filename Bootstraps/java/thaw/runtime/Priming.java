package thaw.runtime;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.net.Socket;
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
  /** After a collection, a compiled method's first call looks through what it refers to (HotSpot's barriers at entry, Java 20 and later). */
  private static final int ROUNDS_AFTER_COLLECTION = 4;
  private static final String EVENT =
      "{\"text\":\"a \\\"quoted\\\" text\\n\",\"number\":1.5,\"count\":3,\"big\":9007199254740993,\"small\":2.5,\"flag\":true,\"maybe\":7,\"maybeNumber\":0.5,"
          + "\"texts\":{\"key\":\"value\"},\"words\":[\"a\",\"b\"],\"numbers\":[1,2],\"choice\":\"SECOND\",\"list\":[{\"text\":\"x\"}],\"map\":{\"a\":[1,9007199254740993,true,null]},\"other\":0}";

  private Priming() {}

  /** A value of few. */
  public enum Choice {
    FIRST,
    SECOND
  }

  /** A bean with a bit of everything: an accessor of each type is called in its own way. */
  public static class Sample {
    private String text;
    private double number;
    private int count;
    private long big;
    private float small;
    private boolean flag;
    private Integer maybe;
    private Double maybeNumber;
    private List<Sample> list = new ArrayList<>();
    private Map<String, Object> map;
    private Map<String, String> texts;
    private List<String> words;
    private int[] numbers;
    private Choice choice;

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

    public long getBig() {
      return big;
    }

    public void setBig(long big) {
      this.big = big;
    }

    public float getSmall() {
      return small;
    }

    public void setSmall(float small) {
      this.small = small;
    }

    public boolean isFlag() {
      return flag;
    }

    public void setFlag(boolean flag) {
      this.flag = flag;
    }

    public Integer getMaybe() {
      return maybe;
    }

    public void setMaybe(Integer maybe) {
      this.maybe = maybe;
    }

    public Double getMaybeNumber() {
      return maybeNumber;
    }

    public void setMaybeNumber(Double maybeNumber) {
      this.maybeNumber = maybeNumber;
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

    public Map<String, String> getTexts() {
      return texts;
    }

    public void setTexts(Map<String, String> texts) {
      this.texts = texts;
    }

    public List<String> getWords() {
      return words;
    }

    public void setWords(List<String> words) {
      this.words = words;
    }

    public int[] getNumbers() {
      return numbers;
    }

    public void setNumbers(int[] numbers) {
      this.numbers = numbers;
    }

    public Choice getChoice() {
      return choice;
    }

    public void setChoice(Choice choice) {
      this.choice = choice;
    }

    public Sample handleRequest(Sample sample) {
      return sample;
    }
  }

  /**
   * The accessors of a class that nobody extends are called in another way than those of one that may be extended: one for each kind of value that the
   * JVM tells apart in a call.
   */
  public static final class FinalSample {
    private String text;
    private int count;
    private long big;
    private float small;
    private double number;

    public String getText() {
      return text;
    }

    public void setText(String text) {
      this.text = text;
    }

    public int getCount() {
      return count;
    }

    public void setCount(int count) {
      this.count = count;
    }

    public long getBig() {
      return big;
    }

    public void setBig(long big) {
      this.big = big;
    }

    public float getSmall() {
      return small;
    }

    public void setSmall(float small) {
      this.small = small;
    }

    public double getNumber() {
      return number;
    }

    public void setNumber(double number) {
      this.number = number;
    }

    public FinalSample handleRequest(FinalSample sample) {
      return sample;
    }
  }

  static void run(Handler handler) {
    run(handler, ROUNDS);
  }

  /** Once more, when garbage was collected last before the snapshot. */
  static void again(Handler handler) {
    run(handler, ROUNDS_AFTER_COLLECTION);
  }

  private static void run(Handler handler, int rounds) {
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
      for (Class<?> type : new Class<?>[] {Sample.class, FinalSample.class}) {
        Handler own = Handler.load(type.getName(), Priming.class.getClassLoader());
        for (int i = 0; i < rounds; i++) own.call(event);
      }
      converse(rounds);
    } catch (Throwable error) {
      throw new IllegalStateException("the bootstrap could not be primed", error);
    }
    ErrorReport.json(new IllegalStateException("primed", new IllegalArgumentException()));
  }

  /** Talks to a Runtime API of our own, so that the client's way to the network and back is compiled. */
  private static void converse(int rounds) throws IOException, InterruptedException {
    byte[] answer =
        ("HTTP/1.1 200 OK\r\nLambda-Runtime-Aws-Request-Id: 00000000-0000-0000-0000-000000000000\r\nLambda-Runtime-Deadline-Ms: 1\r\n"
                + "Content-Length: " + EVENT.length() + "\r\n\r\n" + EVENT)
            .getBytes(StandardCharsets.US_ASCII);
    try (ServerSocket server = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      Thread thread = new Thread(() -> serve(server, answer), "thaw-priming");
      thread.setDaemon(true);
      thread.start();
      try (RuntimeClient client = new RuntimeClient("127.0.0.1:" + server.getLocalPort())) {
        for (int i = 0; i < rounds; i++) {
          client.next();
          client.respond("00000000-0000-0000-0000-000000000000", answer);
        }
      }
      thread.join();
    }
  }

  private static void serve(ServerSocket server, byte[] answer) {
    byte[] buffer = new byte[16384];
    try (Socket connection = server.accept()) {
      // A request is what came at once: the client sends each in one piece, and waits for its answer.
      while (connection.getInputStream().read(buffer) > 0) connection.getOutputStream().write(answer);
    } catch (IOException error) {
      // The client sees it as well.
    }
  }
}
