package functions;

import com.amazonaws.services.lambda.runtime.Context;
import com.amazonaws.services.lambda.runtime.RequestHandler;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import java.util.UUID;

/** A bean in, a bean out, with the context. */
public class Orders implements RequestHandler<Orders.Order, Orders.Receipt> {
  public enum Kind {
    STANDARD,
    EXPRESS
  }

  public static class Item {
    private String name;
    private double price;
    private int count = 1;

    public String getName() {
      return name;
    }

    public void setName(String name) {
      this.name = name;
    }

    public void setPrice(double price) {
      this.price = price;
    }

    public void setCount(int count) {
      this.count = count;
    }
  }

  public static class Order {
    private List<Item> items = new ArrayList<>();
    private Kind kind = Kind.STANDARD;
    private UUID id;
    private Map<String, Integer> points;

    public void setItems(List<Item> items) {
      this.items = items;
    }

    public void setKind(Kind kind) {
      this.kind = kind;
    }

    public void setId(UUID id) {
      this.id = id;
    }

    public void setPoints(Map<String, Integer> points) {
      this.points = points;
    }
  }

  public static class Receipt {
    public final Map<String, Object> context = new TreeMap<>();
    public int invocation;
    private double total;
    private Kind kind;
    private UUID id;
    private int points;

    public double getTotal() {
      return total;
    }

    public Kind getKind() {
      return kind;
    }

    public UUID getId() {
      return id;
    }

    public int getPoints() {
      return points;
    }
  }

  private int invocations;

  @Override
  public Receipt handleRequest(Order order, Context context) {
    Receipt receipt = new Receipt();
    receipt.invocation = ++invocations;
    for (Item item : order.items) receipt.total += item.price * item.count;
    receipt.kind = order.kind;
    receipt.id = order.id;
    if (order.points != null) for (int value : order.points.values()) receipt.points += value;
    receipt.context.put("name", context.getFunctionName());
    receipt.context.put("version", context.getFunctionVersion());
    receipt.context.put("arn", context.getInvokedFunctionArn());
    receipt.context.put("request", context.getAwsRequestId());
    receipt.context.put("memory", context.getMemoryLimitInMB());
    receipt.context.put("hasTime", context.getRemainingTimeInMillis() > 1000);
    receipt.context.put("tenant", context.getTenantId());
    receipt.context.put("custom", context.getClientContext() == null ? null : context.getClientContext().getCustom());
    receipt.context.put("app", context.getClientContext() == null ? null : context.getClientContext().getClient().getAppTitle());
    receipt.context.put("java", System.getProperty("java.specification.version"));
    receipt.context.put("type", System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE"));
    context.getLogger().log("an order of " + order.items.size() + " items");
    context.getLogger().log("by default", "INFO");
    System.out.println("on standard output");
    System.err.println("on standard error");
    return receipt;
  }
}
