package example;

import java.util.Map;

/**
 * A small JSON API behind an HTTP API (API Gateway's payload format 2.0): `example.Api::handle`. It needs no library of Lambda's; with one it could
 * implement RequestHandler as well.
 */
public final class Api {
  /** What of the request is looked at. */
  public static class Request {
    private String rawPath = "/";
    private Map<String, String> queryStringParameters = Map.of();

    public void setRawPath(String rawPath) {
      this.rawPath = rawPath;
    }

    public void setQueryStringParameters(Map<String, String> queryStringParameters) {
      this.queryStringParameters = queryStringParameters;
    }
  }

  private final Catalog catalog;

  /** Init: under SnapStart it is run once, when the version is published. */
  public Api() {
    catalog = new Catalog(20_000);
    System.out.println("a catalog of " + catalog.size() + " products");
    // What the first request needs is loaded and compiled before the snapshot ("priming"); for a cold start it would be lost time.
    if (!"snap-start".equals(System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE"))) return;
    Request sample = new Request();
    sample.setRawPath("/search");
    sample.setQueryStringParameters(Map.of("q", "red oak lamp"));
    for (int i = 0; i < 50; i++) handle(sample);
  }

  /** What has no statusCode is the body of an answer with 200. */
  public Map<String, ?> handle(Request request) {
    switch (request.rawPath) {
      case "/search":
        String text = request.queryStringParameters.getOrDefault("q", "");
        return Map.of("products", catalog.search(text, 3));
      case "/prices":
        return catalog.prices();
      default:
        return Map.of("statusCode", 404, "body", "there is no " + request.rawPath);
    }
  }
}
