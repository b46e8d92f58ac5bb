package thaw.runtime;

import java.io.File;
import java.io.IOException;
import java.net.MalformedURLException;
import java.net.URL;
import java.net.URLClassLoader;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;
import thaw.crac.Core;

/**
 * Runs a function that does not bring AWS's runtime interface client: loads its handler, waits in restore/next under SnapStart, and answers events one by
 * one.
 */
public final class Bootstrap {
  private Bootstrap() {}

  public static void main(String[] arguments) throws IOException {
    RuntimeClient client = new RuntimeClient(System.getenv("AWS_LAMBDA_RUNTIME_API"));
    Handler handler = null;
    try {
      ClassLoader loader = loader(System.getenv("LAMBDA_TASK_ROOT"));
      Thread.currentThread().setContextClassLoader(loader);
      handler = Handler.load(arguments.length > 0 ? arguments[0] : String.valueOf(System.getenv("_HANDLER")), loader);
    } catch (Handler.InvalidException error) {
      ErrorReport.log(error.getCause() == null ? error : error.getCause());
      client.initError("Runtime.BadFunctionCode", ErrorReport.json(error.type, error.getMessage(), error.getCause()));
      System.exit(1);
    }
    if ("snap-start".equals(System.getenv("AWS_LAMBDA_INITIALIZATION_TYPE"))) snapshot(client, handler);
    while (true) {
      RuntimeClient.Answer event = client.next();
      if (event.status != 200) throw new IOException("invocation/next answers " + event.status);
      run(handler, client, event);
    }
  }

  private static void run(Handler handler, RuntimeClient client, RuntimeClient.Answer event) throws IOException {
    String request = event.header("lambda-runtime-aws-request-id");
    String trace = event.header("lambda-runtime-trace-id");
    if (trace == null) System.clearProperty("com.amazonaws.xray.traceHeader");
    else System.setProperty("com.amazonaws.xray.traceHeader", trace);
    Throwable failure = null;
    byte[] response = null;
    try {
      response = handler.call(event);
    } catch (Throwable error) {
      failure = error;
      ErrorReport.log(error);
    }
    System.out.flush();
    System.err.flush();
    Thread.interrupted();
    if (failure == null) client.respond(request, response);
    else client.fail(request, failure.getClass().getName(), ErrorReport.json(failure));
    // Out of memory and the like: nothing in this process can be trusted any more.
    if (failure instanceof VirtualMachineError) System.exit(1);
  }

  /** Everything up to the call of restore/next is in the snapshot; every environment begins with its answer. */
  private static void snapshot(RuntimeClient client, Handler handler) throws IOException {
    try {
      Core.getGlobalContext().beforeCheckpoint(null);
    } catch (Exception error) {
      Throwable first = ErrorReport.firstOf(error);
      ErrorReport.log(first);
      client.initError("Runtime.BeforeSnapshotError", ErrorReport.json(first));
      System.exit(64);
    }
    Priming.run(handler);
    Randomness.prepare();
    System.out.flush();
    System.err.flush();
    // Twice: the first finds what is to be finalized or was softly reachable, the second frees it.
    System.gc();
    System.gc();
    Priming.again(handler);
    Randomness.reseed();
    client.restoreNext();
    Randomness.reseed();
    try {
      Core.getGlobalContext().afterRestore(null);
    } catch (Exception error) {
      Throwable first = ErrorReport.firstOf(error);
      ErrorReport.log(first);
      client.restoreError("Runtime.AfterRestoreError", ErrorReport.json(first));
      System.exit(64);
    }
  }

  /** Classes and resources at the top of the archive, then its libraries and those of layers, in the order of their names. */
  private static ClassLoader loader(String root) {
    List<URL> urls = new ArrayList<>();
    try {
      urls.add(new File(root + "/").toURI().toURL());
      for (String directory : new String[] {root + "/lib", "/opt/java/lib"}) {
        String[] names = new File(directory).list((parent, name) -> name.endsWith(".jar"));
        if (names == null) continue;
        Arrays.sort(names);
        for (String name : names) urls.add(new File(directory, name).toURI().toURL());
      }
    } catch (MalformedURLException error) {
      throw new IllegalStateException(error);
    }
    return new URLClassLoader("function", urls.toArray(new URL[0]), ClassLoader.getSystemClassLoader());
  }
}
