package orders;

import com.fasterxml.jackson.annotation.JsonInclude;
import com.fasterxml.jackson.annotation.JsonProperty;
import com.fasterxml.jackson.annotation.JsonPropertyOrder;
import java.math.BigDecimal;
import java.util.List;

/** What an order costs, line by line: the body of an answer. */
@JsonInclude(JsonInclude.Include.NON_NULL)
@JsonPropertyOrder({"customer", "lines", "discount", "delivery", "tax", "total"})
final class Quote {
  /** One line. */
  @JsonPropertyOrder({"product", "name", "quantity", "price"})
  static final class Line {
    @JsonProperty final String product;
    @JsonProperty final String name;
    @JsonProperty final int quantity;
    @JsonProperty final BigDecimal price;

    Line(String product, String name, int quantity, BigDecimal price) {
      this.product = product;
      this.name = name;
      this.quantity = quantity;
      this.price = price;
    }
  }

  @JsonProperty final String customer;
  @JsonProperty final List<Line> lines;
  @JsonProperty final BigDecimal discount;
  @JsonProperty final BigDecimal delivery;
  @JsonProperty final BigDecimal tax;
  @JsonProperty final BigDecimal total;

  Quote(String customer, List<Line> lines, BigDecimal discount, BigDecimal delivery, BigDecimal tax, BigDecimal total) {
    this.customer = customer;
    this.lines = lines;
    this.discount = discount;
    this.delivery = delivery;
    this.tax = tax;
    this.total = total;
  }
}
