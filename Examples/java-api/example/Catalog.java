package example;

import java.util.ArrayList;
import java.util.HashSet;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Random;
import java.util.TreeMap;
import java.util.stream.Collectors;

/** The goods of a shop with an index of their words. Takes long to make: it is made once, in init, and is in the snapshot. */
final class Catalog {
  /** Something to buy. */
  static final class Product {
    private final int number;
    private final String name;
    private final double price;

    Product(int number, String name, double price) {
      this.number = number;
      this.name = name;
      this.price = price;
    }

    public int getNumber() {
      return number;
    }

    public String getName() {
      return name;
    }

    public double getPrice() {
      return price;
    }
  }

  private static final String[] COLOURS = {"red", "green", "blue", "white", "black", "yellow", "brown", "grey"};
  private static final String[] STUFFS = {"oak", "steel", "glass", "wool", "linen", "brass", "clay", "paper"};
  private static final String[] THINGS = {"lamp", "desk", "chair", "vase", "shelf", "clock", "rug", "bowl", "frame", "stool"};

  private final List<Product> products = new ArrayList<>();
  private final Map<String, List<Product>> words = new TreeMap<>();

  Catalog(int size) {
    Random random = new Random(4711);
    for (int number = 1; number <= size; number++) {
      String name = pick(COLOURS, random) + " " + pick(STUFFS, random) + " " + pick(THINGS, random);
      Product product = new Product(number, name, Math.floor(random.nextDouble() * 20000) / 100.0);
      products.add(product);
      for (String word : name.split(" ")) words.computeIfAbsent(word, key -> new ArrayList<>()).add(product);
    }
  }

  private static String pick(String[] words, Random random) {
    return words[random.nextInt(words.length)];
  }

  int size() {
    return products.size();
  }

  /** Products whose names have all the words, cheapest first. */
  List<Product> search(String text, int limit) {
    List<Product> found = products;
    for (String word : text.toLowerCase(Locale.ROOT).trim().split("\\s+")) {
      List<Product> having = words.getOrDefault(word, List.of());
      found = found == products ? having : found.stream().filter(new HashSet<>(having)::contains).collect(Collectors.toList());
    }
    return found.stream().sorted((a, b) -> Double.compare(a.price, b.price)).limit(limit).collect(Collectors.toList());
  }

  /** How many products cost how much. */
  Map<String, Long> prices() {
    Map<String, Long> result = new LinkedHashMap<>();
    for (int from = 0; from < 200; from += 50) {
      int least = from;
      result.put(from + "-" + (from + 50), products.stream().filter(product -> product.price >= least && product.price < least + 50).count());
    }
    return result;
  }
}
