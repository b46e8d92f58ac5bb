package thaw.runtime;

import java.io.ByteArrayOutputStream;
import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.OutputStream;
import java.net.InetSocketAddress;
import java.net.Socket;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;

/**
 * The Runtime API over one plain socket. A thread that waits for an answer is in read(2) on that socket and nothing else: no pool, no selector, no
 * timer is in the snapshot.
 */
final class RuntimeClient implements AutoCloseable {
  /** An answer of the Runtime API. */
  static final class Answer {
    final int status;
    final Map<String, String> headers;
    final byte[] body;

    Answer(int status, Map<String, String> headers, byte[] body) {
      this.status = status;
      this.headers = headers;
      this.body = body;
    }

    String header(String name) {
      return headers.get(name);
    }
  }

  private static final String PREFIX = "/2018-06-01/runtime/";
  private final String host;
  private final int port;
  private Socket socket;
  private InputStream input;
  private OutputStream output;
  private final byte[] buffer = new byte[16384];
  private int position;
  private int limit;

  RuntimeClient(String address) {
    int colon = address.lastIndexOf(':');
    host = address.substring(0, colon);
    port = Integer.parseInt(address.substring(colon + 1));
  }

  Answer next() throws IOException {
    return ask("GET", "invocation/next", null, null);
  }

  /** Waits until the process is a restored one. */
  void restoreNext() throws IOException {
    Answer answer = ask("GET", "restore/next", null, null);
    if (answer.status != 200) throw new IOException("restore/next answers " + answer.status);
  }

  void respond(String request, byte[] body) throws IOException {
    ask("POST", "invocation/" + request + "/response", null, body);
  }

  void fail(String request, String type, byte[] body) throws IOException {
    ask("POST", "invocation/" + request + "/error", type, body);
  }

  void initError(String type, byte[] body) throws IOException {
    ask("POST", "init/error", type, body);
  }

  void restoreError(String type, byte[] body) throws IOException {
    ask("POST", "restore/error", type, body);
  }

  @Override
  public void close() throws IOException {
    if (socket != null) socket.close();
  }

  private Answer ask(String method, String path, String errorType, byte[] body) throws IOException {
    if (socket == null) {
      socket = new Socket();
      socket.setTcpNoDelay(true);
      socket.connect(new InetSocketAddress(host, port));
      input = socket.getInputStream();
      output = socket.getOutputStream();
    }
    StringBuilder head = new StringBuilder(256);
    head.append(method).append(' ').append(PREFIX).append(path).append(" HTTP/1.1\r\nHost: ").append(host).append("\r\n");
    if (errorType != null) head.append("Lambda-Runtime-Function-Error-Type: ").append(errorType).append("\r\n");
    if (body != null) head.append("Content-Type: application/json\r\nContent-Length: ").append(body.length).append("\r\n");
    head.append("\r\n");
    byte[] bytes = head.toString().getBytes(StandardCharsets.ISO_8859_1);
    ByteArrayOutputStream request = new ByteArrayOutputStream(bytes.length + (body == null ? 0 : body.length));
    request.write(bytes, 0, bytes.length);
    if (body != null) request.write(body, 0, body.length);
    request.writeTo(output);
    output.flush();
    return read();
  }

  private Answer read() throws IOException {
    String status = line();
    if (status.length() < 12 || !status.startsWith("HTTP/1.1 ")) throw new IOException("not HTTP: " + status);
    Map<String, String> headers = new HashMap<>();
    for (String line = line(); !line.isEmpty(); line = line()) {
      int colon = line.indexOf(':');
      if (colon > 0) headers.put(line.substring(0, colon).toLowerCase(Locale.ROOT), line.substring(colon + 1).trim());
    }
    String length = headers.get("content-length");
    byte[] body = new byte[length == null ? 0 : Integer.parseInt(length)];
    int used = Math.min(body.length, limit - position);
    System.arraycopy(buffer, position, body, 0, used);
    position += used;
    while (used < body.length) {
      int count = input.read(body, used, body.length - used);
      if (count < 0) throw new EOFException("the Runtime API closed the connection");
      used += count;
    }
    return new Answer(Integer.parseInt(status.substring(9, 12)), headers, body);
  }

  private String line() throws IOException {
    StringBuilder line = new StringBuilder(64);
    while (true) {
      if (position == limit) {
        position = 0;
        limit = Math.max(0, input.read(buffer));
        if (limit == 0) throw new EOFException("the Runtime API closed the connection");
      }
      char letter = (char) (buffer[position++] & 0xff);
      if (letter == '\n') return line.toString();
      if (letter != '\r') line.append(letter);
    }
  }
}
