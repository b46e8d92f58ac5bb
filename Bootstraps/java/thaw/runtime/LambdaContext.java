package thaw.runtime;

import java.lang.invoke.MethodHandles;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.Proxy;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.Map;
import java.util.function.Function;

/**
 * The context object of an invocation. Its interfaces (com.amazonaws.services.lambda.runtime.Context and those that it names) come from the function's
 * archive and are unknown here: each is a proxy that answers methods by their names.
 */
final class LambdaContext {
  private LambdaContext() {}

  /** A value of the interface `type`, whose methods are answered from `values` by name; other methods by their default, or null. */
  static Object proxy(Class<?> type, Map<String, Function<Object[], Object>> values) {
    return Proxy.newProxyInstance(
        type.getClassLoader(),
        new Class<?>[] {type},
        (self, method, arguments) -> {
          Function<Object[], Object> value = values.get(method.getName());
          if (value != null) return value.apply(arguments);
          switch (method.getName()) {
            case "toString":
              return type.getSimpleName() + values.keySet();
            case "hashCode":
              return System.identityHashCode(self);
            case "equals":
              return self == arguments[0];
            default:
              return standard(self, method, arguments);
          }
        });
  }

  private static Object standard(Object self, Method method, Object[] arguments) throws Throwable {
    if (method.isDefault()) {
      Class<?> owner = method.getDeclaringClass();
      return MethodHandles.privateLookupIn(owner, MethodHandles.lookup()).unreflectSpecial(method, owner).bindTo(self).invokeWithArguments(
          arguments == null ? new Object[0] : arguments);
    }
    Class<?> result = method.getReturnType();
    return result.isPrimitive() && result != void.class ? java.lang.reflect.Array.get(java.lang.reflect.Array.newInstance(result, 1), 0) : null;
  }

  /** The logger: a line, or bytes as they are, to the function's log. */
  static Object logger(Class<?> type) {
    Map<String, Function<Object[], Object>> values = new HashMap<>();
    values.put(
        "log",
        arguments -> {
          Object message = arguments[0];
          // The second argument is a LogLevel.
          String level = arguments.length > 1 && !"UNDEFINED".equals(String.valueOf(arguments[1])) ? "[" + arguments[1] + "] " : "";
          byte[] bytes = message instanceof byte[] ? (byte[]) message : (level + message + "\n").getBytes(StandardCharsets.UTF_8);
          System.out.write(bytes, 0, bytes.length);
          System.out.flush();
          return null;
        });
    return proxy(type, values);
  }

  private static Class<?> resultOf(Class<?> type, String method) throws NoSuchMethodException {
    return type.getMethod(method).getReturnType();
  }

  /** The context of one event. `type` is the interface as the function has it. */
  static Object of(Class<?> type, RuntimeClient.Answer event) throws ReflectiveOperationException {
    Map<String, Function<Object[], Object>> values = new HashMap<>();
    put(values, "getAwsRequestId", event.header("lambda-runtime-aws-request-id"));
    put(values, "getInvokedFunctionArn", event.header("lambda-runtime-invoked-function-arn"));
    put(values, "getXrayTraceId", event.header("lambda-runtime-trace-id"));
    put(values, "getTenantId", event.header("lambda-runtime-aws-tenant-id"));
    put(values, "getFunctionName", System.getenv("AWS_LAMBDA_FUNCTION_NAME"));
    put(values, "getFunctionVersion", System.getenv("AWS_LAMBDA_FUNCTION_VERSION"));
    put(values, "getLogGroupName", System.getenv("AWS_LAMBDA_LOG_GROUP_NAME"));
    put(values, "getLogStreamName", System.getenv("AWS_LAMBDA_LOG_STREAM_NAME"));
    put(values, "getMemoryLimitInMB", Integer.valueOf(System.getenv("AWS_LAMBDA_FUNCTION_MEMORY_SIZE")));
    String deadline = event.header("lambda-runtime-deadline-ms");
    long end = deadline == null ? 0 : Long.parseLong(deadline);
    values.put("getRemainingTimeInMillis", arguments -> (int) Math.max(0, end - System.currentTimeMillis()));
    put(values, "getLogger", logger(resultOf(type, "getLogger")));
    String client = event.header("lambda-runtime-client-context");
    put(values, "getClientContext", client == null ? null : clientContext(resultOf(type, "getClientContext"), (Map<?, ?>) Json.parse(client)));
    String identity = event.header("lambda-runtime-cognito-identity");
    put(values, "getIdentity", identity == null ? null : identity(resultOf(type, "getIdentity"), (Map<?, ?>) Json.parse(identity)));
    return proxy(type, values);
  }

  private static void put(Map<String, Function<Object[], Object>> values, String name, Object value) {
    values.put(name, arguments -> value);
  }

  private static Object identity(Class<?> type, Map<?, ?> json) {
    Map<String, Function<Object[], Object>> values = new HashMap<>();
    put(values, "getIdentityId", json.get("cognitoIdentityId"));
    put(values, "getIdentityPoolId", json.get("cognitoIdentityPoolId"));
    return proxy(type, values);
  }

  private static Object clientContext(Class<?> type, Map<?, ?> json) throws NoSuchMethodException {
    Map<String, Function<Object[], Object>> values = new HashMap<>();
    put(values, "getCustom", json.get("custom"));
    put(values, "getEnvironment", json.get("env"));
    Map<?, ?> client = (Map<?, ?>) json.get("client");
    Map<String, Function<Object[], Object>> fields = new HashMap<>();
    if (client != null) {
      put(fields, "getInstallationId", client.get("installation_id"));
      put(fields, "getAppTitle", client.get("app_title"));
      put(fields, "getAppVersionName", client.get("app_version_name"));
      put(fields, "getAppVersionCode", client.get("app_version_code"));
      put(fields, "getAppPackageName", client.get("app_package_name"));
    }
    put(values, "getClient", client == null ? null : proxy(resultOf(type, "getClient"), fields));
    return proxy(type, values);
  }

  /** A method that can be called from here although its class is not public. */
  static Method accessible(Method method) {
    if (!Modifier.isPublic(method.getDeclaringClass().getModifiers())) method.setAccessible(true);
    return method;
  }

  /** What a reflective call threw, without the wrapping. */
  static Throwable cause(InvocationTargetException error) {
    return error.getCause() == null ? error : error.getCause();
  }
}
