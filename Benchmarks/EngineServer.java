import java.io.BufferedReader;
import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.InputStreamReader;
import java.io.OutputStream;
import java.io.UncheckedIOException;
import java.net.InetAddress;
import java.net.ServerSocket;
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

  /** Answers until the other end closes. */
  private void serve(Socket socket) throws IOException {
    socket.setTcpNoDelay(true);
    BufferedReader lines = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.US_ASCII));
    OutputStream output = socket.getOutputStream();
    output.write("ready\n".getBytes(StandardCharsets.US_ASCII));
    while (lines.readLine() != null) output.write(work());
  }

  /** Answers requests of its own, on the way that others take later. */
  private void warm(int requests) throws Exception {
    try (ServerSocket listener = new ServerSocket(0, 1, InetAddress.getLoopbackAddress())) {
      Thread client = new Thread(() -> {
        try (Socket socket = new Socket(listener.getInetAddress(), listener.getLocalPort())) {
          BufferedReader lines = new BufferedReader(new InputStreamReader(socket.getInputStream(), StandardCharsets.US_ASCII));
          for (int i = 0; i <= requests; i++) {
            lines.readLine();
            if (i < requests) socket.getOutputStream().write('\n');
          }
        } catch (IOException e) {
          throw new UncheckedIOException(e);
        }
      });
      client.start();
      try (Socket socket = listener.accept()) {
        serve(socket);
      }
      client.join();
    }
  }

  public static void main(String[] arguments) throws Exception {
    EngineServer server = new EngineServer(Path.of(arguments[0]));
    if (arguments.length > 1) {
      for (int i = 0; i < 2; i++) {
        server.warm(300);
        System.gc();
      }
      // What is used after a collection.
      server.warm(3);
    }
    try (Socket socket = new Socket("127.0.0.1", 9001)) {
      server.serve(socket);
    }
  }
}
