using System;
using System.Collections.Generic;
using System.Globalization;
using System.IO;
using System.Net;
using System.Net.Sockets;
using System.Text;

namespace Thaw.Dotnet {
  /// <summary>An answer of the Runtime API.</summary>
  sealed class Answer {
    public int Status;
    public Dictionary<string, string> Headers = new Dictionary<string, string>(StringComparer.OrdinalIgnoreCase);
    public byte[] Body = new byte[0];

    public string Header(string name) {
      return Headers.TryGetValue(name, out var value) ? value : null;
    }
  }

  /// <summary>
  /// The Runtime API over one plain, blocking socket. The thread that waits for an answer is in recv(2) on that socket and nothing else: no pool of
  /// connections, no thread for events and no timer is in the snapshot.
  /// </summary>
  sealed class RuntimeClient {
    const string Prefix = "/2018-06-01/runtime/";
    readonly string host;
    readonly int port;
    readonly byte[] buffer = new byte[16384];
    Socket socket;
    int position;
    int limit;

    public RuntimeClient(string address) {
      int colon = address.LastIndexOf(':');
      host = address.Substring(0, colon);
      port = int.Parse(address.Substring(colon + 1), CultureInfo.InvariantCulture);
    }

    public Answer Next() {
      return Ask("GET", "invocation/next", null, null);
    }

    /// <summary>Waits until the process is a restored one.</summary>
    public void RestoreNext() {
      var answer = Ask("GET", "restore/next", null, null);
      if (answer.Status != 200) throw new IOException("restore/next answers " + answer.Status);
    }

    public void Respond(string request, byte[] body) {
      Ask("POST", "invocation/" + request + "/response", null, body);
    }

    public void Fail(string request, string type, byte[] body) {
      Ask("POST", "invocation/" + request + "/error", type, body);
    }

    public void InitError(string type, byte[] body) {
      Ask("POST", "init/error", type, body);
    }

    public void RestoreError(string type, byte[] body) {
      Ask("POST", "restore/error", type, body);
    }

    Answer Ask(string method, string path, string errorType, byte[] body) {
      if (socket == null) {
        socket = new Socket(AddressFamily.InterNetwork, SocketType.Stream, ProtocolType.Tcp) { NoDelay = true };
        socket.Connect(new IPEndPoint(IPAddress.Parse(host), port));
      }
      var head = new StringBuilder(256);
      head.Append(method).Append(' ').Append(Prefix).Append(path).Append(" HTTP/1.1\r\nHost: ").Append(host).Append("\r\n");
      if (errorType != null) head.Append("Lambda-Runtime-Function-Error-Type: ").Append(errorType).Append("\r\n");
      if (body != null) head.Append("Content-Type: application/json\r\nContent-Length: ").Append(body.Length).Append("\r\n");
      var bytes = Encoding.ASCII.GetBytes(head.Append("\r\n").ToString());
      var request = new byte[bytes.Length + (body == null ? 0 : body.Length)];
      Buffer.BlockCopy(bytes, 0, request, 0, bytes.Length);
      if (body != null) Buffer.BlockCopy(body, 0, request, bytes.Length, body.Length);
      for (int sent = 0; sent < request.Length;) sent += socket.Send(request, sent, request.Length - sent, SocketFlags.None);
      return Read();
    }

    Answer Read() {
      var status = Line();
      if (status.Length < 12 || !status.StartsWith("HTTP/1.1 ", StringComparison.Ordinal)) throw new IOException("not HTTP: " + status);
      var answer = new Answer { Status = int.Parse(status.Substring(9, 3), CultureInfo.InvariantCulture) };
      for (var line = Line(); line.Length > 0; line = Line()) {
        int colon = line.IndexOf(':');
        if (colon > 0) answer.Headers[line.Substring(0, colon)] = line.Substring(colon + 1).Trim();
      }
      var length = answer.Header("content-length");
      answer.Body = new byte[length == null ? 0 : int.Parse(length, CultureInfo.InvariantCulture)];
      int used = Math.Min(answer.Body.Length, limit - position);
      Buffer.BlockCopy(buffer, position, answer.Body, 0, used);
      position += used;
      while (used < answer.Body.Length) {
        int count = socket.Receive(answer.Body, used, answer.Body.Length - used, SocketFlags.None);
        if (count == 0) throw new EndOfStreamException("the Runtime API closed the connection");
        used += count;
      }
      return answer;
    }

    string Line() {
      var line = new StringBuilder(64);
      while (true) {
        if (position == limit) {
          position = 0;
          limit = socket.Receive(buffer, 0, buffer.Length, SocketFlags.None);
          if (limit == 0) throw new EndOfStreamException("the Runtime API closed the connection");
        }
        char letter = (char)buffer[position++];
        if (letter == '\n') return line.ToString();
        if (letter != '\r') line.Append(letter);
      }
    }
  }
}
