package thaw.runtime;

import java.lang.reflect.AnnotatedElement;
import java.lang.reflect.Array;
import java.lang.reflect.Constructor;
import java.lang.reflect.Field;
import java.lang.reflect.GenericArrayType;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Modifier;
import java.lang.reflect.ParameterizedType;
import java.lang.reflect.Type;
import java.lang.reflect.TypeVariable;
import java.lang.reflect.WildcardType;
import java.math.BigDecimal;
import java.math.BigInteger;
import java.nio.ByteBuffer;
import java.util.ArrayList;
import java.util.Base64;
import java.util.Collection;
import java.util.Date;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.LinkedHashSet;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.Optional;
import java.util.SortedMap;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;

/** Values of {@link Json} to what a handler takes, and what it returns to JSON: maps, lists, strings, numbers, enums, beans and records. */
final class Conversion {
  /** A value does not fit the type that the handler declares. */
  static final class MismatchException extends RuntimeException {
    private static final long serialVersionUID = 1;

    MismatchException(String message, Throwable cause) {
      super(message, cause);
    }
  }

  private Conversion() {}

  private static MismatchException mismatch(Object value, Type type, Throwable cause) {
    String text = value instanceof Map ? "an object" : value instanceof List ? "an array" : String.valueOf(value);
    return new MismatchException("cannot read " + text + " as " + type.getTypeName(), cause);
  }

  /** Finds the properties of a type, and of those that they have, ahead of their first use. */
  static void prime(Type type, Map<TypeVariable<?>, Type> variables) {
    prime(type, variables, new java.util.HashSet<>());
  }

  private static void prime(Type type, Map<TypeVariable<?>, Type> outer, java.util.Set<Class<?>> seen) {
    Type actual = resolve(type, outer);
    if (actual instanceof ParameterizedType) {
      for (Type argument : ((ParameterizedType) actual).getActualTypeArguments()) prime(argument, outer, seen);
    }
    Class<?> raw = raw(actual);
    while (raw.isArray()) raw = raw.getComponentType();
    if (raw.isPrimitive() || raw.isEnum() || raw.getName().startsWith("java.") || !seen.add(raw)) return;
    Map<TypeVariable<?>, Type> variables = bind(actual, raw, outer);
    for (Property property : Property.writable(raw).values()) prime(property.type, variables, seen);
    for (Property property : Property.readable(raw).values()) prime(property.type, variables, seen);
  }

  // From JSON.

  /** A value as `type`; `variables` binds type variables of the class that declares it. */
  static Object read(Object value, Type type, Map<TypeVariable<?>, Type> variables) {
    Type actual = resolve(type, variables);
    if (actual instanceof GenericArrayType) {
      return readArray(value, ((GenericArrayType) actual).getGenericComponentType(), variables);
    }
    Class<?> raw = raw(actual);
    if (raw == Optional.class) return Optional.ofNullable(read(value, argument(actual, 0), variables));
    if (value == null) {
      if (raw.isPrimitive() && raw != void.class) return Array.get(Array.newInstance(raw, 1), 0);
      return null;
    }
    if (raw == Object.class) return value;
    if (raw == String.class || raw == CharSequence.class) {
      if (value instanceof Map || value instanceof List) throw mismatch(value, actual, null);
      return value.toString();
    }
    if (raw.isPrimitive() || Number.class.isAssignableFrom(raw) || raw == Boolean.class || raw == Character.class) {
      return readScalar(value, raw, actual);
    }
    if (raw == byte[].class || raw == ByteBuffer.class) {
      if (!(value instanceof String)) throw mismatch(value, actual, null);
      byte[] bytes = Base64.getDecoder().decode((String) value);
      return raw == byte[].class ? bytes : ByteBuffer.wrap(bytes);
    }
    if (raw.isArray()) return readArray(value, raw.getComponentType(), variables);
    if (Map.class.isAssignableFrom(raw)) return readMap(value, actual, raw, variables);
    if (Collection.class.isAssignableFrom(raw)) return readCollection(value, actual, raw, variables);
    if (raw.isEnum()) return readEnum(value, raw, actual);
    if (raw == Date.class && value instanceof Number) return new Date(((Number) value).longValue());
    if (value instanceof Map) return readObject((Map<?, ?>) value, actual, raw, variables);
    if (value instanceof String) return readText((String) value, raw, actual);
    throw mismatch(value, actual, null);
  }

  private static Object readScalar(Object value, Class<?> raw, Type type) {
    try {
      if (raw == boolean.class || raw == Boolean.class) {
        if (value instanceof Boolean) return value;
        if ("true".equals(value) || "false".equals(value)) return Boolean.valueOf((String) value);
        throw mismatch(value, type, null);
      }
      if (raw == char.class || raw == Character.class) {
        if (value instanceof String && ((String) value).length() == 1) return ((String) value).charAt(0);
        throw mismatch(value, type, null);
      }
      if (value instanceof Map || value instanceof List || value instanceof Boolean) throw mismatch(value, type, null);
      BigDecimal number = new BigDecimal(value.toString().trim());
      if (raw == double.class || raw == Double.class) return number.doubleValue();
      if (raw == float.class || raw == Float.class) return number.floatValue();
      if (raw == BigDecimal.class || raw == Number.class) return raw == Number.class && value instanceof Number ? value : number;
      if (raw == int.class || raw == Integer.class) return number.toBigInteger().intValueExact();
      if (raw == long.class || raw == Long.class) return number.toBigInteger().longValueExact();
      if (raw == short.class || raw == Short.class) return number.toBigInteger().shortValueExact();
      if (raw == byte.class || raw == Byte.class) return number.toBigInteger().byteValueExact();
      if (raw == BigInteger.class) return number.toBigInteger();
    } catch (ArithmeticException | NumberFormatException error) {
      throw mismatch(value, type, error);
    }
    throw mismatch(value, type, null);
  }

  private static Object readArray(Object value, Type element, Map<TypeVariable<?>, Type> variables) {
    if (!(value instanceof List)) throw mismatch(value, element, null);
    List<?> list = (List<?>) value;
    Object array = Array.newInstance(raw(resolve(element, variables)), list.size());
    for (int i = 0; i < list.size(); i++) Array.set(array, i, read(list.get(i), element, variables));
    return array;
  }

  private static Object readMap(Object value, Type type, Class<?> raw, Map<TypeVariable<?>, Type> variables) {
    if (!(value instanceof Map)) throw mismatch(value, type, null);
    @SuppressWarnings("unchecked")
    Map<Object, Object> result =
        (Map<Object, Object>) (raw.isInterface() ? SortedMap.class.isAssignableFrom(raw) ? new TreeMap<>() : new LinkedHashMap<>() : make(raw, type));
    Type keys = argument(type, 0);
    Type values = argument(type, 1);
    ((Map<?, ?>) value).forEach((key, item) -> result.put(read(key, keys == Object.class ? String.class : keys, variables), read(item, values, variables)));
    return result;
  }

  private static Object readCollection(Object value, Type type, Class<?> raw, Map<TypeVariable<?>, Type> variables) {
    if (!(value instanceof List)) throw mismatch(value, type, null);
    Collection<Object> result = collection(type, raw);
    Type element = argument(type, 0);
    for (Object item : (List<?>) value) result.add(read(item, element, variables));
    return result;
  }

  @SuppressWarnings("unchecked")
  private static Collection<Object> collection(Type type, Class<?> raw) {
    if (!raw.isInterface()) return (Collection<Object>) make(raw, type);
    if (SortedSet.class.isAssignableFrom(raw)) return new TreeSet<>();
    return java.util.Set.class.isAssignableFrom(raw) ? new LinkedHashSet<>() : raw.isAssignableFrom(ArrayList.class) ? new ArrayList<>() : new java.util.ArrayDeque<>();
  }

  private static Object readEnum(Object value, Class<?> raw, Type type) {
    for (Object constant : raw.getEnumConstants()) if (((Enum<?>) constant).name().equals(value)) return constant;
    throw mismatch(value, type, null);
  }

  private static Object make(Class<?> raw, Type type) {
    try {
      Constructor<?> constructor = raw.getDeclaredConstructor();
      constructor.setAccessible(true);
      return constructor.newInstance();
    } catch (InvocationTargetException error) {
      throw new MismatchException("the constructor of " + type.getTypeName() + " failed", error.getCause());
    } catch (ReflectiveOperationException | RuntimeException error) {
      throw new MismatchException(type.getTypeName() + " has no constructor without parameters that can be called", error);
    }
  }

  private static Object readObject(Map<?, ?> value, Type type, Class<?> raw, Map<TypeVariable<?>, Type> outer) {
    Map<TypeVariable<?>, Type> variables = bind(type, raw, outer);
    if (raw.getSuperclass() != null && raw.getSuperclass().getName().equals("java.lang.Record")) return readRecord(value, type, raw, variables);
    Object result = make(raw, type);
    Map<String, Property> properties = Property.writable(raw);
    value.forEach(
        (name, item) -> {
          Property property = properties.get(name);
          if (property == null) property = properties.get("\0" + String.valueOf(name).toLowerCase(Locale.ROOT));
          // What the handler does not declare is not its business.
          if (property != null) property.set(result, read(item, property.type, variables));
        });
    return result;
  }

  /** Components of a record are its fields, in the order of the constructor. */
  private static Object readRecord(Map<?, ?> value, Type type, Class<?> raw, Map<TypeVariable<?>, Type> variables) {
    List<Field> components = new ArrayList<>();
    for (Field field : raw.getDeclaredFields()) if (!Modifier.isStatic(field.getModifiers())) components.add(field);
    Class<?>[] types = components.stream().map(Field::getType).toArray(Class<?>[]::new);
    Object[] arguments = components.stream().map(field -> read(value.get(field.getName()), field.getGenericType(), variables)).toArray();
    try {
      Constructor<?> constructor = raw.getDeclaredConstructor(types);
      constructor.setAccessible(true);
      return constructor.newInstance(arguments);
    } catch (InvocationTargetException error) {
      throw new MismatchException("the constructor of " + type.getTypeName() + " failed", error.getCause());
    } catch (ReflectiveOperationException error) {
      throw mismatch(value, type, error);
    }
  }

  /** UUID, java.time, URI and the like: by their own reader of text. */
  private static Object readText(String value, Class<?> raw, Type type) {
    try {
      for (String name : new String[] {"parse", "fromString", "valueOf", "of"}) {
        for (Method method : raw.getMethods()) {
          Class<?>[] parameters = method.getParameterTypes();
          if (method.getName().equals(name) && Modifier.isStatic(method.getModifiers()) && raw.isAssignableFrom(method.getReturnType())
              && parameters.length == 1 && parameters[0].isAssignableFrom(String.class)) {
            return method.invoke(null, value);
          }
        }
      }
      return raw.getConstructor(String.class).newInstance(value);
    } catch (InvocationTargetException error) {
      throw mismatch(value, type, error.getCause());
    } catch (ReflectiveOperationException error) {
      throw mismatch(value, type, error);
    }
  }

  // To JSON.

  /** What a handler returned, as JSON text. */
  static String write(Object value) {
    StringBuilder out = new StringBuilder(256);
    write(value, out, 0);
    return out.toString();
  }

  private static void write(Object value, StringBuilder out, int depth) {
    if (depth > 512) throw new MismatchException("the result is nested deeper than 512, or holds itself", null);
    if (value == null) {
      out.append("null");
    } else if (value instanceof CharSequence || value instanceof Character || value instanceof Enum) {
      Json.quote(value instanceof Enum ? ((Enum<?>) value).name() : value.toString(), out);
    } else if (value instanceof Double || value instanceof Float) {
      double number = ((Number) value).doubleValue();
      if (Double.isNaN(number) || Double.isInfinite(number)) Json.quote(value.toString(), out);
      else out.append(value);
    } else if (value instanceof Number || value instanceof Boolean) {
      out.append(value);
    } else if (value instanceof Map) {
      out.append('{');
      String separator = "";
      for (Map.Entry<?, ?> entry : ((Map<?, ?>) value).entrySet()) {
        out.append(separator);
        Json.quote(String.valueOf(entry.getKey()), out);
        out.append(':');
        write(entry.getValue(), out, depth + 1);
        separator = ",";
      }
      out.append('}');
    } else if (value instanceof Iterable && !(value instanceof java.nio.file.Path)) {
      out.append('[');
      String separator = "";
      for (Object item : (Iterable<?>) value) {
        out.append(separator);
        write(item, out, depth + 1);
        separator = ",";
      }
      out.append(']');
    } else if (value instanceof byte[]) {
      Json.quote(Base64.getEncoder().encodeToString((byte[]) value), out);
    } else if (value instanceof ByteBuffer) {
      ByteBuffer copy = ((ByteBuffer) value).duplicate();
      byte[] bytes = new byte[copy.remaining()];
      copy.get(bytes);
      Json.quote(Base64.getEncoder().encodeToString(bytes), out);
    } else if (value.getClass().isArray()) {
      out.append('[');
      for (int i = 0; i < Array.getLength(value); i++) {
        if (i > 0) out.append(',');
        write(Array.get(value, i), out, depth + 1);
      }
      out.append(']');
    } else if (value instanceof Optional) {
      write(((Optional<?>) value).orElse(null), out, depth + 1);
    } else if (value instanceof Date) {
      out.append(((Date) value).getTime());
    } else if (value.getClass().getName().startsWith("java.")) {
      Json.quote(value.toString(), out);
    } else {
      out.append('{');
      String separator = "";
      for (Map.Entry<String, Property> entry : Property.readable(value.getClass()).entrySet()) {
        out.append(separator);
        Json.quote(entry.getKey(), out);
        out.append(':');
        write(entry.getValue().get(value), out, depth + 1);
        separator = ",";
      }
      out.append('}');
    }
  }

  // Types.

  /** The class of a type. */
  static Class<?> raw(Type type) {
    if (type instanceof Class) return (Class<?>) type;
    if (type instanceof ParameterizedType) return (Class<?>) ((ParameterizedType) type).getRawType();
    if (type instanceof GenericArrayType) return Array.newInstance(raw(((GenericArrayType) type).getGenericComponentType()), 0).getClass();
    return Object.class;
  }

  /** A type whose variables and wildcards are replaced by what they stand for. */
  static Type resolve(Type type, Map<TypeVariable<?>, Type> variables) {
    if (type instanceof TypeVariable) {
      Type bound = variables.get(type);
      return bound == null ? resolve(((TypeVariable<?>) type).getBounds()[0], variables) : bound;
    }
    if (type instanceof WildcardType) return resolve(((WildcardType) type).getUpperBounds()[0], variables);
    return type;
  }

  private static Type argument(Type type, int index) {
    if (!(type instanceof ParameterizedType)) return Object.class;
    Type[] arguments = ((ParameterizedType) type).getActualTypeArguments();
    return index < arguments.length ? arguments[index] : Object.class;
  }

  /** What the variables of a generic class, and of those above it, stand for. */
  static Map<TypeVariable<?>, Type> bind(Type type, Class<?> raw, Map<TypeVariable<?>, Type> outer) {
    Map<TypeVariable<?>, Type> result = new HashMap<>(outer);
    if (type instanceof ParameterizedType) {
      TypeVariable<?>[] names = raw.getTypeParameters();
      Type[] arguments = ((ParameterizedType) type).getActualTypeArguments();
      for (int i = 0; i < names.length; i++) result.put(names[i], resolve(arguments[i], outer));
    }
    if (raw.getGenericSuperclass() != null) result.putAll(bind(raw.getGenericSuperclass(), raw.getSuperclass(), result));
    for (Type above : raw.getGenericInterfaces()) result.putAll(bind(above, raw(above), result));
    return result;
  }

  /** A property of a bean: accessors, or a public field. */
  private static final class Property {
    private static final ClassValue<Map<String, Property>> READABLE =
        new ClassValue<Map<String, Property>>() {
          @Override
          protected Map<String, Property> computeValue(Class<?> type) {
            return findReadable(type);
          }
        };
    private static final ClassValue<Map<String, Property>> WRITABLE =
        new ClassValue<Map<String, Property>>() {
          @Override
          protected Map<String, Property> computeValue(Class<?> type) {
            return findWritable(type);
          }
        };

    final Type type;
    private final Method method;
    private final Field field;

    private Property(Type type, Method method, Field field) {
      this.type = type;
      this.method = method;
      this.field = field;
    }

    static Map<String, Property> readable(Class<?> type) {
      return READABLE.get(type);
    }

    /** By name, and by "\0" and the name in small letters. */
    static Map<String, Property> writable(Class<?> type) {
      return WRITABLE.get(type);
    }

    private static String name(Method method, String prefix) {
      String rest = method.getName().substring(prefix.length());
      // getURL is "URL", getName is "name" (JavaBeans).
      if (rest.length() > 1 && Character.isUpperCase(rest.charAt(1)) && Character.isUpperCase(rest.charAt(0))) return rest;
      return rest.substring(0, 1).toLowerCase(Locale.ROOT) + rest.substring(1);
    }

    /** A name that an annotation such as Jackson's JsonProperty gives, without knowing the annotation's class. */
    private static String annotated(AnnotatedElement element, String name) {
      for (java.lang.annotation.Annotation annotation : element.getAnnotations()) {
        String simple = annotation.annotationType().getSimpleName();
        if (!simple.equals("JsonProperty") && !simple.equals("SerializedName")) continue;
        try {
          String value = (String) annotation.annotationType().getMethod("value").invoke(annotation);
          if (!value.isEmpty()) return value;
        } catch (ReflectiveOperationException | ClassCastException error) {
          continue;
        }
      }
      return name;
    }

    private static Map<String, Property> findReadable(Class<?> type) {
      Map<String, Property> result = new TreeMap<>();
      for (Field field : type.getFields()) {
        if (!Modifier.isStatic(field.getModifiers())) result.put(annotated(field, field.getName()), new Property(field.getGenericType(), null, field));
      }
      boolean isRecord = type.getSuperclass() != null && type.getSuperclass().getName().equals("java.lang.Record");
      if (isRecord) {
        Map<String, Property> ordered = new LinkedHashMap<>();
        for (Field field : type.getDeclaredFields()) {
          if (Modifier.isStatic(field.getModifiers())) continue;
          try {
            Method method = type.getMethod(field.getName());
            method.setAccessible(true);
            ordered.put(annotated(field, field.getName()), new Property(field.getGenericType(), method, null));
          } catch (NoSuchMethodException error) {
            throw new IllegalStateException(error);
          }
        }
        return ordered;
      }
      for (Method method : type.getMethods()) {
        if (Modifier.isStatic(method.getModifiers()) || method.getParameterCount() > 0 || method.getDeclaringClass() == Object.class) continue;
        String name = method.getName();
        String prefix = name.startsWith("get") ? "get" : name.startsWith("is") && method.getReturnType() == boolean.class ? "is" : null;
        if (prefix == null || name.length() == prefix.length() || method.getReturnType() == void.class) continue;
        method.setAccessible(true);
        result.put(annotated(method, name(method, prefix)), new Property(method.getGenericReturnType(), method, null));
      }
      return result;
    }

    private static Map<String, Property> findWritable(Class<?> type) {
      Map<String, Property> result = new HashMap<>();
      for (Field field : type.getFields()) {
        if (!Modifier.isStatic(field.getModifiers()) && !Modifier.isFinal(field.getModifiers())) {
          result.put(annotated(field, field.getName()), new Property(field.getGenericType(), null, field));
        }
      }
      for (Method method : type.getMethods()) {
        String name = method.getName();
        if (Modifier.isStatic(method.getModifiers()) || method.getParameterCount() != 1 || !name.startsWith("set") || name.length() == 3) continue;
        method.setAccessible(true);
        result.put(annotated(method, name(method, "set")), new Property(method.getGenericParameterTypes()[0], method, null));
      }
      new HashMap<>(result).forEach((name, property) -> result.putIfAbsent("\0" + name.toLowerCase(Locale.ROOT), property));
      return result;
    }

    Object get(Object owner) {
      try {
        return method == null ? field.get(owner) : method.invoke(owner);
      } catch (InvocationTargetException error) {
        throw new MismatchException(method + " failed", error.getCause());
      } catch (IllegalAccessException error) {
        throw new MismatchException("cannot read " + (method == null ? field : method), error);
      }
    }

    void set(Object owner, Object value) {
      try {
        if (method == null) field.set(owner, value);
        else method.invoke(owner, value);
      } catch (InvocationTargetException error) {
        throw new MismatchException(method + " failed", error.getCause());
      } catch (IllegalAccessException error) {
        throw new MismatchException("cannot set " + (method == null ? field : method), error);
      }
    }
  }
}
