using System;
using System.Collections.Generic;
using System.IO;
using System.Linq;
using System.Reflection;
using System.Runtime.CompilerServices;
using System.Text;
using System.Threading.Tasks;

namespace Thaw.Dotnet {
  /// <summary>The handler cannot be used; says why.</summary>
  sealed class InvalidHandlerException : Exception {
    public InvalidHandlerException(string message, Exception cause) : base(message, cause) {}
  }

  /// <summary>
  /// A class library's handler, `Assembly::Namespace.Type::Method`. AWS Lambda Developer Guide, "Define Lambda function handler in C#".
  /// </summary>
  sealed class Handler {
    const string Core = "Amazon.Lambda.Core";
    readonly Assembly assembly;
    readonly MethodInfo method;
    readonly object instance;
    readonly ParameterInfo[] parameters;
    /// <summary>What is awaited for is of this type; void if nothing comes of it.</summary>
    readonly Type resultType;
    /// <summary>An Amazon.Lambda.Core.ILambdaSerializer of the function's, or null.</summary>
    readonly object serializer;
    readonly MethodInfo deserialize;
    readonly MethodInfo serialize;

    Handler(Assembly assembly, MethodInfo method, object instance) {
      this.assembly = assembly;
      this.method = method;
      this.instance = instance;
      parameters = method.GetParameters();
      resultType = Awaited(method.ReturnType);
      serializer = MakeSerializer();
      if (serializer == null) return;
      var type = serializer.GetType().GetInterfaces().FirstOrDefault(above => above.FullName == Core + ".ILambdaSerializer");
      if (type == null) throw new InvalidHandlerException(serializer.GetType() + " does not implement " + Core + ".ILambdaSerializer", null);
      deserialize = parameters.Where(IsEvent).Select(parameter => type.GetMethod("Deserialize").MakeGenericMethod(parameter.ParameterType)).FirstOrDefault();
      serialize = resultType == typeof(void) ? null : type.GetMethod("Serialize").MakeGenericMethod(resultType);
    }

    public static Handler Load(string text, string root) {
      var parts = text.Split(new[] { "::" }, StringSplitOptions.None);
      if (parts.Length != 3 || parts.Any(part => part.Length == 0)) {
        throw new InvalidHandlerException("The handler '" + text + "' is not of the form Assembly::Namespace.Type::Method", null);
      }
      Assembly assembly;
      Type type;
      try {
        assembly = Assembly.LoadFrom(Path.Combine(root, parts[0] + ".dll"));
        type = assembly.GetType(parts[1]);
      } catch (Exception error) when (error is IOException || error is BadImageFormatException) {
        throw new InvalidHandlerException("The assembly '" + parts[0] + "' could not be loaded: " + error.Message, error);
      }
      if (type == null) throw new InvalidHandlerException("Unable to load type '" + parts[1] + "' from assembly '" + parts[0] + "'.", null);
      const BindingFlags Flags = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.FlattenHierarchy;
      var methods = type.GetMethods(Flags).Where(candidate => candidate.Name == parts[2] && !candidate.IsGenericMethod).ToArray();
      if (methods.Length == 0) throw new InvalidHandlerException("Unable to find method '" + parts[2] + "' in type '" + parts[1] + "' from assembly '" + parts[0] + "'.", null);
      if (methods.Length > 1) throw new InvalidHandlerException("There are several methods '" + parts[2] + "' in type '" + parts[1] + "': a handler must not be overloaded.", null);
      var method = methods[0];
      var events = method.GetParameters().Count(IsEvent);
      if (events > 1 || method.GetParameters().Length > 2) {
        throw new InvalidHandlerException("Method '" + parts[2] + "' may have at most one parameter for the event and one for ILambdaContext.", null);
      }
      try {
        return new Handler(assembly, method, method.IsStatic ? null : Activator.CreateInstance(type));
      } catch (TargetInvocationException error) {
        var cause = error.InnerException ?? error;
        throw new InvalidHandlerException("The constructor of '" + parts[1] + "' failed: " + cause.GetType().Name + ": " + cause.Message, cause);
      } catch (MissingMethodException error) {
        throw new InvalidHandlerException("The type '" + parts[1] + "' has no public constructor without parameters.", error);
      }
    }

    static bool IsContext(Type type) {
      return type.FullName == Core + ".ILambdaContext";
    }

    static bool IsEvent(ParameterInfo parameter) {
      return !IsContext(parameter.ParameterType);
    }

    static Type Awaited(Type type) {
      if (type == typeof(Task) || type == typeof(ValueTask)) return typeof(void);
      if (!type.IsGenericType) return type;
      var definition = type.GetGenericTypeDefinition();
      return definition == typeof(Task<>) || definition == typeof(ValueTask<>) ? type.GetGenericArguments()[0] : type;
    }

    /// <summary>Named by the attribute LambdaSerializer of the method or the assembly.</summary>
    object MakeSerializer() {
      var attributes = method.GetCustomAttributes(false).Concat(assembly.GetCustomAttributes(false));
      var attribute = attributes.FirstOrDefault(candidate => candidate.GetType().FullName == Core + ".LambdaSerializerAttribute");
      if (attribute == null) return null;
      return Activator.CreateInstance((Type)attribute.GetType().GetProperty("SerializerType").GetValue(attribute));
    }

    /// <summary>
    /// Compiles what the first event would have to compile, without running any of the function's code: all methods of its assembly, as Lambda does for
    /// provisioned concurrency.
    /// </summary>
    public void Prime(Answer answer) {
      foreach (var parameter in parameters.Where(parameter => IsContext(parameter.ParameterType))) LambdaContext.Of(parameter.ParameterType, answer);
      if (serializer == null) {
        foreach (var parameter in parameters.Where(IsEvent)) Json.Prime(parameter.ParameterType);
        Json.Prime(resultType);
      }
      Compile(assembly);
      Compile(typeof(Handler).Assembly);
    }

    static void Compile(Assembly assembly) {
      const BindingFlags Flags = BindingFlags.Public | BindingFlags.NonPublic | BindingFlags.Instance | BindingFlags.Static | BindingFlags.DeclaredOnly;
      Type[] types;
      try {
        types = assembly.GetTypes();
      } catch (ReflectionTypeLoadException error) {
        // A type whose base is in a library that is not there is not needed either, or its use says so.
        types = error.Types.Where(type => type != null).ToArray();
      }
      foreach (var type in types.Where(type => !type.ContainsGenericParameters)) {
        foreach (var candidate in type.GetMethods(Flags).Cast<MethodBase>().Concat(type.GetConstructors(Flags))) {
          if (candidate.IsAbstract || candidate.ContainsGenericParameters || candidate is ConstructorInfo && candidate.IsStatic) continue;
          try {
            RuntimeHelpers.PrepareMethod(candidate.MethodHandle);
          } catch (Exception) {
            // It cannot be compiled, which is an error when it is called, not before.
          }
        }
      }
    }

    /// <summary>Runs the handler on one event; answers the bytes of the response.</summary>
    public byte[] Call(Answer answer) {
      var arguments = new object[parameters.Length];
      for (int i = 0; i < parameters.Length; i++) {
        var type = parameters[i].ParameterType;
        arguments[i] = IsContext(type) ? LambdaContext.Of(type, answer) : Event(answer.Body, type);
      }
      object result;
      try {
        result = method.Invoke(instance, arguments);
      } catch (TargetInvocationException error) {
        System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(error.InnerException ?? error).Throw();
        throw;
      }
      return Response(Await(result));
    }

    object Event(byte[] body, Type type) {
      if (type == typeof(Stream) || type == typeof(MemoryStream)) return new MemoryStream(body);
      return serializer == null ? Json.Read(body, type) : Invoke(deserialize, new MemoryStream(body));
    }

    object Invoke(MethodInfo call, params object[] arguments) {
      try {
        return call.Invoke(serializer, arguments);
      } catch (TargetInvocationException error) {
        System.Runtime.ExceptionServices.ExceptionDispatchInfo.Capture(error.InnerException ?? error).Throw();
        throw;
      }
    }

    /// <summary>The first exception of a task is thrown as it is.</summary>
    object Await(object result) {
      if (result is ValueTask plain) result = plain.AsTask();
      else if (result != null && result.GetType().IsGenericType && result.GetType().GetGenericTypeDefinition() == typeof(ValueTask<>)) {
        result = result.GetType().GetMethod("AsTask").Invoke(result, null);
      }
      if (!(result is Task task)) return result;
      task.GetAwaiter().GetResult();
      return resultType == typeof(void) ? null : task.GetType().GetProperty("Result").GetValue(task);
    }

    byte[] Response(object result) {
      if (resultType == typeof(void)) return Encoding.ASCII.GetBytes("null");
      if (typeof(Stream).IsAssignableFrom(resultType)) {
        var copy = new MemoryStream();
        (result as Stream)?.CopyTo(copy);
        return copy.ToArray();
      }
      if (serializer == null) return Json.Write(result, resultType);
      var output = new MemoryStream();
      Invoke(serialize, result, output);
      return output.ToArray();
    }
  }
}
