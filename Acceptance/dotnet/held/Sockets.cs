using System;
using System.Collections.Generic;
using System.IO;
using System.IO.Pipes;
using System.Linq;
using System.Net;
using System.Net.Http;
using System.Net.Sockets;
using System.Text;
using System.Threading;
using System.Threading.Tasks;

namespace Held {
  /// <summary>Servers and connections of the loopback interface, with tasks and threads that wait at them.</summary>
  public sealed class Sockets {
    readonly TcpListener echo = new TcpListener(IPAddress.Loopback, 0);
    readonly TcpListener blocking = new TcpListener(IPAddress.Loopback, 0);
    readonly UdpClient datagrams = new UdpClient(new IPEndPoint(IPAddress.Loopback, 0));
    readonly NamedPipeServerStream pipe = new NamedPipeServerStream("held", PipeDirection.InOut, 1, PipeTransmissionMode.Byte, PipeOptions.Asynchronous);
    readonly Task<string> accepted;
    readonly Task<string> received;
    readonly Task<string> piped;
    readonly HttpListener web = new HttpListener();
    readonly string address = "http://127.0.0.1:" + FreePort() + "/";
    readonly HttpClient browser = new HttpClient { Timeout = TimeSpan.FromSeconds(10) };
    readonly List<TcpClient> ends = new List<TcpClient>();
    readonly Task<object> reading;
    readonly Task<object> awaiting;

    public Sockets() {
      echo.Start();
      blocking.Start();
      Serve();
      accepted = Clone.Start(() => {
        using (var client = blocking.AcceptTcpClient()) return new StreamReader(client.GetStream()).ReadToEnd();
      });
      received = Receive();
      piped = Pipe();
      web.Prefixes.Add(address);
      web.Start();
      ServeWeb();
      // From now on the client keeps a connection.
      Get("init");
      var stream = Connected();
      reading = Clone.Start(() => Clone.Outcome(() => stream.Read(new byte[10], 0, 10)));
      awaiting = Await(Connected());
      Thread.Sleep(300);
    }

    static int FreePort() {
      var listener = new TcpListener(IPAddress.Loopback, 0);
      listener.Start();
      var port = ((IPEndPoint)listener.LocalEndpoint).Port;
      listener.Stop();
      return port;
    }

    async void ServeWeb() {
      while (true) {
        var context = await web.GetContextAsync();
        Send(context.Response.OutputStream, context.Request.Url.AbsolutePath);
        context.Response.Close();
      }
    }

    string Get(string path) {
      return Clone.Soon(browser.GetStringAsync(address + path));
    }

    /// <summary>A connection whose other end is in this process and says nothing.</summary>
    NetworkStream Connected() {
      var listener = new TcpListener(IPAddress.Loopback, 0);
      listener.Start();
      var client = new TcpClient();
      client.Connect((IPEndPoint)listener.LocalEndpoint);
      ends.Add(client);
      ends.Add(listener.AcceptTcpClient());
      listener.Stop();
      return client.GetStream();
    }

    static async Task<object> Await(NetworkStream stream) {
      try {
        return await stream.ReadAsync(new byte[10], 0, 10);
      } catch (Exception error) {
        return error.GetType().Name;
      }
    }

    async Task<string> Receive() {
      return Encoding.ASCII.GetString((await datagrams.ReceiveAsync()).Buffer);
    }

    async Task<string> Pipe() {
      await pipe.WaitForConnectionAsync();
      return await new StreamReader(pipe).ReadToEndAsync();
    }

    /// <summary>Gives back what it gets, to as many as come.</summary>
    async void Serve() {
      while (true) {
        var client = await echo.AcceptTcpClientAsync();
        Echo(client);
      }
    }

    static async void Echo(TcpClient client) {
      using (client) {
        var buffer = new byte[1000];
        int count;
        while ((count = await client.GetStream().ReadAsync(buffer, 0, 1000)) > 0) await client.GetStream().WriteAsync(buffer, 0, count);
      }
    }

    string Echoed(string text) {
      using (var client = new TcpClient()) {
        client.ReceiveTimeout = 10000;
        client.Connect((IPEndPoint)echo.LocalEndpoint);
        var stream = client.GetStream();
        Send(stream, text);
        client.Client.Shutdown(SocketShutdown.Send);
        return new StreamReader(stream).ReadToEnd();
      }
    }

    static void Send(Stream stream, string text) {
      stream.Write(Encoding.ASCII.GetBytes(text), 0, text.Length);
    }

    public object Handle(Event input) {
      var clone = new Clone(input);
      var pending = !accepted.IsCompleted && !received.IsCompleted && !piped.IsCompleted;
      var early = Echoed(clone.Me);
      clone.Overlap();
      using (var client = new TcpClient()) {
        client.Connect((IPEndPoint)blocking.LocalEndpoint);
        Send(client.GetStream(), clone.Me);
      }
      using (var client = new UdpClient()) {
        client.Send(Encoding.ASCII.GetBytes(clone.Me), clone.Me.Length, (IPEndPoint)datagrams.Client.LocalEndPoint);
      }
      using (var client = new NamedPipeClientStream(".", "held", PipeDirection.InOut)) {
        client.Connect(10000);
        Send(client, clone.Me);
      }

      var reply = clone.Reply();
      reply["pending"] = pending;
      reply["http"] = Get(clone.Me) + ", " + Get("again");
      reply["echo"] = early + ", " + Echoed("again");
      reply["accepted"] = Clone.Soon(accepted);
      reply["received"] = Clone.Soon(received);
      reply["piped"] = Clone.Soon(piped);
      // Established connections come back closed: the end of the stream or an exception, soon.
      reply["reading"] = Clone.Soon(reading);
      reply["awaiting"] = Clone.Soon(awaiting);
      // The first write to a connection that the other end has closed may succeed; its answer is a reset.
      reply["writes"] = ends.Select(end => Clone.Outcome(() => {
        for (int i = 0; i < 3; i++) {
          Send(end.GetStream(), "x");
          Thread.Sleep(50);
        }
        return "written";
      })).ToArray();
      return reply;
    }
  }
}
