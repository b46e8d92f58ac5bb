package functions;

import static java.nio.charset.StandardCharsets.UTF_8;
import static java.nio.file.StandardOpenOption.CREATE;
import static java.nio.file.StandardOpenOption.READ;
import static java.nio.file.StandardOpenOption.WRITE;

import java.io.BufferedReader;
import java.io.IOException;
import java.io.RandomAccessFile;
import java.nio.ByteBuffer;
import java.nio.MappedByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileLock;
import java.nio.file.DirectoryStream;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardWatchEventKinds;
import java.nio.file.WatchEvent;
import java.nio.file.WatchKey;
import java.nio.file.WatchService;
import java.util.Map;
import java.util.TreeSet;
import java.util.concurrent.TimeUnit;

/** Maps, locks, watches, open and deleted files of /tmp; memory outside of the heap. */
public final class HeldFiles {
  private static final int SIZE = 1 << 16;

  private final Path sharedFile = Path.of("/tmp/shared");
  private final MappedByteBuffer shared = map(sharedFile, FileChannel.MapMode.READ_WRITE);
  private final MappedByteBuffer table = map(Path.of("/tmp/table"), FileChannel.MapMode.READ_ONLY);
  private final MappedByteBuffer changed = map(Path.of("/tmp/changed"), FileChannel.MapMode.PRIVATE);
  private final ByteBuffer direct = ByteBuffer.allocateDirect(1 << 20);
  private final FileChannel lockedFile = FileChannel.open(Path.of("/tmp/locked"), CREATE, READ, WRITE);
  private final FileLock lock = lockedFile.lock(100, 50, false);
  private final RandomAccessFile open = new RandomAccessFile("/tmp/open", "rw");
  private final RandomAccessFile deleted = new RandomAccessFile("/tmp/deleted", "rw");
  private final BufferedReader reader;
  private final WatchService watch;
  private final WatchKey root;
  private final WatchKey key;

  public HeldFiles() throws IOException {
    put(shared, SIZE - 100, "from init");
    changed.put(5, (byte) '!');
    for (int i = 0; i < direct.capacity(); i += 8) direct.putLong(i, i * 31L);
    open.writeBytes("first line\nsecond line\n");
    open.seek(11);
    deleted.writeBytes("nobody finds this");
    Files.delete(Path.of("/tmp/deleted"));
    Files.writeString(Path.of("/tmp/lines"), "one\ntwo\nthree\n");
    reader = Files.newBufferedReader(Path.of("/tmp/lines"));
    reader.readLine();
    Path watched = Files.createDirectories(Path.of("/tmp/watched"));
    Files.writeString(watched.resolve("before"), "");
    watch = watched.getFileSystem().newWatchService();
    root = watched.getParent().register(watch, StandardWatchEventKinds.ENTRY_CREATE);
    key = watched.register(watch, StandardWatchEventKinds.ENTRY_CREATE, StandardWatchEventKinds.ENTRY_DELETE);
  }

  private static MappedByteBuffer map(Path file, FileChannel.MapMode mode) throws IOException {
    Files.writeString(file, "file " + file.getFileName());
    try (FileChannel channel = FileChannel.open(file, READ, WRITE)) {
      // The map outlives its channel.
      channel.write(ByteBuffer.wrap(new byte[1]), SIZE - 1);
      return channel.map(mode, 0, SIZE);
    }
  }

  private static void put(ByteBuffer buffer, int position, String text) {
    byte[] bytes = text.getBytes(UTF_8);
    for (int i = 0; i < bytes.length; i++) buffer.put(position + i, bytes[i]);
  }

  private static String get(ByteBuffer buffer, int position, int length) {
    byte[] bytes = new byte[length];
    for (int i = 0; i < length; i++) bytes[i] = buffer.get(position + i);
    return new String(bytes, UTF_8);
  }

  /** What the kernel says about locks of this process's descriptors. */
  private static int kernelLocks() throws IOException {
    int count = 0;
    try (DirectoryStream<Path> descriptors = Files.newDirectoryStream(Path.of("/proc/self/fdinfo"))) {
      for (Path descriptor : descriptors) {
        try {
          count += Files.readString(descriptor).contains("POSIX  ADVISORY  WRITE") ? 1 : 0;
        } catch (IOException error) {
          // It was that of the directory itself.
        }
      }
    }
    return count;
  }

  public Map<String, Object> handleRequest(Map<String, Object> event) throws Exception {
    Clone clone = new Clone(event);
    final String sharedAtFirst = get(shared, SIZE - 100, 9);
    put(shared, 1000, clone.me);
    put(changed, 1000, clone.me);
    Files.writeString(Path.of("/tmp/watched/" + clone.me), "");
    Files.delete(Path.of("/tmp/watched/before"));
    Files.writeString(Path.of("/tmp/" + clone.me), "");
    deleted.writeBytes(clone.me);
    clone.overlap();

    Map<String, Object> reply = clone.reply();
    reply.put("shared", sharedAtFirst + ", " + get(shared, 1000, clone.me.length()));
    // One memory: what is written to the file is in the map, and the other way round.
    byte[] content = Files.readAllBytes(sharedFile);
    try (FileChannel channel = FileChannel.open(sharedFile, WRITE)) {
      channel.write(ByteBuffer.wrap("by write".getBytes(UTF_8)), 2000);
    }
    shared.force();
    reply.put("shared in the file", new String(content, 1000, clone.me.length(), UTF_8) + ", " + get(shared, 2000, 8));
    reply.put("table", get(table, 0, 10));
    reply.put("changed", get(changed, 0, 12) + ", " + get(changed, 1000, clone.me.length()));
    reply.put("changed in the file", new String(Files.readAllBytes(Path.of("/tmp/changed")), 0, 12, UTF_8));
    boolean whole = true;
    for (int i = 0; i < direct.capacity(); i += 8) whole &= direct.getLong(i) == i * 31L;
    reply.put("direct", whole);

    reply.put("lock", lock.isValid() + ", " + kernelLocks());
    reply.put("lock again", Clone.outcome(() -> lockedFile.tryLock(120, 1, false)));
    lock.release();
    int released = kernelLocks();
    try (FileLock second = lockedFile.lock()) {
      reply.put("lock anew", released + ", " + kernelLocks() + ", " + second.isValid());
    }

    reply.put("open", open.getFilePointer() + ", " + open.readLine());
    reply.put("lines", reader.readLine() + ", " + reader.readLine() + ", " + reader.readLine());
    deleted.seek(0);
    reply.put("deleted", deleted.readLine() + ", " + Files.exists(Path.of("/tmp/deleted")));

    TreeSet<String> events = new TreeSet<>();
    for (WatchKey next; events.size() < 3 && (next = watch.poll(10, TimeUnit.SECONDS)) != null; next.reset()) {
      String directory = next == root ? "/tmp/" : next == key ? "/tmp/watched/" : "?";
      for (WatchEvent<?> happened : next.pollEvents()) events.add(happened.kind() + " " + directory + happened.context());
    }
    reply.put("events", events);
    return reply;
  }
}
