"""Environments that are wholly restored ahead of the request, and wait before the first instruction of user code."""

import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from daemon import deploy, invoke

CODE = """
import os, time
from snapshot_restore_py import register_after_restore
HOOKS = []
register_after_restore(lambda: HOOKS.append(time.time()))
DATA = bytearray(2_000_000)
N = 0
def handler(event, context):
    global N
    N += 1
    for place in range(0, len(DATA), 4096):
        DATA[place] = (DATA[place] + 1) % 256
    return {"hooks": HOOKS, "n": N, "sum": sum(DATA[::4096]), "host": os.uname().nodename, "now": time.time(), "x": event.get("x")}
"""


def snapshot(daemon):
    [snapshot] = daemon.status()["snapshots"]
    return snapshot


def wait_for_armed(daemon, count):
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if snapshot(daemon)["armed"] == count:
            return
        time.sleep(0.02)
    raise AssertionError(f"{snapshot(daemon)['armed']} armed instead of {count}: {daemon.output()}")


def check(reply, x):
    assert reply["n"] == 1 and reply["x"] == x and len(reply["hooks"]) == 1
    assert reply["sum"] == len(range(0, 2_000_000, 4096)), "a page was not as in the snapshot"


@pytest.fixture
def version(fresh_daemon):
    return deploy(fresh_daemon.client(), "armed", CODE)


def test_user_code_waits_for_the_request(fresh_daemon, version):
    client = fresh_daemon.client()
    assert snapshot(fresh_daemon)["armed"] == 0 and snapshot(fresh_daemon)["workingSetBytes"] == 0
    check(invoke(client, "armed", {"x": 0}, Qualifier=version)[0], 0)
    wait_for_armed(fresh_daemon, 1)
    assert snapshot(fresh_daemon)["workingSetBytes"] >= 2_000_000
    for x in range(1, 4):
        time.sleep(0.3)
        ordered = time.time()
        reply, response = invoke(client, "armed", {"x": x}, Qualifier=version)
        check(reply, x)
        assert reply["hooks"][0] >= ordered, "the hook ran ahead of the request"
        assert snapshot(fresh_daemon)["lastRestore"]["armed"] == 1
        assert "Restore Duration" in response["Log"]
        wait_for_armed(fresh_daemon, 2)


def test_many_at_once_take_armed_and_new_ones(fresh_daemon, version):
    client = fresh_daemon.client()
    invoke(client, "armed", {"x": -1}, Qualifier=version)
    wait_for_armed(fresh_daemon, 1)
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda x: invoke(client, "armed", {"x": x}, Qualifier=version)[0], range(36)))
    for x, reply in enumerate(replies):
        check(reply, x)
    assert len({reply["host"] for reply in replies}) == 36, "two invocations had one environment"


def test_an_armed_one_that_dies_is_replaced(fresh_daemon, version):
    client = fresh_daemon.client()
    invoke(client, "armed", {"x": 0}, Qualifier=version)
    wait_for_armed(fresh_daemon, 1)
    for x in range(3):
        for pid in fresh_daemon.restored_processes():
            os.kill(pid, signal.SIGKILL)
        reply, response = invoke(client, "armed", {"x": x}, Qualifier=version)
        assert "FunctionError" not in response
        check(reply, x)


def test_deleting_the_function_ends_them(fresh_daemon, version):
    client = fresh_daemon.client()
    invoke(client, "armed", {"x": 0}, Qualifier=version)
    wait_for_armed(fresh_daemon, 1)
    client.delete_function(FunctionName="armed")
    deadline = time.monotonic() + 20
    while fresh_daemon.restored_processes() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not fresh_daemon.restored_processes()
    assert fresh_daemon.status()["snapshots"] == []


def test_what_was_recorded_outlives_the_daemon_unless_it_is_damaged(fresh_daemon, version):
    invoke(fresh_daemon.client(), "armed", {"x": 0}, Qualifier=version)
    wait_for_armed(fresh_daemon, 1)
    recorded = snapshot(fresh_daemon)["workingSetBytes"]
    [file] = (fresh_daemon.data / "snapshots").glob("*/working-set")
    for damage in [False, True]:
        assert fresh_daemon.stop() == 0
        if damage:
            content = bytearray(file.read_bytes())
            content[len(content) // 2] ^= 1
            file.write_bytes(content)
        fresh_daemon.start()
        reply, _ = invoke(fresh_daemon.client(), "armed", {"x": 5}, Qualifier=version)
        check(reply, 5)
        wait_for_armed(fresh_daemon, 1)
        bytes_now = snapshot(fresh_daemon)["workingSetBytes"]
        assert bytes_now == recorded if not damage else bytes_now >= 2_000_000
        assert ("working-set is not used" in fresh_daemon.output()) == damage


def test_they_can_be_turned_off(runtimes):
    from daemon import Daemon

    daemon = Daemon("--max-idle", "0", "--armed", "0", runtimes=runtimes).start()
    try:
        version = deploy(daemon.client(), "armed", CODE)
        for x in range(3):
            check(invoke(daemon.client(), "armed", {"x": x}, Qualifier=version)[0], x)
        time.sleep(0.5)
        assert snapshot(daemon)["armed"] == 0 and snapshot(daemon)["workingSetBytes"] >= 2_000_000
        assert daemon.restored_processes() == []
    finally:
        assert daemon.stop() == 0
        daemon.remove()
