using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Linq;
using System.Net;
using System.Net.Sockets;
using System.Text;
using System.Threading;
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

  /// <summary>Answers until the other end closes.</summary>
  static void Serve(Socket socket) {
    socket.NoDelay = true;
    socket.Send(Encoding.ASCII.GetBytes("ready\n"));
    var lines = new StreamReader(new NetworkStream(socket));
    while (lines.ReadLine() != null) socket.Send(Work());
  }

  static Socket NewSocket() {
    return new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp);
  }

  /// <summary>Answers requests of its own, on the way that others take later.</summary>
  static void Warm(int requests) {
    using (var listener = NewSocket()) {
      listener.Bind(new IPEndPoint(IPAddress.Loopback, 0));
      listener.Listen(1);
      var client = new Thread(() => {
        using (var socket = NewSocket()) {
          socket.Connect(listener.LocalEndPoint);
          var lines = new StreamReader(new NetworkStream(socket));
          for (int i = 0; i <= requests; i++) {
            lines.ReadLine();
            if (i < requests) socket.Send(new byte[] { (byte)'\n' });
          }
        }
      });
      client.Start();
      using (var socket = listener.Accept()) Serve(socket);
      client.Join();
    }
  }

  static void Main(string[] arguments) {
    if (arguments.Length > 0) {
      Warm(300);
      GC.Collect();
      Warm(3);
    }
    using (var socket = NewSocket()) {
      socket.Connect("127.0.0.1", 9001);
      Serve(socket);
    }
  }
}
