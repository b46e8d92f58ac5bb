"""`make demo`: a LangChain agent on a real daemon, with plain boto3: cold start against restore."""

import argparse
import base64
import json
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import boto3
from botocore.config import Config

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
import package  # noqa: E402

BOLD, DIM, GREEN, CYAN, RESET = ("\033[1m", "\033[2m", "\033[32m", "\033[36m", "\033[0m") if sys.stdout.isatty() else [""] * 5


def step(text):
    print(f"\n{BOLD}{CYAN}==>{RESET} {BOLD}{text}{RESET}", flush=True)


def note(text):
    print(f"    {DIM}{text}{RESET}", flush=True)


def bar(milliseconds, longest, width=46):
    return "█" * max(1, round(milliseconds / longest * width))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--restores", type=int, default=10)
    arguments = parser.parse_args()
    thaw = str(pathlib.Path(arguments.bin).resolve() / "thaw")
    data = tempfile.mkdtemp(prefix="thaw-demo-")
    daemon = None
    try:
        step("Packing the agent (LangChain from PyPI, for Python 3.12)")
        archive = package.package("langchain-agent", package.interpreter("3.12"), f"{data}/agent.zip")
        note(f"{archive.stat().st_size / 1e6:.1f} MB")

        step("Starting the daemon")
        # --max-idle 0: every invocation gets a fresh environment, so that every one is a start.
        daemon = subprocess.Popen(
            [thaw, "serve", "--data-dir", data, "--listen", "127.0.0.1:0", "--max-idle", "0", "--log-level", "warning"],
            stdout=subprocess.PIPE, text=True)
        line = daemon.stdout.readline()
        if not line.startswith("listening on "):
            raise SystemExit("the daemon did not start; see the message above")
        note(f"thaw serve: {line.strip()}")
        exports = subprocess.run([thaw, "env", "--data-dir", data], capture_output=True, text=True, check=True).stdout
        settings = dict(line.removeprefix("export ").split("=", 1) for line in exports.splitlines())
        client = boto3.client(
            "lambda", endpoint_url=settings["AWS_ENDPOINT_URL_LAMBDA"], region_name=settings["AWS_REGION"],
            aws_access_key_id=settings["AWS_ACCESS_KEY_ID"], aws_secret_access_key=settings["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"max_attempts": 0}, read_timeout=120))

        step("create_function, publish_version (SnapStart: PublishedVersions)")
        begin = time.perf_counter()
        client.create_function(
            FunctionName="agent", Runtime="python3.12", Handler="app.handler", Role="arn:aws:iam::000000000000:role/demo",
            Code={"ZipFile": archive.read_bytes()}, MemorySize=1769, Timeout=60, SnapStart={"ApplyOn": "PublishedVersions"})
        client.get_waiter("function_active_v2").wait(FunctionName="agent", WaiterConfig={"Delay": 1})
        note(f"$LATEST is Active after {time.perf_counter() - begin:.1f} s (the runtime was installed from PyPI meanwhile)")
        begin = time.perf_counter()
        version = client.publish_version(FunctionName="agent")["Version"]
        client.get_waiter("published_version_active").wait(
            FunctionName="agent", Qualifier=version, WaiterConfig={"Delay": 1})
        note(f"version {version} is initialised, snapshotted and Active after {time.perf_counter() - begin:.1f} s")
        for row in subprocess.run([thaw, "snapshots", "--data-dir", data], capture_output=True, text=True).stdout.splitlines():
            note(row)

        def start(qualifier, number):
            time.sleep(0.2)  # the environment before is gone, and a blank sandbox waits again
            event = json.dumps({"items": ["lamp", "desk"], "x": number}).encode()
            begin = time.perf_counter()
            response = client.invoke(FunctionName="agent", Qualifier=qualifier, Payload=event, LogType="Tail")
            body = json.load(response["Payload"])
            elapsed = (time.perf_counter() - begin) * 1000
            if body.get("answer") != "The order costs 350.00 USD." or body.get("x") != number:
                raise SystemExit(f"a wrong answer: {body}")
            return elapsed, body, base64.b64decode(response["LogResult"]).decode()

        step("Cold starts: $LATEST, a new environment each time")
        cold = []
        for number in range(3):
            elapsed, body, log = start("$LATEST", number)
            cold.append(elapsed)
            print(f"    {elapsed:8.1f} ms  {body['answer']}", flush=True)
        step(f"Restores: version {version}, a new environment each time, from its snapshot")
        restored = []
        for number in range(arguments.restores):
            elapsed, body, log = start(version, number)
            restored.append(elapsed)
            print(f"    {elapsed:8.1f} ms  {body['answer']}", flush=True)
        note(next(line for line in log.splitlines() if line.startswith("REPORT")))

        slow, fast = statistics.median(cold), statistics.median(restored)
        step("Seen by the client, median of first invocations")
        print(f"    cold start {slow:9.1f} ms  {bar(slow, slow)}")
        print(f"    restore    {fast:9.1f} ms  {GREEN}{bar(fast, slow)}{RESET}")
        print(f"\n    {BOLD}{GREEN}{slow / fast:.0f} times faster{RESET}\n")
    finally:
        if daemon and daemon.poll() is None:
            daemon.terminate()
            daemon.wait(timeout=30)
        shutil.rmtree(data, ignore_errors=True)
    note("the daemon has ended; nothing is left behind")


if __name__ == "__main__":
    main()
