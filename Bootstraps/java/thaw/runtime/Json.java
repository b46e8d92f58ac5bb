package thaw.runtime;

import java.math.BigDecimal;
import java.math.BigInteger;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/**
 * JSON text to values and back. Values are Map, List, String, Boolean, null, and for numbers Integer, Long or BigInteger (whole) or Double or
 * BigDecimal, whichever is the smallest that holds it.
 */
final class Json {
  /** The text is not JSON. */
  static final class SyntaxException extends RuntimeException {
    private static final long serialVersionUID = 1;

    SyntaxException(String message) {
      super(message);
    }
  }

  private static final int MAXIMUM_DEPTH = 512;
  private final String text;
  private int position;
  private int depth;

  private Json(String text) {
    this.text = text;
  }

  /** Reads a whole text. */
  static Object parse(String text) {
    Json json = new Json(text);
    json.space();
    Object value = json.value();
    json.space();
    if (json.position < text.length()) throw json.wrong("the end");
    return value;
  }

  private SyntaxException wrong(String expected) {
    String found = position < text.length() ? "'" + text.charAt(position) + "'" : "the end";
    return new SyntaxException("expected " + expected + " and found " + found + " at position " + position + " of the JSON text");
  }

  private void space() {
    while (position < text.length() && " \t\r\n".indexOf(text.charAt(position)) >= 0) position++;
  }

  private char peek() {
    return position < text.length() ? text.charAt(position) : 0;
  }

  private boolean take(char letter) {
    if (peek() != letter || position >= text.length()) return false;
    position++;
    return true;
  }

  private Object value() {
    switch (peek()) {
      case '{':
        return object();
      case '[':
        return array();
      case '"':
        return string();
      case 't':
        return word("true", Boolean.TRUE);
      case 'f':
        return word("false", Boolean.FALSE);
      case 'n':
        return word("null", null);
      default:
        return number();
    }
  }

  private Object word(String word, Object value) {
    if (!text.startsWith(word, position)) throw wrong("'" + word + "'");
    position += word.length();
    return value;
  }

  private void enter() {
    position++;
    if (++depth > MAXIMUM_DEPTH) throw new SyntaxException("the JSON text is nested deeper than " + MAXIMUM_DEPTH);
    space();
  }

  private Map<String, Object> object() {
    enter();
    Map<String, Object> result = new LinkedHashMap<>();
    if (!take('}')) {
      do {
        space();
        if (peek() != '"') throw wrong("a name");
        String name = string();
        space();
        if (!take(':')) throw wrong("':'");
        space();
        result.put(name, value());
        space();
      } while (take(','));
      if (!take('}')) throw wrong("',' or '}'");
    }
    depth--;
    return result;
  }

  private List<Object> array() {
    enter();
    List<Object> result = new ArrayList<>();
    if (!take(']')) {
      do {
        space();
        result.add(value());
        space();
      } while (take(','));
      if (!take(']')) throw wrong("',' or ']'");
    }
    depth--;
    return result;
  }

  private String string() {
    int start = ++position;
    int end = start;
    while (end < text.length() && text.charAt(end) != '"' && text.charAt(end) != '\\' && text.charAt(end) >= ' ') end++;
    if (end < text.length() && text.charAt(end) == '"') {
      position = end + 1;
      return text.substring(start, end);
    }
    StringBuilder result = new StringBuilder();
    while (position < text.length()) {
      char letter = text.charAt(position);
      if (letter < ' ') throw wrong("a letter");
      position++;
      if (letter == '"') return result.toString();
      if (letter != '\\') {
        result.append(letter);
        continue;
      }
      char kind = peek();
      position++;
      int simple = "\"\\/bfnrt".indexOf(kind);
      if (simple >= 0) {
        result.append("\"\\/\b\f\n\r\t".charAt(simple));
      } else if (kind == 'u' && position + 4 <= text.length()) {
        try {
          result.append((char) Integer.parseInt(text.substring(position, position + 4), 16));
        } catch (NumberFormatException error) {
          throw wrong("four hexadecimal digits");
        }
        position += 4;
      } else {
        position--;
        throw wrong("an escape");
      }
    }
    throw wrong("'\"'");
  }

  private Object number() {
    int start = position;
    take('-');
    int digits = position;
    while (Character.isDigit(peek())) position++;
    if (position == digits || (text.charAt(digits) == '0' && position > digits + 1)) {
      position = start;
      throw wrong("a value");
    }
    boolean whole = true;
    if (take('.')) {
      whole = false;
      if (!Character.isDigit(peek())) throw wrong("a digit");
      while (Character.isDigit(peek())) position++;
    }
    if (peek() == 'e' || peek() == 'E') {
      whole = false;
      position++;
      if (peek() == '+' || peek() == '-') position++;
      if (!Character.isDigit(peek())) throw wrong("a digit");
      while (Character.isDigit(peek())) position++;
    }
    String digitsText = text.substring(start, position);
    if (whole && digitsText.length() <= 18) {
      long number = Long.parseLong(digitsText);
      if ((int) number == number) return (int) number;
      return number;
    }
    if (whole) {
      BigInteger big = new BigInteger(digitsText);
      if (big.bitLength() < 64) return big.longValue();
      return big;
    }
    double number = Double.parseDouble(digitsText);
    return Double.isInfinite(number) ? (Object) new BigDecimal(digitsText) : (Object) number;
  }

  /** Appends a string with its quotes. */
  static void quote(String value, StringBuilder out) {
    out.append('"');
    int plain = 0;
    for (int i = 0; i < value.length(); i++) {
      char letter = value.charAt(i);
      // Runs of letters that need nothing are copied as a whole.
      if (letter >= ' ' && letter != '"' && letter != '\\' && (!Character.isSurrogate(letter) || paired(value, i))) continue;
      out.append(value, plain, i);
      plain = i + 1;
      int simple = "\"\\\b\f\n\r\t".indexOf(letter);
      if (simple >= 0) out.append('\\').append("\"\\bfnrt".charAt(simple));
      else out.append(String.format("\\u%04x", (int) letter));
    }
    out.append(value, plain, value.length()).append('"');
  }

  /** A half of a pair cannot be written as UTF-8. */
  private static boolean paired(String value, int i) {
    return Character.isHighSurrogate(value.charAt(i))
        ? i + 1 < value.length() && Character.isLowSurrogate(value.charAt(i + 1))
        : i > 0 && Character.isHighSurrogate(value.charAt(i - 1));
  }
}
