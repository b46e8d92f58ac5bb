package orders;

import com.fasterxml.jackson.core.type.TypeReference;
import com.fasterxml.jackson.databind.ObjectMapper;
import java.io.IOException;
import java.io.InputStream;
import java.math.BigDecimal;
import java.math.RoundingMode;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.stream.Collectors;

/** Products, taxes and vouchers, from prices.json beside the classes. */
final class PriceList {
  /** Something to buy. */
  static final class Product {
    public String id;
    public String name;
    public BigDecimal price;
  }

  /** The file. */
  static final class File {
    public List<Product> products;
    public Map<String, BigDecimal> taxes;
    public Map<String, BigDecimal> vouchers;
  }

  private final Map<String, Product> products;
  private final Map<String, BigDecimal> taxes;
  private final Map<String, BigDecimal> vouchers;

  PriceList(ObjectMapper json) throws IOException {
    try (InputStream stream = PriceList.class.getResourceAsStream("prices.json")) {
      File file = json.readValue(stream, new TypeReference<File>() {});
      products = file.products.stream().collect(Collectors.toMap(product -> product.id, product -> product));
      taxes = file.taxes;
      vouchers = file.vouchers;
    }
  }

  /** @throws IllegalArgumentException if something in the order is not known. */
  Quote quote(Order order) {
    if (order == null) throw new IllegalArgumentException("there is no order");
    List<Quote.Line> lines = new ArrayList<>();
    for (Order.Item item : order.items) {
      Product product = products.get(item.product);
      if (product == null) throw new IllegalArgumentException("there is no product " + item.product);
      if (item.quantity < 1) throw new IllegalArgumentException("the quantity of " + item.product + " is " + item.quantity);
      lines.add(new Quote.Line(product.id, product.name, item.quantity, product.price.multiply(BigDecimal.valueOf(item.quantity))));
    }
    BigDecimal sum = lines.stream().map(line -> line.price).reduce(BigDecimal.ZERO, BigDecimal::add);
    BigDecimal discount = null;
    if (order.voucher != null) {
      BigDecimal share = vouchers.get(order.voucher);
      if (share == null) throw new IllegalArgumentException("there is no voucher " + order.voucher);
      discount = cents(sum.multiply(share));
      sum = sum.subtract(discount);
    }
    BigDecimal delivery = new BigDecimal(order.delivery == Order.Delivery.EXPRESS ? "14.90" : order.delivery == Order.Delivery.PICKUP ? "0.00" : "4.90");
    BigDecimal tax = cents(sum.add(delivery).multiply(taxes.getOrDefault(order.customer.country.orElse("DE"), BigDecimal.ZERO)));
    return new Quote(order.customer.name, lines, discount, delivery, tax, sum.add(delivery).add(tax));
  }

  private static BigDecimal cents(BigDecimal amount) {
    return amount.setScale(2, RoundingMode.HALF_UP);
  }
}
