"""Cold start and restore of the examples in Java, .NET, C and bash, in turn, as the REPORT lines say and as boto3 sees them; one table."""

import argparse
import json
import pathlib
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "Acceptance"), str(ROOT / "Examples")]
from daemon import Daemon, example, invoke, published, report  # noqa: E402

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
    parser.add_argument("--json", help="where to write the figures")
    arguments = parser.parse_args()
    rows = {}
    # --max-idle 0: every invocation is a start.
    daemon = Daemon("--max-idle", "0", "--log-level", "warning").start()
    try:
        client = daemon.client()
        for archive, runtime, handler, event in FUNCTIONS:
            name = f"{archive}-{runtime.split('.')[0]}"
            version = published(client, name, example(archive), runtime=runtime, handler=handler, MemorySize=1769)
            cold, restored = [], []
            for _ in range(arguments.rounds):
                cold.append(measure(client, name, "$LATEST", event, "Init Duration"))
                restored.append(measure(client, name, version, event, "Restore Duration"))
            size = next(entry for entry in daemon.status()["snapshots"] if entry["function"] == name)
            columns = [statistics.median(values) for values in [*zip(*cold), *zip(*restored)]]
            rows[f"{archive} ({runtime})"] = [*columns, size["bytes"] / 1e6, size["threads"]]
        titles = ["init", "duration", "boto3", "restore", "duration", "boto3", "image MB", "threads"]
        print(f"{'ms, medians of ' + str(arguments.rounds):38}" + "".join(f"{title:>10}" for title in titles))
        for name, row in rows.items():
            print(f"{name:38}" + "".join(f"{value:10.1f}" for value in row))
        if arguments.json:
            pathlib.Path(arguments.json).write_text(json.dumps(rows, indent=2))
        daemon.stop()
    finally:
        if daemon.process.poll() is None:
            daemon.kill()
        daemon.remove()


if __name__ == "__main__":
    main()
