package com.amazonaws.services.lambda.runtime.api.client;

import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.HttpURLConnection;
import java.net.URL;
import java.nio.charset.StandardCharsets;

/** In the place of AWS's runtime interface client: its own loop over the Runtime API, with java.net's pool of kept connections. */
public final class AWSLambda {
  private AWSLambda() {}

  public static void main(String[] arguments) throws IOException {
    String api = "http://" + System.getenv("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/";
    String state = "init";
    if ("snap-start".equals(System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE"))) {
      HttpURLConnection restore = (HttpURLConnection) new URL(api + "restore/next").openConnection();
      if (restore.getResponseCode() != 200) throw new IOException("restore/next answers " + restore.getResponseCode());
      restore.getInputStream().readAllBytes();
      state = "restored";
    }
    for (int invocation = 1; ; invocation++) {
      HttpURLConnection next = (HttpURLConnection) new URL(api + "invocation/next").openConnection();
      String event;
      try (InputStream input = next.getInputStream()) {
        event = new String(input.readAllBytes(), StandardCharsets.UTF_8);
      }
      String answer =
          "{\"handler\":\"" + arguments[0] + "\",\"state\":\"" + state + "\",\"invocation\":" + invocation + ",\"event\":" + event + ",\"crac\":\""
              + System.getProperty("org.crac.Core.Compat") + "\"}";
      HttpURLConnection response =
          (HttpURLConnection) new URL(api + "invocation/" + next.getHeaderField("Lambda-Runtime-Aws-Request-Id") + "/response").openConnection();
      response.setDoOutput(true);
      try (OutputStream output = response.getOutputStream()) {
        output.write(answer.getBytes(StandardCharsets.UTF_8));
      }
      try (InputStream input = response.getInputStream()) {
        input.readAllBytes();
      }
    }
  }
}
