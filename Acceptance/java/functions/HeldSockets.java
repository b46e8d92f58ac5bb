package functions;

import static java.nio.charset.StandardCharsets.UTF_8;

import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.io.InputStream;
import java.net.DatagramPacket;
import java.net.DatagramSocket;
import java.net.InetAddress;
import java.net.InetSocketAddress;
import java.net.ServerSocket;
import java.net.Socket;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.ByteBuffer;
import java.nio.channels.Pipe;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.ServerSocketChannel;
import java.nio.channels.SocketChannel;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.Callable;
import java.util.concurrent.FutureTask;
import java.util.concurrent.TimeUnit;

/** Selectors, pipes, servers and connections of the loopback interface, with threads that wait at them. */
public final class HeldSockets {
  private final InetAddress loopback = InetAddress.getLoopbackAddress();
  private final Selector selector = Selector.open();
  private final Pipe pipe = Pipe.open();
  private final ServerSocketChannel server = ServerSocketChannel.open();
  private final SelectionKey fromPipe;
  private final SelectionKey fromServer;

  private final ServerSocketChannel echo = ServerSocketChannel.open();
  private final ServerSocket accepting = new ServerSocket(0, 5, loopback);
  private final DatagramSocket datagrams = new DatagramSocket(0, loopback);
  private final FutureTask<String> accepted;
  private final FutureTask<String> received;
  private final HttpServer web = HttpServer.create(new InetSocketAddress(loopback, 0), 5);
  private final HttpClient browser = HttpClient.newHttpClient();
  private final List<Socket> ends = new ArrayList<>();
  private final FutureTask<Object> connection;
  private final FutureTask<Object> timed;

  public HeldSockets() throws Exception {
    server.bind(new InetSocketAddress(loopback, 0)).configureBlocking(false);
    fromServer = server.register(selector, SelectionKey.OP_ACCEPT);
    pipe.source().configureBlocking(false);
    fromPipe = pipe.source().register(selector, SelectionKey.OP_READ);
    pipe.sink().write(ByteBuffer.wrap("from init".getBytes(UTF_8)));

    echo.bind(new InetSocketAddress(loopback, 0)).configureBlocking(false);
    Selector own = Selector.open();
    echo.register(own, SelectionKey.OP_ACCEPT);
    start(() -> serve(own));
    accepted = start(() -> {
      try (Socket socket = accepting.accept()) {
        return new String(socket.getInputStream().readAllBytes(), UTF_8);
      }
    });
    received = start(() -> {
      DatagramPacket packet = new DatagramPacket(new byte[100], 100);
      datagrams.receive(packet);
      return new String(packet.getData(), 0, packet.getLength(), UTF_8);
    });
    web.createContext("/", exchange -> {
      byte[] path = exchange.getRequestURI().getPath().getBytes(UTF_8);
      exchange.sendResponseHeaders(200, path.length);
      exchange.getResponseBody().write(path);
      exchange.close();
    });
    web.start();
    // From now on the client keeps a connection.
    get("/init");
    connection = start(() -> Clone.outcome(connected(0)::read));
    timed = start(() -> Clone.outcome(connected(60_000)::read));
  }

  private static <T> FutureTask<T> start(Callable<T> wait) {
    FutureTask<T> task = new FutureTask<>(wait);
    Thread thread = new Thread(task);
    thread.setDaemon(true);
    thread.start();
    return task;
  }

  /** The stream of a connection whose other end is in this process and says nothing. */
  private InputStream connected(int timeout) throws IOException {
    try (ServerSocket server = new ServerSocket(0, 1, loopback)) {
      Socket socket = new Socket(loopback, server.getLocalPort());
      Socket other = server.accept();
      synchronized (ends) {
        ends.add(socket);
        ends.add(other);
      }
      socket.setSoTimeout(timeout);
      return socket.getInputStream();
    }
  }

  /** An event loop: gives back what it gets. */
  private Void serve(Selector own) throws IOException {
    while (true) {
      own.select();
      for (SelectionKey key : own.selectedKeys()) {
        if (key.isAcceptable()) {
          SocketChannel client = echo.accept();
          client.configureBlocking(false);
          client.register(own, SelectionKey.OP_READ);
        } else {
          ByteBuffer buffer = ByteBuffer.allocate(1000);
          SocketChannel client = (SocketChannel) key.channel();
          if (client.read(buffer) < 0) client.close();
          else client.write(buffer.flip());
        }
      }
      own.selectedKeys().clear();
    }
  }

  private String get(String path) throws Exception {
    HttpRequest request = HttpRequest.newBuilder(URI.create("http://127.0.0.1:" + web.getAddress().getPort() + path)).build();
    return browser.send(request, HttpResponse.BodyHandlers.ofString()).body();
  }

  private String echoed(String text) throws IOException {
    try (Socket socket = new Socket(loopback, ((InetSocketAddress) echo.getLocalAddress()).getPort())) {
      socket.getOutputStream().write(text.getBytes(UTF_8));
      return new String(socket.getInputStream().readNBytes(text.length()), UTF_8);
    }
  }

  public Map<String, Object> handleRequest(Map<String, Object> event) throws Exception {
    Clone clone = new Clone(event);
    ByteBuffer buffer = ByteBuffer.allocate(100);
    // What waited in the pipe, and nothing else.
    final int ready = selector.select(10_000);
    final boolean isPipe = selector.selectedKeys().equals(java.util.Set.of(fromPipe)) && fromPipe.isReadable();
    selector.selectedKeys().clear();
    pipe.source().read(buffer);
    final String waited = new String(buffer.array(), 0, buffer.position(), UTF_8);
    final int readyAgain = selector.selectNow();

    SocketChannel client = SocketChannel.open(server.getLocalAddress());
    pipe.sink().write(ByteBuffer.wrap(clone.me.getBytes(UTF_8)));
    clone.overlap();
    selector.select(10_000);
    final boolean both = selector.selectedKeys().equals(java.util.Set.of(fromPipe, fromServer));
    SocketChannel served = server.accept();
    client.write(ByteBuffer.wrap(clone.me.getBytes(UTF_8)));
    client.shutdownOutput();
    String fromClient = new String(served.socket().getInputStream().readAllBytes(), UTF_8);
    buffer.clear();
    pipe.source().read(buffer);
    final String piped = new String(buffer.array(), 0, buffer.position(), UTF_8);

    Map<String, Object> reply = clone.reply();
    reply.put("pipe", ready + ", " + isPipe + ", " + waited + ", " + readyAgain);
    reply.put("both", both + ", " + fromClient + ", " + piped);
    reply.put("http", get("/" + clone.me) + ", " + get("/again"));
    reply.put("echo", echoed(clone.me) + ", " + echoed("again"));
    try (Socket socket = new Socket(loopback, accepting.getLocalPort())) {
      socket.getOutputStream().write(clone.me.getBytes(UTF_8));
    }
    reply.put("accepted", accepted.get(10, TimeUnit.SECONDS));
    try (DatagramSocket sender = new DatagramSocket(0, loopback)) {
      byte[] bytes = clone.me.getBytes(UTF_8);
      sender.send(new DatagramPacket(bytes, bytes.length, loopback, datagrams.getLocalPort()));
    }
    reply.put("received", received.get(10, TimeUnit.SECONDS));
    // Established connections come back closed: the end of the stream or an exception, soon.
    reply.put("connection", connection.get(10, TimeUnit.SECONDS));
    reply.put("connection with a timeout", timed.get(10, TimeUnit.SECONDS));
    // The first write to a connection that the other end has closed may succeed; its answer is a reset.
    List<Object> writes = new ArrayList<>();
    for (Socket end : ends) {
      writes.add(
          Clone.outcome(() -> {
            for (int i = 0; i < 3; i++) {
              end.getOutputStream().write(1);
              Thread.sleep(50);
            }
            return "written";
          }));
    }
    reply.put("writes", writes);
    return reply;
  }
}
