using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net.Sockets;
using System.Text;
using Example;

/// <summary>A .NET process for the engine's own benchmark: answers the same request for each line it gets; with an argument it has done so before.</summary>
static class EngineServer {
  static readonly Api Api = new Api();

  static byte[] Work() {
    var request = new Request { RawPath = "/near", QueryStringParameters = new Dictionary<string, string> { { "lat", "48.1" }, { "lon", "11.6" } } };
    var stations = Api.Handle(request).Stations.Select(
      station => "{\"name\":\"" + station.Name + "\",\"kilometres\":" + station.Kilometres.ToString("F3", CultureInfo.InvariantCulture) + "}");
    return Encoding.UTF8.GetBytes("[" + string.Join(",", stations) + "]\n");
  }

  static void Main(string[] arguments) {
    using (var socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp)) {
      socket.Connect("127.0.0.1", 9001);
      socket.NoDelay = true;
      if (arguments.Length > 0) {
        for (int i = 0; i < 300; i++) Work();
        GC.Collect();
        Work();
      }
      socket.Send(Encoding.ASCII.GetBytes("ready\n"));
      var lines = new StreamReader(new NetworkStream(socket));
      while (lines.ReadLine() != null) socket.Send(Work());
    }
  }
}
