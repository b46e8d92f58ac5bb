using System;
using System.Collections.Generic;
using System.Globalization;
using System.Linq;

namespace Example {
  /// <summary>What of an HTTP API's request (API Gateway's payload format 2.0) is looked at.</summary>
  public sealed class Request {
    public string RawPath { get; set; }
    public Dictionary<string, string> QueryStringParameters { get; set; }
  }

  public sealed class Response {
    public int StatusCode { get; set; }
    public string Body { get; set; }
    public List<Station> Stations { get; set; }
  }

  public sealed class Station {
    public string Name { get; set; }
    public double Latitude { get; set; }
    public double Longitude { get; set; }
    public double Kilometres { get; set; }
  }

  /// <summary>
  /// Which stations are near? The handler is `Function::Example.Api::Handle`. It needs no library of Lambda's; Amazon.Lambda.Core's ILambdaContext as a
  /// second parameter, and a serializer of one's own choice, work as on AWS.
  /// </summary>
  public sealed class Api {
    const int Count = 50000;
    const int CellsPerDegree = 2;
    readonly Dictionary<(int, int), List<Station>> cells = new Dictionary<(int, int), List<Station>>();

    /// <summary>Init: under SnapStart it is run once, when the version is published, and the index is in the snapshot.</summary>
    public Api() {
      var random = new Random(4711);
      for (int i = 0; i < Count; i++) {
        var station = new Station { Name = "Station " + i, Latitude = 35 + 30 * random.NextDouble(), Longitude = -10 + 40 * random.NextDouble() };
        var cell = Cell(station.Latitude, station.Longitude);
        if (!cells.TryGetValue(cell, out var list)) cells[cell] = list = new List<Station>();
        list.Add(station);
      }
      Console.WriteLine("an index of " + Count + " stations in " + cells.Count + " cells");
      // What the first request needs is compiled before the snapshot ("priming"); for a cold start it would be lost time.
      if (Environment.GetEnvironmentVariable("AWS_LAMBDA_INITIALIZATION_TYPE") != "snap-start") return;
      var sample = new Request { RawPath = "/near", QueryStringParameters = new Dictionary<string, string> { { "lat", "48.1" }, { "lon", "11.6" } } };
      for (int i = 0; i < 50; i++) Handle(sample);
    }

    public Response Handle(Request request) {
      if (request.RawPath != "/near") return new Response { StatusCode = 404, Body = "there is no " + request.RawPath };
      var query = request.QueryStringParameters ?? new Dictionary<string, string>();
      return new Response { StatusCode = 200, Stations = Near(Number(query, "lat"), Number(query, "lon"), 3) };
    }

    static double Number(Dictionary<string, string> query, string name) {
      if (!query.TryGetValue(name, out var text)) throw new ArgumentException(name + " is missing");
      return double.Parse(text, CultureInfo.InvariantCulture);
    }

    static (int, int) Cell(double latitude, double longitude) {
      return ((int)Math.Floor(latitude * CellsPerDegree), (int)Math.Floor(longitude * CellsPerDegree));
    }

    List<Station> Near(double latitude, double longitude, int limit) {
      var (row, column) = Cell(latitude, longitude);
      var found = new List<Station>();
      for (int i = row - 1; i <= row + 1; i++)
        for (int j = column - 1; j <= column + 1; j++)
          if (cells.TryGetValue((i, j), out var list)) found.AddRange(list);
      return found.Select(station => new Station {
        Name = station.Name, Latitude = station.Latitude, Longitude = station.Longitude,
        Kilometres = Distance(latitude, longitude, station.Latitude, station.Longitude),
      }).OrderBy(station => station.Kilometres).Take(limit).ToList();
    }

    /// <summary>The haversine formula.</summary>
    static double Distance(double latitude, double longitude, double otherLatitude, double otherLongitude) {
      var h = Square(otherLatitude - latitude) + Cosine(latitude) * Cosine(otherLatitude) * Square(otherLongitude - longitude);
      return 2 * 6371 * Math.Asin(Math.Sqrt(h));
    }

    static double Square(double degrees) {
      var sine = Math.Sin(degrees * Math.PI / 360);
      return sine * sine;
    }

    static double Cosine(double degrees) {
      return Math.Cos(degrees * Math.PI / 180);
    }
  }
}
