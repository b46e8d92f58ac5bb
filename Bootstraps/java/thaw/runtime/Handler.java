package thaw.runtime;

import java.io.ByteArrayInputStream;
import java.io.ByteArrayOutputStream;
import java.io.InputStream;
import java.io.OutputStream;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.nio.charset.StandardCharsets;
import java.util.Collections;
import java.util.Map;

/**
 * The function's handler, found by Lambda's notation: `package.Class` (its handleRequest) or `package.Class::method`. AWS Lambda Developer Guide,
 * "Define Lambda function handler in Java".
 */
final class Handler {
  /** The handler cannot be used; says why, in Lambda's words where it has any. */
  static final class InvalidException extends Exception {
    private static final long serialVersionUID = 1;
    /** The type that is reported. */
    final String type;

    InvalidException(String type, String message, Throwable cause) {
      super(message, cause);
      this.type = type;
    }
  }

  private static final String PACKAGE = "com.amazonaws.services.lambda.runtime.";
  private final Object instance;
  private final Method method;
  private final Class<?>[] parameters;
  /** The parameter that takes the event, or -1. */
  private final int eventIndex;
  private final Type eventType;
  private final Map<TypeVariable<?>, Type> variables;
  /** Takes and gives bytes. */
  private final boolean isStream;

  private Handler(Object instance, Method method, Type eventType, Map<TypeVariable<?>, Type> variables) {
    this.instance = instance;
    this.method = LambdaContext.accessible(method);
    this.variables = variables;
    parameters = method.getParameterTypes();
    isStream = parameters.length >= 2 && parameters[0] == InputStream.class && parameters[1] == OutputStream.class;
    eventIndex = parameters.length > 0 && !isContext(parameters[0]) ? 0 : -1;
    this.eventType = eventIndex < 0 ? null : eventType == null ? method.getGenericParameterTypes()[0] : eventType;
  }

  private static boolean isContext(Class<?> type) {
    return type.getName().equals(PACKAGE + "Context");
  }

  /** Loads and makes the handler: its static initializers and its constructor run here. */
  static Handler load(String text, ClassLoader loader) throws InvalidException {
    String[] parts = text.split("::", -1);
    if (parts.length > 2 || parts[0].isEmpty() || (parts.length == 2 && parts[1].isEmpty())) {
      throw new InvalidException("java.lang.IllegalArgumentException", "Invalid handler: `" + text + "'", null);
    }
    String name = parts.length == 2 ? parts[1] : "handleRequest";
    Class<?> type;
    try {
      type = Class.forName(parts[0], true, loader);
    } catch (ClassNotFoundException error) {
      throw new InvalidException("java.lang.ClassNotFoundException", "Class not found: " + parts[0], error);
    } catch (ExceptionInInitializerError error) {
      throw failed(parts[0], error.getCause() == null ? error : error.getCause());
    } catch (LinkageError error) {
      throw failed(parts[0], error);
    }
    Type declared = null;
    Map<TypeVariable<?>, Type> variables = Conversion.bind(type, type, Collections.emptyMap());
    Method method = null;
    Class<?> requestHandler = find(type, "RequestHandler");
    Class<?> streamHandler = find(type, "RequestStreamHandler");
    try {
      if (name.equals("handleRequest") && streamHandler != null) {
        method = streamHandler.getMethods()[0];
      } else if (name.equals("handleRequest") && requestHandler != null) {
        method = requestHandler.getMethods()[0];
        declared = Conversion.resolve(requestHandler.getTypeParameters()[0], variables);
      } else {
        method = plain(type, name);
      }
      if (method == null) {
        throw new InvalidException(
            "java.lang.NoSuchMethodException", "No public method named " + name + " with appropriate method signature found on class " + parts[0], null);
      }
      Object instance = Modifier.isStatic(method.getModifiers()) ? null : type.getConstructor().newInstance();
      return new Handler(instance, method, declared, variables);
    } catch (NoSuchMethodException error) {
      throw new InvalidException("java.lang.NoSuchMethodException", "Class " + parts[0] + " has no public zero-argument constructor", error);
    } catch (InvocationTargetException error) {
      throw failed(parts[0], LambdaContext.cause(error));
    } catch (ReflectiveOperationException | LinkageError error) {
      throw failed(parts[0], error);
    }
  }

  private static InvalidException failed(String name, Throwable error) {
    String message = error.getMessage() == null ? "" : ": " + error.getMessage();
    return new InvalidException(error.getClass().getName(), "Error loading class " + name + message, error);
  }

  /** An interface of Lambda's that a class implements, as the class's own loader knows it. */
  private static Class<?> find(Class<?> type, String name) {
    for (Class<?> current = type; current != null; current = current.getSuperclass()) {
      for (Class<?> above : current.getInterfaces()) {
        if (above.getName().equals(PACKAGE + name)) return above;
        Class<?> found = find(above, name);
        if (found != null) return found;
      }
    }
    return null;
  }

  /** A method of that name: of several that with the most parameters, and a context among them. Compilers' bridges do not count. */
  private static Method plain(Class<?> type, String name) {
    Method best = null;
    for (Method method : type.getMethods()) {
      if (!method.getName().equals(name) || method.isBridge() || !fits(method.getParameterTypes())) continue;
      if (best == null || rank(method) > rank(best)) best = method;
    }
    return best;
  }

  private static boolean fits(Class<?>[] types) {
    boolean stream = types.length >= 2 && types[0] == InputStream.class && types[1] == OutputStream.class;
    int events = stream ? 2 : types.length > 0 && !isContext(types[0]) ? 1 : 0;
    return types.length == events || (types.length == events + 1 && isContext(types[events]));
  }

  private static int rank(Method method) {
    Class<?>[] types = method.getParameterTypes();
    return 2 * types.length + (types.length > 0 && isContext(types[types.length - 1]) ? 1 : 0);
  }

  /** Makes what the first event would have to make of the handler's types, without running any of the function's code. */
  void prime(RuntimeClient.Answer event) throws ReflectiveOperationException {
    for (Class<?> type : parameters) if (isContext(type)) LambdaContext.of(type, event);
    if (eventIndex >= 0) Conversion.prime(eventType, variables);
    Conversion.prime(method.getGenericReturnType(), variables);
    try {
      // One argument too many: the call is linked, and refused.
      method.invoke(instance, new Object[parameters.length + 1]);
    } catch (IllegalArgumentException expected) {
      return;
    }
    throw new IllegalStateException(method + " took an argument that it does not have");
  }

  /** Runs the handler on one event; answers the bytes of the response. */
  byte[] call(RuntimeClient.Answer event) throws Throwable {
    Object[] arguments = new Object[parameters.length];
    ByteArrayOutputStream output = new ByteArrayOutputStream();
    for (int i = 0; i < parameters.length; i++) {
      if (isContext(parameters[i])) {
        arguments[i] = LambdaContext.of(parameters[i], event);
      } else if (isStream) {
        arguments[i] = i == 0 ? new ByteArrayInputStream(event.body) : output;
      } else if (i == eventIndex) {
        Object value = event.body.length == 0 ? null : Json.parse(new String(event.body, StandardCharsets.UTF_8));
        arguments[i] =
            parameters[i] == InputStream.class ? new ByteArrayInputStream(event.body) : Conversion.read(value, eventType, variables);
      }
    }
    Object result;
    try {
      result = method.invoke(instance, arguments);
    } catch (InvocationTargetException error) {
      throw LambdaContext.cause(error);
    }
    if (isStream) return output.toByteArray();
    if (result == null) return "null".getBytes(StandardCharsets.US_ASCII);
    return Conversion.write(result).getBytes(StandardCharsets.UTF_8);
  }
}
