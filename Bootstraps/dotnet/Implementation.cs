using System;
using System.Collections.Generic;
using System.Linq;
using System.Reflection;
using System.Reflection.Emit;

namespace Thaw.Dotnet {
  /// <summary>What an emitted class calls: the members of an interface by their names.</summary>
  public delegate object Member(object[] arguments);

  /// <summary>
  /// Makes objects of interfaces that are unknown here, because they come from the function's archive: a class is emitted whose methods are answered by
  /// name. Methods that have a body in the interface keep it.
  /// </summary>
  public static class Implementation {
    static readonly Dictionary<Type, Type> Classes = new Dictionary<Type, Type>();
    static readonly ModuleBuilder Module =
      AssemblyBuilder.DefineDynamicAssembly(new AssemblyName("Thaw.Dotnet.Implementations"), AssemblyBuilderAccess.Run).DefineDynamicModule("main");

    /// <summary>An object of the interface. What is not among the members answers the default value of its type.</summary>
    public static object Of(Type type, IDictionary<string, Member> members) {
      if (!Classes.TryGetValue(type, out var made)) Classes[type] = made = Emit(type);
      return Activator.CreateInstance(made, members);
    }

    /// <summary>Called by emitted classes.</summary>
    public static object Call(IDictionary<string, Member> members, string name, object[] arguments) {
      return members.TryGetValue(name, out var member) ? member(arguments) : null;
    }

    /// <summary>Called by emitted classes: null is the default value.</summary>
    public static T Cast<T>(object value) {
      return value == null ? default(T) : (T)value;
    }

    static Type Emit(Type type) {
      var builder = Module.DefineType(type.Name + Classes.Count, TypeAttributes.Public | TypeAttributes.Class, typeof(object), new[] { type });
      var field = builder.DefineField("members", typeof(IDictionary<string, Member>), FieldAttributes.Private | FieldAttributes.InitOnly);
      var constructor = builder.DefineConstructor(MethodAttributes.Public, CallingConventions.Standard, new[] { typeof(IDictionary<string, Member>) });
      var code = constructor.GetILGenerator();
      code.Emit(OpCodes.Ldarg_0);
      code.Emit(OpCodes.Call, typeof(object).GetConstructor(Type.EmptyTypes));
      code.Emit(OpCodes.Ldarg_0);
      code.Emit(OpCodes.Ldarg_1);
      code.Emit(OpCodes.Stfld, field);
      code.Emit(OpCodes.Ret);
      foreach (var above in new[] { type }.Concat(type.GetInterfaces())) {
        foreach (var method in above.GetMethods().Where(method => method.IsAbstract && !method.IsStatic && !method.IsGenericMethod)) {
          Emit(builder, field, method);
        }
      }
      return builder.CreateType();
    }

    static void Emit(TypeBuilder builder, FieldBuilder field, MethodInfo method) {
      var parameters = method.GetParameters().Select(parameter => parameter.ParameterType).ToArray();
      const MethodAttributes Attributes = MethodAttributes.Public | MethodAttributes.Virtual | MethodAttributes.HideBySig | MethodAttributes.NewSlot;
      var made = builder.DefineMethod(method.Name, Attributes, method.ReturnType, parameters);
      var code = made.GetILGenerator();
      code.Emit(OpCodes.Ldarg_0);
      code.Emit(OpCodes.Ldfld, field);
      code.Emit(OpCodes.Ldstr, method.Name);
      code.Emit(OpCodes.Ldc_I4, parameters.Length);
      code.Emit(OpCodes.Newarr, typeof(object));
      for (int i = 0; i < parameters.Length; i++) {
        code.Emit(OpCodes.Dup);
        code.Emit(OpCodes.Ldc_I4, i);
        code.Emit(OpCodes.Ldarg, (short)(i + 1));
        if (parameters[i].IsValueType) code.Emit(OpCodes.Box, parameters[i]);
        code.Emit(OpCodes.Stelem_Ref);
      }
      code.Emit(OpCodes.Call, typeof(Implementation).GetMethod("Call"));
      if (method.ReturnType == typeof(void)) code.Emit(OpCodes.Pop);
      else code.Emit(OpCodes.Call, typeof(Implementation).GetMethod("Cast").MakeGenericMethod(method.ReturnType));
      code.Emit(OpCodes.Ret);
      builder.DefineMethodOverride(made, method);
    }
  }
}
