import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import orders.Api;

/** A JVM for the engine's own benchmark: `EngineServer REQUEST [warm]` answers that request for each line it gets; warm ones have done it before. */
public final class EngineServer {
  private final Api api = new Api();
  private final byte[] request;

  private EngineServer(Path request) throws IOException {
    this.request = Files.readAllBytes(request);
  }

  private byte[] work() throws IOException {
    ByteArrayOutputStream output = new ByteArrayOutputStream();
    api.handle(new ByteArrayInputStream(request), output);
    output.write('\n');
    return output.toByteArray();
  }

  public static void main(String[] arguments) throws IOException {
    EngineServer server = new EngineServer(Path.of(arguments[0]));
    try (Socket socket = new Socket("127.0.0.1", 9001)) {
      socket.setTcpNoDelay(true);
      BufferedReader lines = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.US_ASCII));
      OutputStream output = socket.getOutputStream();
      if (arguments.length > 1) {
        for (int i = 0; i < 2; i++) {
          for (int j = 0; j < 300; j++) server.work();
          System.gc();
        }
        // What is used after a collection.
        server.work();
      }
      output.write("ready\n".getBytes(StandardCharsets.US_ASCII));
      while (lines.readLine() != null) output.write(server.work());
    }
  }
}
