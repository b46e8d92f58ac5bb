"""dotnet8: class libraries with Thaw's own bootstrap and executable assemblies; cold, from snapshots, hooks, errors, logs.

The function's archive holds stand-ins for Amazon.Lambda.Core, compiled here: nothing of Lambda's comes from Thaw.
"""

import base64
import json
import pathlib
import tempfile
from concurrent.futures import ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

import package
from daemon import deploy, example, invoke, published, refused, report, wait
from test_randomness import draw

SOURCES = pathlib.Path(__file__).parent / "dotnet"
RUNTIME = "dotnet8"


@pytest.fixture(scope="module")
def code():
    with tempfile.TemporaryDirectory() as directory:
        tree = pathlib.Path(directory) / "tree"
        tree.mkdir()
        core = tree / "Amazon.Lambda.Core.dll"
        package.compile_csharp([SOURCES / "Core.cs"], core)
        package.compile_csharp([SOURCES / "Functions.cs"], tree / "Functions.dll", references=[core])
        package.compile_csharp([SOURCES / "Program.cs"], tree / "Program.dll", library=False, references=["System.Net.Http"])
        return package.archive(tree, pathlib.Path(directory) / "code.zip").read_bytes()


def options(handler, **more):
    return dict(runtime=RUNTIME, handler=handler, **more)


def test_class_library_cold_and_restored(client, code):
    version = published(client, "net-orders", code, **options("Functions::Functions.Orders::Handle"))
    order = {"prices": [12.5, 100], "id": "6f1c0f2e-8f4e-4b0e-9d55-0d5c3c1f9f10", "points": {"a": 1, "b": 2}, "unknown": [None]}
    client_context = base64.b64encode(json.dumps({"client": {"app_title": "shop"}, "custom": {"k": "v"}}).encode()).decode()
    for qualifier, kind, duration in [("$LATEST", "on-demand", "Init Duration"), (version, "snap-start", "Restore Duration")]:
        reply, response = invoke(client, "net-orders", order, Qualifier=qualifier, ClientContext=client_context)
        assert "FunctionError" not in response, reply
        assert (reply["Total"], reply["Points"], reply["Id"], reply["Invocation"]) == (112.5, 3, order["id"], 1)
        context = reply["Context"]
        assert context["name"] == "net-orders" and context["version"] == qualifier and context["type"] == kind
        assert context["arn"].endswith(f":net-orders:{qualifier}") and len(context["request"]) == 36
        assert context["memory"] == 512 and context["hasTime"] is True and context["runtime"] == 8
        assert context["custom"] == {"k": "v"} and context["app"] == "shop"
        for line in ["an order of 2", "a plain log", "on standard output", "on standard error"]:
            assert line in response["Log"]
        assert report(response["Log"], duration) > 0
        assert invoke(client, "net-orders", {}, Qualifier=qualifier)[0]["Invocation"] == 2, "the environment is used again"


def test_kinds_of_handlers(client, code):
    def call(method, event):
        version = published(client, f"net-{method}", code, **options(f"Functions::Functions.Plain::{method}"))
        reply, response = invoke(client, f"net-{method}", event, Qualifier=version)
        assert "FunctionError" not in response, reply
        return reply

    assert call("Add", [1, 2, 39]) == 42
    assert call("Stream", {"a": 1}) == {"length": len(json.dumps({"a": 1}))}
    assert call("Later", "sooner or") == "sooner or later"
    assert call("Capitals", "text") == "TEXT 12!"
    assert call("Nothing", {}) is None


@pytest.mark.parametrize("handler", ["Program"])
def test_executable_assembly(client, code, handler):
    version = published(client, "net-program", code, **options(handler))
    for expected in [1, 2]:
        reply, response = invoke(client, "net-program", {"n": expected}, Qualifier=version)
        assert reply == {"state": "restored", "invocation": expected, "event": {"n": expected}}
        assert (report(response["Log"], "Restore Duration") is not None) == (expected == 1)
    assert invoke(client, "net-program", [1])[0] == {"state": "init", "invocation": 1, "event": [1]}


def test_hooks(client, code):
    version = published(client, "net-hooks", code, **options("Functions::Functions.Hooks::Handle"))
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda _: invoke(client, "net-hooks", Qualifier=version)[0], range(3)))
    for reply in replies:
        assert reply["events"] == ["init", "before 2", "before 1", "after 1", "after 2"], "once per environment, in order"
    assert len({reply["shared"] for reply in replies}) == 1, "made in init: the same in all"
    assert len({reply["own"] for reply in replies}) == 3, "made after the restore: random"
    cold = invoke(client, "net-hooks")[0]
    assert cold["events"] == ["init"] and cold["shared"] != replies[0]["shared"]


def test_hooks_that_fail(client, code):
    def with_mode(mode):
        return options("Functions::Functions.Hooks::Handle", Environment={"Variables": {"FAIL": mode}})

    configuration = refused(client, "net-before", code, **with_mode("before"))
    assert "no snapshot today" in configuration["StateReason"]
    assert configuration["StateReasonCode"].startswith("FunctionError")
    for mode, status, kind in [("after", 400, "SnapStartException"), ("slow", 408, "SnapStartTimeoutException")]:
        version = published(client, f"net-{mode}", code, **with_mode(mode))
        with pytest.raises(ClientError) as error:
            invoke(client, f"net-{mode}", Qualifier=version)
        assert error.value.response["Error"]["Code"] == kind
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        if mode == "after":
            assert "cannot wake up" in str(error.value)


def test_exception(client, code):
    version = published(client, "net-fails", code, **options("Functions::Functions.Plain::Fail"))
    for _ in range(2):
        reply, response = invoke(client, "net-fails", {}, Qualifier=version)
        assert response["FunctionError"] == "Unhandled"
        assert reply["errorType"] == "InvalidOperationException" and reply["errorMessage"] == "cannot do it"
        assert any("Functions.Plain.Fail" in frame or "<Fail>" in frame for frame in reply["stackTrace"]), reply
        assert reply["cause"]["errorMessage"] == "because of this"
        assert "System.InvalidOperationException: cannot do it" in response["Log"]


def test_timeout_exit_and_memory(client, code):
    version = published(client, "net-sleeps", code, **options("Functions::Functions.Plain::Slow", Timeout=1))
    reply, _ = invoke(client, "net-sleeps", {}, Qualifier=version)
    assert reply["errorType"] == "Sandbox.Timedout" and "timed out after 1.00 seconds" in reply["errorMessage"]
    version = published(client, "net-exits", code, **options("Functions::Functions.Plain::Exit"))
    reply, _ = invoke(client, "net-exits", {}, Qualifier=version)
    assert reply["errorType"] == "Runtime.ExitError" and "exit status 7" in reply["errorMessage"]
    # The heap is bounded by MemorySize, not by the host's memory.
    version = published(client, "net-exhausts", code, **options("Functions::Functions.Plain::Exhaust"))
    reply, _ = invoke(client, "net-exhausts", {}, Qualifier=version)
    assert reply["errorType"] == "OutOfMemoryException", reply


@pytest.mark.parametrize(
    "handler, kind, text",
    [
        ("Missing::A.B::C", "Runtime.InvalidEntrypoint", "/var/task/Missing.dll is not in the function's archive"),
        ("Functions::Functions.Missing::Handle", "InvalidHandlerException", "Unable to load type 'Functions.Missing'"),
        ("Functions::Functions.Plain::Missing", "InvalidHandlerException", "Unable to find method 'Missing'"),
        ("Functions::Functions.BrokenInit::Handle", "InvalidHandlerException", "the table is not there"),
        ("Functions::Plain", "InvalidHandlerException", "is not of the form Assembly::Namespace.Type::Method"),
    ])
def test_handlers_that_cannot_be_used(client, code, handler, kind, text):
    name = "net-bad-" + "".join(letter for letter in handler if letter.isalnum())
    deploy(client, name, code, publish=False, **options(handler))
    reply, response = invoke(client, name)
    assert reply["errorType"] == kind and text in reply["errorMessage"] and response["FunctionError"] == "Unhandled"
    configuration = wait(client, name, client.publish_version(FunctionName=name)["Version"])
    assert configuration["State"] == "Failed" and text in configuration["StateReason"]


def test_threads_timers_and_files(client, code):
    version = published(client, "net-threads", code, **options("Functions::Functions.Threads::Handle"))
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: invoke(client, "net-threads", {}, Qualifier=version)[0], range(8)))
    for reply in replies:
        assert reply == {
            "queue": 42, "ticking": True, "file": "kept", "parallel": 499500, "digest": "BA-78-16-BF", "timer": True}


def test_many_restores_at_once(client, code):
    version = published(client, "net-many", code, **options("Functions::Functions.Plain::Add"))
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda n: invoke(client, "net-many", [n, n], Qualifier=version)[0], range(60)))
    assert replies == [2 * n for n in range(60)]


def test_example(client):
    version = published(client, "net-api", example("dotnet-api"), **options("Function::Example.Api::Handle"))
    for qualifier, duration in [("$LATEST", "Init Duration"), (version, "Restore Duration")]:
        event = {"rawPath": "/near", "queryStringParameters": {"lat": "48.1", "lon": "11.6"}}
        reply, response = invoke(client, "net-api", event, Qualifier=qualifier)
        distances = [station["Kilometres"] for station in reply["Stations"]]
        assert len(distances) == 3 and distances == sorted(distances) and 0 < distances[0] < 50
        assert report(response["Log"], duration) > 0
        assert invoke(client, "net-api", {"rawPath": "/x"}, Qualifier=qualifier)[0]["StatusCode"] == 404


def test_no_value_comes_twice(fresh_daemon, code):
    client = fresh_daemon.client()
    draw(client, "net-numbers", deploy(client, "net-numbers", code, **options("Functions::Functions.Numbers::Handle")))
