using System;
using System.Collections.Generic;
using System.Globalization;
using System.Text;

namespace Thaw.Dotnet {
  /// <summary>The context of an event, for the interface Amazon.Lambda.Core.ILambdaContext as the function has it.</summary>
  static class LambdaContext {
    /// <summary>`Lambda-Runtime-Client-Context`; names are the mobile SDKs'.</summary>
    public sealed class ClientContext {
      public Dictionary<string, string> custom { get; set; }
      public Dictionary<string, string> env { get; set; }
      public Dictionary<string, string> client { get; set; }
    }

    static readonly DateTime Epoch = new DateTime(1970, 1, 1, 0, 0, 0, DateTimeKind.Utc);

    static Member Constant(object value) {
      return arguments => value;
    }

    static Type TypeOf(Type type, string property) {
      return type.GetProperty(property).PropertyType;
    }

    public static object Of(Type type, Answer answer) {
      var deadline = answer.Header("lambda-runtime-deadline-ms");
      var end = Epoch.AddMilliseconds(deadline == null ? 0 : double.Parse(deadline, CultureInfo.InvariantCulture));
      var members = new Dictionary<string, Member> {
        { "get_AwsRequestId", Constant(answer.Header("lambda-runtime-aws-request-id")) },
        { "get_InvokedFunctionArn", Constant(answer.Header("lambda-runtime-invoked-function-arn")) },
        { "get_TraceId", Constant(answer.Header("lambda-runtime-trace-id")) },
        { "get_FunctionName", Constant(Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_NAME")) },
        { "get_FunctionVersion", Constant(Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_VERSION")) },
        { "get_LogGroupName", Constant(Environment.GetEnvironmentVariable("AWS_LAMBDA_LOG_GROUP_NAME")) },
        { "get_LogStreamName", Constant(Environment.GetEnvironmentVariable("AWS_LAMBDA_LOG_STREAM_NAME")) },
        { "get_MemoryLimitInMB", Constant(int.Parse(Environment.GetEnvironmentVariable("AWS_LAMBDA_FUNCTION_MEMORY_SIZE") ?? "0", CultureInfo.InvariantCulture)) },
        { "get_RemainingTime", arguments => end - DateTime.UtcNow },
        { "get_Logger", Constant(Logger(TypeOf(type, "Logger"))) },
      };
      var client = answer.Header("lambda-runtime-client-context");
      if (client != null) {
        var context = (ClientContext)Json.Read(Encoding.UTF8.GetBytes(client), typeof(ClientContext));
        members["get_ClientContext"] = Constant(Of(TypeOf(type, "ClientContext"), context));
      }
      return Implementation.Of(type, members);
    }

    static object Of(Type type, ClientContext context) {
      var fields = new Dictionary<string, Member>();
      var names = new[] { "installation_id", "InstallationId", "app_title", "AppTitle", "app_version_name", "AppVersionName", "app_version_code",
                          "AppVersionCode", "app_package_name", "AppPackageName" };
      for (int i = 0; i < names.Length; i += 2) {
        string value = null;
        context.client?.TryGetValue(names[i], out value);
        fields["get_" + names[i + 1]] = Constant(value);
      }
      return Implementation.Of(type, new Dictionary<string, Member> {
        { "get_Custom", Constant(context.custom) },
        { "get_Environment", Constant(context.env) },
        { "get_Client", Constant(Implementation.Of(TypeOf(type, "Client"), fields)) },
      });
    }

    /// <summary>Log writes a line like LogLine, as on Lambda.</summary>
    static object Logger(Type type) {
      Member write = arguments => {
        Console.Out.WriteLine(arguments.Length > 1 ? arguments[0] + "\t" + arguments[1] : arguments[0]);
        return null;
      };
      return Implementation.Of(type, new Dictionary<string, Member> { { "Log", write }, { "LogLine", write } });
    }
  }
}
