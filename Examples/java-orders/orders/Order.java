package orders;

import com.fasterxml.jackson.annotation.JsonCreator;
import com.fasterxml.jackson.annotation.JsonProperty;
import java.util.List;
import java.util.Optional;

/** An order as it comes in a request's body. */
final class Order {
  /** How it is brought. */
  enum Delivery {
    STANDARD, EXPRESS, PICKUP
  }

  /** Some pieces of one product. */
  static final class Item {
    final String product;
    final int quantity;

    @JsonCreator
    Item(@JsonProperty(value = "product", required = true) String product, @JsonProperty(value = "quantity", required = true) int quantity) {
      this.product = product;
      this.quantity = quantity;
    }
  }

  /** Who orders. */
  static final class Customer {
    final String name;
    final Optional<String> country;

    @JsonCreator
    Customer(@JsonProperty(value = "name", required = true) String name, @JsonProperty("country") String country) {
      this.name = name;
      this.country = Optional.ofNullable(country);
    }
  }

  final Customer customer;
  final List<Item> items;
  final Delivery delivery;
  final String voucher;

  @JsonCreator
  Order(
      @JsonProperty(value = "customer", required = true) Customer customer, @JsonProperty(value = "items", required = true) List<Item> items,
      @JsonProperty("delivery") Delivery delivery, @JsonProperty("voucher") String voucher) {
    if (customer == null || items == null) throw new IllegalArgumentException("customer and items are needed");
    this.customer = customer;
    this.items = List.copyOf(items);
    this.delivery = delivery == null ? Delivery.STANDARD : delivery;
    this.voucher = voucher;
  }
}
