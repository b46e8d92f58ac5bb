using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Text;

namespace Thaw.Dotnet {
  /// <summary>
  /// System.Text.Json, found at run time: the compiler of this assembly does not know it. Used for what the platform says, and for functions whose
  /// assembly names no serializer.
  /// </summary>
  static class Json {
    static readonly Type Serializer = Type.GetType("System.Text.Json.JsonSerializer, System.Text.Json", true);
    static readonly Type OptionsType = Type.GetType("System.Text.Json.JsonSerializerOptions, System.Text.Json", true);
    static readonly object Options = MakeOptions();
    static readonly MethodInfo Reader = Serializer.GetMethod("Deserialize", new[] { typeof(string), typeof(Type), OptionsType });
    static readonly MethodInfo Writer = Serializer.GetMethod("Serialize", new[] { typeof(object), typeof(Type), OptionsType });

    static object MakeOptions() {
      var options = Activator.CreateInstance(OptionsType);
      OptionsType.GetProperty("PropertyNameCaseInsensitive").SetValue(options, true);
      OptionsType.GetProperty("IncludeFields").SetValue(options, true);
      return options;
    }

    /// <summary>Finds out how values of a type, and of those that its properties have, are read and written, ahead of their first use.</summary>
    public static void Prime(Type type) {
      Prime(type, new HashSet<Type>());
    }

    static void Prime(Type type, HashSet<Type> seen) {
      if (type == typeof(void) || typeof(System.IO.Stream).IsAssignableFrom(type) || !seen.Add(type)) return;
      object information;
      try {
        information = Unwrapped(() => OptionsType.GetMethod("GetTypeInfo", new[] { typeof(Type) }).Invoke(Options, new object[] { type }));
      } catch (Exception error) when (error is NotSupportedException || error is InvalidOperationException || error is ArgumentException) {
        // A type that cannot be read or written, which the first event says.
        return;
      }
      Compile(information);
      foreach (var argument in type.IsGenericType ? type.GetGenericArguments() : Type.EmptyTypes) Prime(argument, seen);
      if (type.HasElementType) Prime(type.GetElementType(), seen);
      foreach (var property in (System.Collections.IEnumerable)information.GetType().GetProperty("Properties").GetValue(information)) {
        Compile(property);
        Prime((Type)property.GetType().GetProperty("PropertyType").GetValue(property), seen);
      }
    }

    /// <summary>Compiles the accessors that the serializer emitted, which it holds as delegates.</summary>
    static void Compile(object holder) {
      for (var type = holder.GetType(); type != null && type != typeof(object); type = type.BaseType) {
        foreach (var field in type.GetFields(BindingFlags.Instance | BindingFlags.NonPublic | BindingFlags.Public | BindingFlags.DeclaredOnly)) {
          if (field.GetValue(holder) is Delegate accessor) System.Runtime.CompilerServices.RuntimeHelpers.PrepareDelegate(accessor);
        }
      }
    }

    public static object Read(byte[] json, Type type) {
      return Unwrapped(() => Reader.Invoke(null, new[] { Encoding.UTF8.GetString(json), type, Options }));
    }

    public static byte[] Write(object value, Type type) {
      return Encoding.UTF8.GetBytes((string)Unwrapped(() => Writer.Invoke(null, new[] { value, type, Options })));
    }

    static object Unwrapped(Func<object> call) {
      try {
        return call();
      } catch (TargetInvocationException error) {
        System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(error.InnerException ?? error).Throw();
        throw;
      }
    }

    /// <summary>An exception as Lambda reports it.</summary>
    public static byte[] Error(Exception error) {
      return Write(Describe(error, 0), typeof(Dictionary<string, object>));
    }

    static Dictionary<string, object> Describe(Exception error, int depth) {
      var result = new Dictionary<string, object> {
        { "errorType", error.GetType().Name },
        { "errorMessage", error.Message },
        { "stackTrace", (error.StackTrace ?? "").Split('\n').Where(IsOwn).ToArray() },
      };
      if (error.InnerException != null && depth < 8) result["cause"] = Describe(error.InnerException, depth + 1);
      return result;
    }

    /// <summary>Frames of this bootstrap and of the reflection that called the handler are left out.</summary>
    static bool IsOwn(string frame) {
      var text = frame.Trim();
      return text.Length > 0 && !text.StartsWith("at Thaw.Dotnet.", StringComparison.Ordinal)
        && !text.StartsWith("at System.RuntimeMethodHandle.InvokeMethod", StringComparison.Ordinal)
        && !text.StartsWith("at System.Reflection.", StringComparison.Ordinal) && !text.StartsWith("--- End of stack trace", StringComparison.Ordinal);
    }
  }
}
