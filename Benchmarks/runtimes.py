"""Cold start and restore of the examples in Java, .NET, C and bash, in turn: as the REPORT lines say and as boto3 sees them, and (JVM and .NET)
by the engine alone, beside the best other ways of starting them fast; two tables."""

import argparse
import json
import os
import pathlib
import shutil
import socket
import statistics
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "Acceptance"), str(ROOT / "Examples"), str(ROOT / "Benchmarks")]
import bench  # noqa: E402
import package  # noqa: E402
from daemon import BIN, Daemon, example, invoke, published, report  # noqa: E402

SEARCH = {"rawPath": "/search", "queryStringParameters": {"q": "red oak"}}
NEAR = {"rawPath": "/near", "queryStringParameters": {"lat": "48.1", "lon": "11.6"}}
ORDER = {"routeKey": "POST /quotes", "headers": {"content-type": "application/json"}, "body": json.dumps({
    "customer": {"name": "Grace", "country": "FR"}, "items": [{"product": "oak-desk", "quantity": 1}, {"product": "lamp", "quantity": 3}], "voucher": "SPRING"})}
FUNCTIONS = [
    ("java-orders", "java17", "orders.Api::handle", ORDER),
    ("java-orders", "java25", "orders.Api::handle", ORDER),
    ("java-api", "java17", "example.Api::handle", SEARCH),
    ("java-api", "java25", "example.Api::handle", SEARCH),
    ("dotnet-api", "dotnet8", "Function::Example.Api::Handle", NEAR),
    ("custom-bootstrap", "provided.al2023", "count", {"text": "abc"}),
    ("custom-shell", "provided.al2023", "count", "thaw"),
]


# As Sources/Runtimes/JavaRuntime.swift and DotnetRuntime.swift have them.
JAVA_OPTIONS = ["-XX:-UsePerfData", "-XX:+UseSerialGC", "-Djava.net.preferIPv4Stack=true", "-XX:TieredStopAtLevel=1", "-XX:InitialHeapSize=16m", "-Xmx1500m"]
DOTNET_SETTINGS = [
    "DOTNET_EnableDiagnostics=0", "DOTNET_EnableWriteXorExecute=0", "DOTNET_TieredPGO=0", "DOTNET_TC_BackgroundWorkerTimeoutMs=0",
    "DOTNET_GCgen0size=400000", "DOTNET_gcServer=0", "DOTNET_gcConcurrent=0", "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT=1"]


def java_subject(home, release, directory):
    """The orders API in a JVM. Besides plainly, it is started with an archive of the classes that it loads, which the JDK calls class-data sharing (an AOT
    cache from 25 on, which has profiles of its methods too)."""
    shutil.rmtree(directory, ignore_errors=True)
    tree = directory / "classes"
    tree.mkdir(parents=True)
    libraries = package.build_java("java-orders", tree, [ROOT / "Benchmarks" / "EngineServer.java"])
    # Archives are of jars only.
    subprocess.run([home / "bin" / "jar", "--create", "--file", directory / "server.jar", "-C", tree, "."], check=True)
    for library in libraries:
        package.copy(library, directory / library.name)
    (directory / "request.json").write_text(json.dumps(ORDER))
    jars = ["server.jar", *(library.name for library in libraries)]

    def command(*options, arguments=()):
        classpath = ":".join(str(directory / jar) for jar in jars)
        return [str(home / "bin" / "java"), *JAVA_OPTIONS, *options, "-cp", classpath, "EngineServer", str(directory / "request.json"), *arguments]

    shared = directory / "shared.jsa"
    making = f"-XX:AOTCacheOutput={shared}" if release >= 25 else f"-XX:ArchiveClassesAtExit={shared}"
    using = f"-XX:AOTCache={shared}" if release >= 25 else f"-XX:SharedArchiveFile={shared}"
    train(command(making))
    directory.chmod(0o755)
    # An archive is of the class path that it was made with: everything is where it is outside.
    mounts = [[str(directory), str(directory)]] + [[str(path), str(path)] for path in pathlib.Path("/etc").glob(f"java-{release}-openjdk")]
    return {
        "name": f"java-orders (java{release})", "arguments": command(arguments=["warm"]), "mounts": mounts, "cannotFork": True,
        "cold": {"plain": command(), "shared classes": command(using)}}


def train(command):
    """Runs a server that answers three requests and ends: what it has loaded by then is archived."""
    with socket.create_server(("127.0.0.1", 9001)) as listener:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        listener.settimeout(30)
        connection, _ = listener.accept()
        with connection, connection.makefile("rw") as lines:
            for _ in range(3):
                assert lines.readline() and lines.write("go\n") and not lines.flush()
            assert lines.readline().startswith("{")
        output, _ = process.communicate(timeout=120)
        assert process.returncode == 0, output


def dotnet_subject(directory):
    """The stations API in .NET, whose framework is compiled ahead (ReadyToRun) as shipped."""
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    data = ROOT / ".build" / "bench-data"
    subprocess.run([BIN / "thaw", "runtime", "install", "dotnet8", "--data-dir", data], check=True, stdout=subprocess.DEVNULL)
    [root] = data.glob("runtimes/dotnet8_*/dnv/net/runtime/.net")
    package.compile_csharp([ROOT / "Examples" / "dotnet-api" / "Api.cs", ROOT / "Benchmarks" / "EngineServer.cs"], directory / "EngineServer.dll", library=False)
    shutil.copy(ROOT / "Bootstraps" / "dotnet" / "Thaw.Dotnet.runtimeconfig.json", directory / "EngineServer.runtimeconfig.json")
    command = ["/usr/bin/env", *DOTNET_SETTINGS, "/opt/dotnet", "/var/task/EngineServer.dll"]
    return {
        "name": "dotnet-api (dotnet8)", "arguments": [*command, "warm"], "mounts": [[str(directory), "/var/task"], [str(root), "/opt"]],
        "cannotFork": True, "cold": {"plain": command}}


def measure_engine(rounds):
    subjects = []
    for release in [17, 25]:
        homes = [home for home in sorted(pathlib.Path("/usr/lib/jvm").glob(f"*{release}*")) if (home / "bin" / "java").exists() and (home / "bin" / "jar").exists()]
        if homes:
            subjects.append(java_subject(homes[0].resolve(), release, ROOT / ".build" / f"bench-java{release}"))
    subjects.append(dotnet_subject(ROOT / ".build" / "bench-dotnet"))
    return bench.run_engine([subject | {"rounds": rounds, "alive": 0} for subject in subjects])


def show_engine(figures):
    def cell(values):
        return f"{statistics.median(values) / 1000:.2f} ({bench.quantile(values, 0.99) / 1000:.2f})" if values else ""

    ways = ["plain", "shared classes"]
    rows = [["engine alone, ms: median (p99)", "template", "armed", *(f"cold: {way}" for way in ways), "cold / template", "cold / armed", "shared / armed"]]
    for name, figure in figures.items():
        medians = {way: statistics.median(figure["cold"][way]) for way in ways if way in figure["cold"]}
        best = min(medians.values())
        rows.append([
            name, cell(figure["restore"]), cell(figure["armed"]), *(cell(figure["cold"].get(way)) for way in ways),
            *(f"{medians['plain'] / statistics.median(figure[key]):.0f}x" for key in ["restore", "armed"]),
            f"{best / statistics.median(figure['armed']):.0f}x" if len(medians) > 1 else ""])
    print(bench.aligned(rows) + "\n", flush=True)


def measure(client, name, qualifier, event, field):
    time.sleep(0.2)  # the environment before is gone, and a blank sandbox waits again
    begin = time.perf_counter()
    _, response = invoke(client, name, event, Qualifier=qualifier)
    seen = (time.perf_counter() - begin) * 1000
    assert "FunctionError" not in response, response
    start, duration = report(response["Log"], field), report(response["Log"], "Duration")
    assert start is not None, response["Log"]
    return start, duration, seen


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--engine-rounds", type=int, default=100)
    parser.add_argument("--only", choices=["engine", "platform"], help="one of the two tables")
    parser.add_argument("--json", help="where to write the figures")
    arguments = parser.parse_args()
    os.environ.setdefault("THAW_BIN", str(BIN))
    results = {}
    if arguments.only != "platform":
        results["engine"] = measure_engine(arguments.engine_rounds)
        show_engine(results["engine"])
    if arguments.only != "engine":
        results["platform"] = measure_platform(arguments.rounds)
    if arguments.json:
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=2))


def measure_platform(rounds):
    rows = {}
    # --max-idle 0: every invocation is a start.
    daemon = Daemon("--max-idle", "0", "--log-level", "warning").start()
    try:
        client = daemon.client()
        for archive, runtime, handler, event in FUNCTIONS:
            name = f"{archive}-{runtime.split('.')[0]}"
            version = published(client, name, example(archive), runtime=runtime, handler=handler, MemorySize=1769)
            cold, restored = [], []
            for _ in range(rounds):
                cold.append(measure(client, name, "$LATEST", event, "Init Duration"))
                restored.append(measure(client, name, version, event, "Restore Duration"))
            size = next(entry for entry in daemon.status()["snapshots"] if entry["function"] == name)
            columns = [statistics.median(values) for values in [*zip(*cold), *zip(*restored)]]
            rows[f"{archive} ({runtime})"] = [*columns, size["bytes"] / 1e6, size["threads"]]
        titles = ["init", "duration", "boto3", "restore", "duration", "boto3", "image MB", "threads"]
        print(f"{'ms, medians of ' + str(rounds):38}" + "".join(f"{title:>10}" for title in titles))
        for name, row in rows.items():
            print(f"{name:38}" + "".join(f"{value:10.1f}" for value in row))
        daemon.stop()
    finally:
        if daemon.process.poll() is None:
            daemon.kill()
        daemon.remove()
    return rows


if __name__ == "__main__":
    main()
