"""Many at once, and many after another."""

import os
import pathlib
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from botocore.exceptions import ClientError

from daemon import Daemon, deploy, invoke, published
from daemon import example as daemon_example

ROOT = pathlib.Path(__file__).resolve().parent.parent
SOAK = int(os.environ.get("THAW_SOAK", "1000"))

CODE = """
import os, time
N = 0
def handler(event, context):
    global N
    N += 1
    time.sleep(event.get("sleep", 0))
    return {"n": N, "x": event.get("x"), "net": os.readlink("/proc/self/ns/net")}
"""


# Two processes: the second one does the work.
FAMILY = """
import multiprocessing
context = multiprocessing.get_context("fork")
here, there = context.Pipe()
def serve():
    here.close()
    while True:
        there.send(there.recv() * 2)
child = context.Process(target=serve, daemon=True)
child.start()
there.close()
N = 0
def handler(event, context):
    global N
    N += 1
    try:
        here.send(event["x"])
        return {"n": N, "twice": here.recv()}
    except (EOFError, OSError) as error:
        child.join(1)
        raise RuntimeError(f"the child was killed by signal {-child.exitcode}") from error
"""


def example(name, python="3.12"):
    """The zip of an example."""
    sys.path.insert(0, str(ROOT / "Examples"))
    import package

    target = ROOT / ".build" / f"{name}-{python}.zip"
    package.package(name, package.interpreter(python), target)
    return target.read_bytes()


@pytest.mark.parametrize("name, expected", [
    ("bare", {"h": "61fbd531608fd2f5", "n": 300}),
    ("pandas-report", {"sum": 29850.0, "mean": 151.5}),
    ("sklearn-model", {"species": "versicolor", "share": 1.0, "accuracy": 1.0}),
    ("langchain-agent", {"answer": "The order costs 350.00 USD.", "steps": 6}),
])
@pytest.mark.parametrize("python", ["3.12", "3.13"])
def test_examples(client, name, expected, python):
    function = f"{name}-{python.replace('.', '-')}"
    version = deploy(client, function, example(name, python), runtime=f"python{python}", MemorySize=1769, Timeout=60)
    for number in range(3):
        reply, response = invoke(client, function, {"x": number}, Qualifier=version)
        assert {**expected, "x": number}.items() <= reply.items(), reply


def test_fifty_pandas_at_once(daemon, client):
    version = deploy(client, "fifty", example("pandas-report"), MemorySize=1769, Timeout=60)
    with ThreadPoolExecutor(50) as pool:
        replies = list(pool.map(lambda x: invoke(client, "fifty", {"x": x}, Qualifier=version), range(50)))
    assert sorted(reply["x"] for reply, _ in replies) == list(range(50))
    assert {reply["sum"] for reply, _ in replies} == {29850.0}
    # The same with numpy's BLAS threads at work in every one.
    with ThreadPoolExecutor(50) as pool:
        products = list(pool.map(lambda x: invoke(client, "fifty", {"op": "product", "x": x}, Qualifier=version)[0], range(50)))
    assert {reply["product"] for reply in products} == {16777216.0}
    assert all("FunctionError" not in response for _, response in replies)


def test_each_in_its_own_sandbox(client):
    version = deploy(client, "apart", CODE, MemorySize=1769)
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda x: invoke(client, "apart", {"x": x, "sleep": 3}, Qualifier=version)[0], range(20)))
    assert len({reply["net"] for reply in replies}) == 20
    assert all(reply["n"] == 1 for reply in replies)


def test_throttled_beyond_the_limit(runtimes):
    daemon = Daemon("--concurrency", "2", runtimes=runtimes).start()
    try:
        client = daemon.client()
        deploy(client, "limited", CODE, publish=False)
        with ThreadPoolExecutor(4) as pool:
            def call(x):
                try:
                    return invoke(client, "limited", {"x": x, "sleep": 2})[0]["x"]
                except ClientError as error:
                    return error.response

            results = list(pool.map(call, range(4)))
        refused = [result for result in results if isinstance(result, dict)]
        assert len(refused) == 2
        for response in refused:
            assert response["Error"]["Code"] == "TooManyRequestsException"
            assert response["ResponseMetadata"]["HTTPStatusCode"] == 429
            assert response["Reason"] == "ConcurrentInvocationLimitExceeded"
        assert daemon.stop() == 0
    finally:
        if daemon.process.poll() is None:
            daemon.kill()
        daemon.remove()


def resources(daemon):
    jailer = [pid for pid in daemon.children() if open(f"/proc/{pid}/comm").read().strip() == "thaw-jailer"
              and open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[1] == str(daemon.pid)]
    found = {}
    for name, pid in [("daemon", daemon.pid), ("jailer", jailer[0])]:
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        found[f"{name} memory"] = int(status.split("VmRSS:")[1].split()[0])
        found[f"{name} descriptors"] = len(os.listdir(f"/proc/{pid}/fd"))
    found["mounts"] = len(pathlib.Path("/proc/self/mountinfo").read_text().splitlines())
    found["cgroups"] = sum(1 for group in daemon.cgroups() for path in group.rglob("*") if path.is_dir())
    found["zombies"] = sum(
        1 for pid in daemon.children() if open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] == "Z")
    found["processes"] = len(daemon.children())
    return found


def test_restore_invoke_retire(fresh_daemon):
    """Restore, invoke, retire, again and again: nothing grows."""
    client = fresh_daemon.client()
    version = deploy(client, "soak", CODE, MemorySize=1769)

    def cycles(count):
        for number in range(count):
            reply = invoke(client, "soak", {"x": number}, Qualifier=version)[0]
            assert reply["n"] == 1 and reply["x"] == number, reply

    cycles(100)  # caches, pools and allocators fill
    time.sleep(1)
    before = resources(fresh_daemon)
    cycles(SOAK)
    time.sleep(1)
    after = resources(fresh_daemon)
    print(before, after)
    for name in ["daemon descriptors", "jailer descriptors", "mounts", "cgroups", "zombies", "processes"]:
        assert after[name] <= before[name] + 3, (name, before, after)
    # An allocator may keep some; a leak of a sandbox's worth each time would be tens of megabytes.
    assert after["daemon memory"] <= before["daemon memory"] * 1.25 + 8192, (before, after)
    assert after["jailer memory"] <= before["jailer memory"] + 1024, (before, after)


CHAOS = int(os.environ.get("THAW_CHAOS", "400"))
# How likely a process that is there is killed, twenty times a second.
KILLED = 0.15


def test_mixed_versions_while_functions_are_killed(fresh_daemon, java_code):
    """Restores of five kinds of functions, two at a time, while processes are killed at random: no wrong answer, and nothing grows.

    THAW_CHAOS sets how many restores (400)."""
    client = fresh_daemon.client()
    random = Random(1)
    second = CODE.replace('"n": N', '"n": N, "second": True')
    functions = {
        "one": (deploy(client, "one", CODE, MemorySize=1769), lambda x, reply: reply["n"] == 1 and reply["x"] == x),
        "two": (deploy(client, "two", second, MemorySize=1769, runtime="python3.13"),
                lambda x, reply: reply["n"] == 1 and reply["x"] == x and reply["second"]),
        "family": (deploy(client, "family", FAMILY, MemorySize=1769),
                   lambda x, reply: reply["n"] == 1 and reply["twice"] == 2 * x),
        "letters": (published(client, "letters", daemon_example("custom-bootstrap"), runtime="provided.al2023", handler="count"),
                    lambda x, reply: reply["invocation"] == 1 and reply["letters"] == 5),
        "java": (published(client, "java", java_code, runtime="java17", handler="functions.Plain::echo", MemorySize=1769),
                 lambda x, reply: reply["x"] == x and reply["request"]),
    }
    names = list(functions)
    counts = {"right": 0, "killed": 0}

    def call(number):
        name = names[number % len(names)]
        version, is_right = functions[name]
        event = {"text": f"a{number}"} if name == "letters" else {"x": number}
        # Only what was killed may fail, and it says so.
        try:
            reply, response = invoke(client, name, event, Qualifier=version)
        except ClientError as error:
            assert error.response["Error"]["Code"] == "SnapStartException" and "killed" in str(error)
            counts["killed"] += 1
            return
        if "FunctionError" in response:
            # Of a family, the parent tells of its child.
            child = name == "family" and reply["errorType"] == "RuntimeError" and reply["errorMessage"] == "the child was killed by signal 9"
            assert child or reply["errorType"] == "Runtime.ExitError" and "killed" in reply["errorMessage"], reply
            counts["killed"] += 1
        else:
            assert is_right(number, reply), (name, number, reply)
            counts["right"] += 1

    def some_are_killed():
        while not over.is_set():
            time.sleep(0.05)
            for pid in fresh_daemon.restored_processes(children=True):
                if random.random() < KILLED:
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except ProcessLookupError:
                        pass

    def burst(count):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(call, range(count)))

    burst(80)
    time.sleep(1)
    before = resources(fresh_daemon)
    over = threading.Event()
    killer = threading.Thread(target=some_are_killed)
    killer.start()
    try:
        burst(CHAOS)
    finally:
        over.set()
        killer.join()
    burst(len(names) * 4)  # armed environments are there again
    time.sleep(2)
    after = resources(fresh_daemon)
    print(counts, before, after)
    assert counts["right"] > CHAOS / 2
    for name in ["daemon descriptors", "jailer descriptors", "mounts", "cgroups", "zombies", "processes"]:
        # Armed environments come and go: two for each version.
        assert after[name] <= before[name] + 40, (name, before, after)
    assert after["daemon memory"] <= before["daemon memory"] * 1.5 + 8192, (before, after)
