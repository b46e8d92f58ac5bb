"""Create, publish, invoke, update, shift, delete: with boto3 and the AWS CLI, unmodified."""

import json
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from daemon import ROLE, archive, deploy, invoke, publish_version, wait

COUNTER = """
import os
N = 0
def handler(event, context):
    global N
    N += 1
    print("handling", event)
    return {"n": N, "pid": os.getpid(), "event": event, "version": context.function_version, "arn": context.invoked_function_arn,
            "type": os.environ["AWS_LAMBDA_INITIALIZATION_TYPE"], "name": context.function_name}
"""


@pytest.mark.parametrize("runtime", ["python3.12", "python3.13"])
def test_whole_life(client, runtime):
    name = f"life-{runtime.replace('.', '-')}"
    assert deploy(client, name, COUNTER, runtime=runtime) == "1"
    configuration = client.get_function_configuration(FunctionName=name, Qualifier="1")
    assert configuration["State"] == "Active"
    assert configuration["SnapStart"] == {"ApplyOn": "PublishedVersions", "OptimizationStatus": "On"}
    latest = client.get_function_configuration(FunctionName=name)
    assert latest["SnapStart"]["OptimizationStatus"] == "Off"
    assert latest["LastUpdateStatus"] == "Successful"

    reply, response = invoke(client, name, {"a": 1}, Qualifier="1")
    assert reply["n"] == 1 and reply["event"] == {"a": 1} and reply["version"] == "1" and reply["type"] == "snap-start"
    assert reply["arn"].endswith(f":{name}:1") and response["ExecutedVersion"] == "1" and "FunctionError" not in response
    assert "handling {'a': 1}" in response["Log"] and "Restore Duration:" in response["Log"]
    assert "Init Duration" not in response["Log"]
    reply, response = invoke(client, name, {}, Qualifier="1")
    assert reply["n"] == 2 and "Restore Duration:" not in response["Log"]
    reply, response = invoke(client, name)
    assert reply["type"] == "on-demand" and response["ExecutedVersion"] == "$LATEST" and "Init Duration:" in response["Log"]

    # The same code and configuration: the same version.
    assert client.publish_version(FunctionName=name)["Version"] == "1"
    client.create_alias(FunctionName=name, Name="live", FunctionVersion="1")
    client.update_function_code(FunctionName=name, ZipFile=archive(app__py=COUNTER.replace('"n": N', '"n": N + 100')))
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    second = client.publish_version(FunctionName=name)
    assert second["Version"] == "2" and second["State"] == "Pending"
    client.get_waiter("published_version_active").wait(FunctionName=name, Qualifier="2", WaiterConfig={"Delay": 1})
    assert invoke(client, name, Qualifier="live")[0]["n"] < 100
    client.update_alias(FunctionName=name, Name="live", FunctionVersion="2")
    reply, response = invoke(client, f"{name}:live")
    assert reply["n"] == 101 and response["ExecutedVersion"] == "2" and reply["arn"].endswith(":live")

    with pytest.raises(ClientError) as error:
        client.delete_function(FunctionName=name, Qualifier="2")
    assert error.value.response["Error"]["Code"] == "ResourceConflictException"
    client.delete_alias(FunctionName=name, Name="live")
    client.delete_function(FunctionName=name, Qualifier="1")
    with pytest.raises(ClientError) as error:
        invoke(client, name, Qualifier="1")
    assert error.value.response["Error"]["Code"] == "ResourceNotFoundException"
    client.update_function_configuration(FunctionName=name, Environment={"Variables": {"COLOUR": "red"}}, MemorySize=640)
    client.get_waiter("function_updated_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1})
    assert publish_version(client, name) == "3", "numbers are not given twice"
    client.delete_function(FunctionName=name)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        client.get_function(FunctionName=name)


def test_aws_cli(daemon, tmp_path):
    (tmp_path / "code.zip").write_bytes(archive(app__py=COUNTER))
    made = daemon.cli(
        "create-function", "--function-name", "from-cli", "--runtime", "python3.12", "--handler", "app.handler",
        "--role", "arn:aws:iam::000000000000:role/test", "--zip-file", f"fileb://{tmp_path}/code.zip",
        "--snap-start", "ApplyOn=PublishedVersions", "--memory-size", "512")
    assert json.loads(made.stdout)["State"] == "Pending"
    daemon.cli("wait", "function-active-v2", "--function-name", "from-cli")
    assert json.loads(daemon.cli("publish-version", "--function-name", "from-cli").stdout)["Version"] == "1"
    daemon.cli("wait", "published-version-active", "--function-name", "from-cli", "--qualifier", "1")
    said = daemon.cli(
        "invoke", "--function-name", "from-cli", "--qualifier", "1",
        "--payload", '{"from": "cli"}', str(tmp_path / "out.json"))
    assert json.loads(said.stdout)["StatusCode"] == 200
    assert json.loads((tmp_path / "out.json").read_text())["event"] == {"from": "cli"}
    daemon.cli("create-alias", "--function-name", "from-cli", "--name", "prod", "--function-version", "1")
    aliases = json.loads(daemon.cli("list-aliases", "--function-name", "from-cli").stdout)["Aliases"]
    assert [alias["Name"] for alias in aliases] == ["prod"]
    assert "from-cli" in daemon.thaw("snapshots").stdout
    assert "START RequestId" in daemon.thaw("logs", "from-cli").stdout
    daemon.cli("delete-function", "--function-name", "from-cli")
    missing = daemon.cli("get-function", "--function-name", "from-cli", check=False)
    assert missing.returncode != 0 and "ResourceNotFoundException" in missing.stderr


def test_listing_is_paged(client):
    for number in range(5):
        deploy(client, f"paged-{number}", COUNTER, publish=False)
    names = [
        function["FunctionName"]
        for page in client.get_paginator("list_functions").paginate(PaginationConfig={"PageSize": 2})
        for function in page["Functions"]]
    assert [name for name in names if name.startswith("paged-")] == [f"paged-{number}" for number in range(5)]
    versions = client.list_versions_by_function(FunctionName="paged-0")["Versions"]
    assert [version["Version"] for version in versions] == ["$LATEST"]


def test_code_can_be_fetched(client):
    code = archive(app__py=COUNTER)
    deploy(client, "fetched", code, publish=False)
    location = client.get_function(FunctionName="fetched")["Code"]["Location"]
    with urllib.request.urlopen(location) as answer:
        assert answer.read() == code
    with pytest.raises(urllib.error.HTTPError):
        urllib.request.urlopen(location[:-4] + "0000")


def test_weighted_alias(client):
    deploy(client, "weighted", "def handler(event, context): return 1")
    client.update_function_code(FunctionName="weighted", ZipFile=archive(app__py="def handler(event, context): return 2"))
    client.get_waiter("function_updated_v2").wait(FunctionName="weighted", WaiterConfig={"Delay": 1})
    publish_version(client, "weighted")
    client.create_alias(
        FunctionName="weighted", Name="both", FunctionVersion="1",
        RoutingConfig={"AdditionalVersionWeights": {"2": 0.5}})
    seen = {invoke(client, "weighted", Qualifier="both")[0] for _ in range(40)}
    assert seen == {1, 2}


def test_hooks(client):
    code = """
import os, uuid
from snapshot_restore_py import register_before_snapshot, register_after_restore
E = ["init"]
ID = str(uuid.uuid4())
register_before_snapshot(lambda: E.append("before 1"))
register_before_snapshot(lambda: E.append("before 2"))
register_after_restore(lambda: E.append("after 1"))
register_after_restore(lambda: E.append("after 2"))
def handler(event, context):
    import time; time.sleep(event.get("sleep", 0))
    return {"events": E, "id": ID}
"""
    version = deploy(client, "hooks", code)
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda _: invoke(client, "hooks", {"sleep": 0.5}, Qualifier=version)[0], range(3)))
    for reply in replies:
        assert reply["events"] == ["init", "before 2", "before 1", "after 1", "after 2"], "once per environment, in order"
    assert len({reply["id"] for reply in replies}) == 1, "made in init: the same in all"
    again = invoke(client, "hooks", Qualifier=version)[0]
    assert again["events"] == ["init", "before 2", "before 1", "after 1", "after 2"]


def test_failing_before_snapshot_hook(client):
    code = """
from snapshot_restore_py import register_before_snapshot
def boom(): raise ValueError("no snapshot today")
register_before_snapshot(boom)
def handler(event, context): return 1
"""
    deploy(client, "before-fails", code, publish=False)
    version = client.publish_version(FunctionName="before-fails")["Version"]
    configuration = wait(client, "before-fails", version)
    assert configuration["State"] == "Failed"
    assert "no snapshot today" in configuration["StateReason"]
    assert configuration["StateReasonCode"].startswith("FunctionError")


def test_failing_and_slow_after_restore_hooks(client):
    code = """
import os, time
from snapshot_restore_py import register_after_restore
def after():
    mode = open("/var/task/mode").read()
    if mode == "fail": raise ValueError("cannot wake up")
    if mode == "slow": time.sleep(30)
register_after_restore(after)
def handler(event, context): return "fine"
"""
    for mode, status, kind in [("fail", 400, "SnapStartException"), ("slow", 408, "SnapStartTimeoutException")]:
        version = deploy(client, f"after-{mode}", archive(app__py=code, mode=mode))
        for _ in range(2 if mode == "fail" else 1):
            with pytest.raises(ClientError) as error:
                invoke(client, f"after-{mode}", Qualifier=version)
            assert error.value.response["Error"]["Code"] == kind
            assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        if mode == "fail":
            assert "cannot wake up" in str(error.value)


def test_not_ready_while_pending(client):
    deploy(client, "slow-init", "import time; time.sleep(2)\ndef handler(event, context): return 1", publish=False)
    version = client.publish_version(FunctionName="slow-init")["Version"]
    with pytest.raises(ClientError) as error:
        invoke(client, "slow-init", Qualifier=version)
    assert error.value.response["Error"]["Code"] == "SnapStartNotReadyException"
    assert wait(client, "slow-init", version)["State"] == "Active"
    assert invoke(client, "slow-init", Qualifier=version)[0] == 1


def test_dry_run(client):
    deploy(client, "dry", "def handler(event, context): return 1", publish=False)
    assert client.invoke(FunctionName="dry", InvocationType="DryRun")["StatusCode"] == 204


def test_functions_may_be_created_and_deleted_at_once(client):
    """One creation's collection of unused code must not take away what another has just unpacked."""
    def cycle(number):
        for turn in range(6):
            name = f"parallel-{number}"
            client.create_function(
                FunctionName=name, Runtime="python3.12", Role=ROLE, Handler="app.handler",
                Code={"ZipFile": archive(app__py=f"def handler(event, context): return [{number}, {turn}]")})
            client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 60})
            reply, _ = invoke(client, name)
            assert reply == [number, turn]
            client.delete_function(FunctionName=name)
        return True

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(cycle, range(8)))


def test_a_version_that_is_not_invoked_becomes_inactive(runtimes):
    """Lambda's 14 days, here 4 s: the snapshot is deleted, and an invocation asks for a new one."""
    from daemon import Daemon

    daemon = Daemon("--inactive-days", str(4 / 86400), runtimes=runtimes).start()
    try:
        client = daemon.client()
        version = deploy(client, "idle", COUNTER)
        assert invoke(client, "idle", Qualifier=version)[0]["n"] == 1
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            state = client.get_function_configuration(FunctionName="idle", Qualifier=version)
            if state["State"] == "Inactive":
                break
            time.sleep(0.2)
        assert state["State"] == "Inactive" and state["StateReasonCode"] == "Idle"
        assert state["SnapStart"]["OptimizationStatus"] == "Off"
        while daemon.status()["snapshots"] and time.monotonic() < deadline:
            time.sleep(0.1)
        assert daemon.status()["snapshots"] == []
        # It stays so over a restart.
        assert daemon.stop() == 0
        daemon.start()
        client = daemon.client()
        for _ in range(2):
            with pytest.raises(ClientError) as error:
                invoke(client, "idle", Qualifier=version)
            assert error.value.response["Error"]["Code"] == "SnapStartNotReadyException"
        assert wait(client, "idle", version)["State"] == "Active"
        assert invoke(client, "idle", Qualifier=version)[0]["n"] == 1
        assert [s["version"] for s in daemon.status()["snapshots"]] == [version]
    finally:
        daemon.stop()
        daemon.remove()


CHILDREN = """
import multiprocessing, os, subprocess
CAT = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

def square(connection):
    for number in iter(connection.recv, None):
        connection.send((number * number, os.getpid()))

HERE, THERE = multiprocessing.Pipe()
WORKER = multiprocessing.Process(target=square, args=(THERE,), daemon=True)
WORKER.start()

def handler(event, context):
    HERE.send(event["x"])
    squared, worker = HERE.recv()
    CAT.stdin.write(f"{event['x']}\\n")
    CAT.stdin.flush()
    if event.get("kill"):
        WORKER.kill()
        WORKER.join()
    return {"squared": squared, "worker": worker == WORKER.pid, "cat": CAT.stdout.readline(), "alive": WORKER.is_alive()}
"""


def test_children_come_back(daemon, client):
    """What init has started goes on in every environment, and ends with it."""
    version = deploy(client, "family", CHILDREN, MemorySize=512)
    before = len(daemon.children())
    with ThreadPoolExecutor(12) as pool:
        replies = list(pool.map(lambda x: invoke(client, "family", {"x": x}, Qualifier=version)[0], range(24)))
    assert replies == [{"squared": x * x, "worker": True, "cat": f"{x}\n", "alive": True} for x in range(24)]
    assert invoke(client, "family", {"x": 3, "kill": True}, Qualifier=version)[0]["alive"] is False
    assert len(daemon.children()) > before
    client.delete_function(FunctionName="family")
    deadline = time.time() + 10
    while len(daemon.children()) > before and time.time() < deadline:
        time.sleep(0.1)
    assert len(daemon.children()) <= before


SPINNING = """
import threading
COUNT = 0

def spin():
    global COUNT
    while True:
        COUNT += 1

threading.Thread(target=spin, daemon=True).start()

def handler(event, context):
    before = COUNT
    while COUNT == before:
        pass
    return {"before": before}
"""


def test_what_never_is_quiet_is_published(daemon, client):
    """As on AWS; the log has a warning, and the work goes on in every environment."""
    version = deploy(client, "spinning", SPINNING, MemorySize=1769)
    assert client.get_function_configuration(FunctionName="spinning", Qualifier=version)["State"] == "Active"
    assert "SNAPSHOT WARNING: the process was still busy" in daemon.thaw("logs", "spinning").stdout
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda _: invoke(client, "spinning", Qualifier=version)[0], range(3)))
    assert all(reply["before"] > 0 for reply in replies)
