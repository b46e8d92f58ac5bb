package orders;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.json.JsonMapper;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.nio.charset.StandardCharsets;
import java.util.Map;

/**
 * An API that says what an order costs, behind an HTTP API (API Gateway's payload format 2.0): `orders.Api::handle`. It reads and writes JSON with
 * Jackson, as most do: its few hundred classes are what a cold start of Java is made of.
 */
public final class Api {
  private static final String SAMPLE =
      "{\"routeKey\": \"POST /quotes\", \"headers\": {\"content-type\": \"application/json\"}, \"body\": \"{\\\"customer\\\": {\\\"name\\\": \\\"Ada\\\", \\\"country\\\": \\\"DE\\\"},"
          + " \\\"items\\\": [{\\\"product\\\": \\\"lamp\\\", \\\"quantity\\\": 2}], \\\"delivery\\\": \\\"EXPRESS\\\", \\\"voucher\\\": \\\"SPRING\\\"}\"}";
  private final ObjectMapper json = JsonMapper.builder().enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS).build();
  private final PriceList prices = new PriceList(json);

  /** Init: under SnapStart it is run once, when the version is published. */
  public Api() throws IOException {
    // What the first request needs is loaded and compiled before the snapshot ("priming"); for a cold start it would be lost time.
    if ("snap-start".equals(System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE"))) prime();
  }

  void prime() throws IOException {
    for (int i = 0; i < 300; i++) handle(new ByteArrayInputStream(SAMPLE.getBytes(StandardCharsets.UTF_8)), new ByteArrayOutputStream());
  }

  /** Answers one request. */
  public void handle(InputStream input, OutputStream output) throws IOException {
    JsonNode request = json.readTree(input);
    ObjectNode response = json.createObjectNode();
    try {
      switch (request.path("routeKey").asText()) {
        case "POST /quotes":
          Quote quote = prices.quote(json.readValue(request.path("body").asText(), Order.class));
          response.put("statusCode", 200).put("body", json.writeValueAsString(quote));
          break;
        default:
          response.put("statusCode", 404).put("body", json.writeValueAsString(Map.of("message", "there is no " + request.path("routeKey").asText())));
      }
    } catch (JsonProcessingException error) {
      response.put("statusCode", 400).put("body", json.writeValueAsString(Map.of("message", error.getOriginalMessage())));
    } catch (IllegalArgumentException error) {
      response.put("statusCode", 422).put("body", json.writeValueAsString(Map.of("message", error.getMessage())));
    }
    response.putObject("headers").put("content-type", "application/json");
    json.writeValue(output, response);
  }
}
