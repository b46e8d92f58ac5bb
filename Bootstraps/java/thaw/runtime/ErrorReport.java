package thaw.runtime;

import java.io.PrintWriter;
import java.io.StringWriter;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** A throwable as Lambda reports it: errorMessage, errorType, stackTrace, cause. */
final class ErrorReport {
  private static final int MAXIMUM_CAUSES = 8;
  private static final int MAXIMUM_FRAMES = 100;

  private ErrorReport() {}

  static byte[] json(Throwable error) {
    return Conversion.write(describe(error, 0)).getBytes(StandardCharsets.UTF_8);
  }

  static byte[] json(String type, String message, Throwable cause) {
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("errorMessage", message);
    result.put("errorType", type);
    result.put("stackTrace", cause == null ? new ArrayList<>() : frames(cause));
    return Conversion.write(result).getBytes(StandardCharsets.UTF_8);
  }

  private static Map<String, Object> describe(Throwable error, int depth) {
    Map<String, Object> result = new LinkedHashMap<>();
    result.put("errorMessage", error.getMessage());
    result.put("errorType", error.getClass().getName());
    result.put("stackTrace", frames(error));
    if (error.getCause() != null && depth < MAXIMUM_CAUSES) result.put("cause", describe(error.getCause(), depth + 1));
    return result;
  }

  /** The function's own frames: those of this bootstrap and of the reflection that called it are left out. */
  private static List<String> frames(Throwable error) {
    List<String> result = new ArrayList<>();
    for (StackTraceElement frame : error.getStackTrace()) {
      if (frame.getClassName().startsWith("thaw.runtime.") || result.size() == MAXIMUM_FRAMES) break;
      result.add(frame.getClassName() + "." + frame.getMethodName() + "(" + place(frame) + ")");
    }
    while (!result.isEmpty() && (result.get(result.size() - 1).startsWith("jdk.internal.reflect.") || result.get(result.size() - 1).startsWith("java.lang.reflect."))) {
      result.remove(result.size() - 1);
    }
    return result;
  }

  private static String place(StackTraceElement frame) {
    if (frame.isNativeMethod()) return "Native Method";
    if (frame.getFileName() == null) return "Unknown Source";
    return frame.getLineNumber() >= 0 ? frame.getFileName() + ":" + frame.getLineNumber() : frame.getFileName();
  }

  /** For the function's log. */
  static void log(Throwable error) {
    StringWriter text = new StringWriter();
    error.printStackTrace(new PrintWriter(text, true));
    System.err.print(text);
    System.err.flush();
  }

  /** The first failure of a resource, without what the ways to it have wrapped around it. */
  static Throwable firstOf(Throwable error) {
    Throwable result = error;
    while (true) {
      Throwable inner =
          result.getSuppressed().length > 0
              ? result.getSuppressed()[0]
              : result instanceof InvocationTargetException || result instanceof java.lang.reflect.UndeclaredThrowableException ? result.getCause() : null;
      if (inner == null) return result;
      result = inner;
    }
  }
}
