// An executable assembly: brings its own loop over the Runtime API, with HttpClient and its pool of connections, as Amazon.Lambda.RuntimeSupport does.
using System;
using System.Linq;
using System.Net.Http;
using System.Text;
using System.Threading.Tasks;

static class Program {
  static async Task Run() {
    var api = "http://" + Environment.GetEnvironmentVariable("AWS_LAMBDA_RUNTIME_API") + "/2018-06-01/runtime/";
    var client = new HttpClient { Timeout = TimeSpan.FromHours(12) };
    var state = "init";
    if (Environment.GetEnvironmentVariable("AWS_LAMBDA_INITIALIZATION_TYPE") == "snap-start") {
      (await client.GetAsync(api + "restore/next")).EnsureSuccessStatusCode();
      state = "restored";
    }
    for (int invocation = 1;; invocation++) {
      var next = await client.GetAsync(api + "invocation/next");
      var id = next.Headers.GetValues("Lambda-Runtime-Aws-Request-Id").First();
      var body = await next.Content.ReadAsStringAsync();
      var answer = "{\"state\":\"" + state + "\",\"invocation\":" + invocation + ",\"event\":" + body + "}";
      await client.PostAsync(api + "invocation/" + id + "/response", new StringContent(answer, Encoding.UTF8, "application/json"));
    }
  }

  static int Main() {
    Run().GetAwaiter().GetResult();
    return 0;
  }
}
