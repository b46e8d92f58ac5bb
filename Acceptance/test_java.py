"""java17 and java25 with Thaw's own bootstrap: cold, from snapshots, hooks, errors, logs.

The function's archive holds stand-ins for Lambda's interfaces and org.crac, compiled here: nothing of Lambda's comes from Thaw.
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

SOURCES = pathlib.Path(__file__).parent / "java"
RUNTIMES = ["java17", "java25"]
pytestmark = pytest.mark.parametrize("runtime", RUNTIMES)


def test_bean_handler_cold_and_restored(daemon, client, java_code, runtime):
    name = f"orders-{runtime}"
    version = published(client, name, java_code, runtime=runtime, handler="functions.Orders")
    order = {
        "items": [{"name": "lamp", "price": 12.5, "count": 2}, {"name": "desk", "price": 100}], "kind": "EXPRESS",
        "id": "6f1c0f2e-8f4e-4b0e-9d55-0d5c3c1f9f10", "points": {"a": 1, "b": 2}, "unknown": [1, {"x": None}]}
    client_context = base64.b64encode(json.dumps({"client": {"app_title": "shop"}, "custom": {"k": "v"}}).encode()).decode()
    for qualifier, kind, duration in [("$LATEST", "on-demand", "Init Duration"), (version, "snap-start", "Restore Duration")]:
        reply, response = invoke(client, name, order, Qualifier=qualifier, ClientContext=client_context)
        assert "FunctionError" not in response, reply
        assert (reply["total"], reply["kind"], reply["points"], reply["id"]) == (125.0, "EXPRESS", 3, order["id"])
        context = reply["context"]
        assert context["java"] == runtime.removeprefix("java") and context["type"] == kind
        assert context["name"] == name and context["version"] == qualifier and context["arn"].endswith(f":{name}:{qualifier}")
        assert context["request"] == response["ResponseMetadata"]["RequestId"] or len(context["request"]) == 36
        assert context["memory"] == 512 and context["hasTime"] is True and context["tenant"] is None
        assert context["custom"] == {"k": "v"} and context["app"] == "shop"
        for line in ["an order of 2 items", "[INFO] by default", "on standard output", "on standard error"]:
            assert line in response["Log"]
        assert report(response["Log"], duration) > 0
        assert invoke(client, name, {}, Qualifier=qualifier)[0]["invocation"] == 2, "the environment is used again"


def test_stream_and_plain_handlers(client, java_code, runtime):
    def call(handler, event):
        name = f"{handler.replace('.', '-').replace('::', '-')}-{runtime}"
        version = published(client, name, java_code, runtime=runtime, handler=handler)
        reply, response = invoke(client, name, event, Qualifier=version)
        assert "FunctionError" not in response, reply
        return reply, response["ResponseMetadata"]

    assert call("functions.Streams", [1, "ä"])[0] == {"length": len(json.dumps([1, "ä"])), "event": [1, "ä"]}
    assert call("functions.Plain::add", [1, 2, 39])[0] == 42
    assert call("functions.Plain::upper", "straße")[0] == "STRASSE"
    assert call("functions.Plain::length", [3, 4])[0] == 2
    assert call("functions.Plain::nothing", {})[0] is None
    event = {"text": "\"\\\n\u0001ä€😀", "numbers": [0, -1, 2**31, 2**63 - 1, 10**30, 1.5, -2e-7, True, None], "deep": {"a": [{}]}}
    reply, _ = call("functions.Plain::echo", event)
    assert len(reply.pop("request")) == 36
    assert reply == event


def test_hooks(client, java_code, runtime):
    name = f"hooks-{runtime}"
    version = published(client, name, java_code, runtime=runtime, handler="functions.Hooks")
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(lambda _: invoke(client, name, Qualifier=version)[0], range(3)))
    for reply in replies:
        assert reply["events"] == ["init", "before 2", "before 1", "after 1", "after 2"], "once per environment, in order"
    assert len({reply["shared"] for reply in replies}) == 1, "made in init: the same in all"
    assert len({reply["own"] for reply in replies}) == 3, "made after the restore: random"
    cold = invoke(client, name)[0]
    assert cold["events"] == ["init"] and cold["shared"] not in {reply["shared"] for reply in replies}


def test_hooks_that_fail(client, java_code, runtime):
    def options(mode):
        return dict(runtime=runtime, handler="functions.Hooks", Environment={"Variables": {"FAIL": mode}})

    configuration = refused(client, f"before-{runtime}", java_code, **options("before"))
    assert "no snapshot today" in configuration["StateReason"]
    assert configuration["StateReasonCode"].startswith("FunctionError")
    for mode, status, kind in [("after", 400, "SnapStartException"), ("slow", 408, "SnapStartTimeoutException")]:
        version = published(client, f"{mode}-{runtime}", java_code, **options(mode))
        with pytest.raises(ClientError) as error:
            invoke(client, f"{mode}-{runtime}", Qualifier=version)
        assert error.value.response["Error"]["Code"] == kind
        assert error.value.response["ResponseMetadata"]["HTTPStatusCode"] == status
        if mode == "after":
            assert "cannot wake up" in str(error.value)


def test_exception(client, java_code, runtime):
    name = f"fails-{runtime}"
    version = published(client, name, java_code, runtime=runtime, handler="functions.Plain::fail")
    for _ in range(2):
        reply, response = invoke(client, name, {}, Qualifier=version)
        assert response["FunctionError"] == "Unhandled"
        assert reply["errorType"] == "java.lang.IllegalStateException" and reply["errorMessage"] == "cannot do it"
        assert reply["stackTrace"][0].startswith("functions.Plain.fail(Plain.java:")
        assert reply["cause"]["errorMessage"] == "because of this"
        assert "java.lang.IllegalStateException: cannot do it" in response["Log"]
    reply, _ = invoke(client, name, b"[1]", Qualifier=version)
    assert "MismatchException" in reply["errorType"] and "an array" in reply["errorMessage"]


def test_timeout_exit_and_memory(client, java_code, runtime):
    version = published(client, f"sleeps-{runtime}", java_code, runtime=runtime, handler="functions.Plain::slow", Timeout=1)
    reply, _ = invoke(client, f"sleeps-{runtime}", {}, Qualifier=version)
    assert reply["errorType"] == "Sandbox.Timedout" and "timed out after 1.00 seconds" in reply["errorMessage"]
    version = published(client, f"exits-{runtime}", java_code, runtime=runtime, handler="functions.Plain::exit")
    reply, _ = invoke(client, f"exits-{runtime}", {}, Qualifier=version)
    assert reply["errorType"] == "Runtime.ExitError" and "exit status 7" in reply["errorMessage"]
    # The heap is bounded by MemorySize, not by the host's memory.
    version = published(client, f"exhausts-{runtime}", java_code, runtime=runtime, handler="functions.Plain::exhaust")
    reply, _ = invoke(client, f"exhausts-{runtime}", {}, Qualifier=version)
    assert reply["errorType"] == "java.lang.OutOfMemoryError", reply


@pytest.mark.parametrize(
    "handler, kind, text",
    [
        ("functions.Missing", "java.lang.ClassNotFoundException", "Class not found: functions.Missing"),
        ("functions.Plain::missing", "java.lang.NoSuchMethodException", "No public method named missing"),
        ("functions.BrokenInit", "java.lang.IllegalStateException", "the table is not there"),
        ("a::b::c", "java.lang.IllegalArgumentException", "Invalid handler"),
    ])
def test_handlers_that_cannot_be_used(client, java_code, runtime, handler, kind, text):
    name = f"bad-{kind.split('.')[-1]}-{runtime}"
    deploy(client, name, java_code, publish=False, runtime=runtime, handler=handler)
    reply, response = invoke(client, name)
    assert reply["errorType"] == kind and text in reply["errorMessage"] and response["FunctionError"] == "Unhandled"
    configuration = wait(client, name, client.publish_version(FunctionName=name)["Version"])
    assert configuration["State"] == "Failed" and text in configuration["StateReason"]


def test_threads_timers_memory_and_files(client, java_code, runtime):
    name = f"threads-{runtime}"
    version = published(client, name, java_code, runtime=runtime, handler="functions.ThreadsAndFiles")
    with ThreadPoolExecutor(4) as pool:
        replies = list(pool.map(lambda _: invoke(client, name, {}, Qualifier=version)[0], range(8)))
    for reply in replies:
        assert reply == {
            "pool": 42, "ticking": True, "direct": 4711, "file": "kept", "zipped": True, "collected": True}


def test_java_tool_options_win(client, java_code, runtime):
    options = "-XX:+UseParallelGC -Xmx64m -XX:TieredStopAtLevel=4"
    name = f"options-{runtime}"
    version = published(
        client, name, java_code, runtime=runtime, handler="functions.Plain::add",
        Environment={"Variables": {"JAVA_TOOL_OPTIONS": options}})
    assert invoke(client, name, [1], Qualifier=version)[0] == 1


def test_archive_with_a_runtime_interface_client(client, runtime):
    """A client in the archive is started, whatever jar it is in; it uses java.net's pool of connections."""
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        (root / "tree" / "lib").mkdir(parents=True)
        (root / "classes").mkdir()
        package.compile_java(sorted((SOURCES.parent / "java-client").rglob("*.java")), root / "classes")
        package.archive(root / "classes", root / "tree" / "lib" / "everything.jar")
        code = package.archive(root / "tree", root / "code.zip").read_bytes()
    name = f"client-{runtime}"
    version = published(client, name, code, runtime=runtime, handler="example.Own")
    for expected in [1, 2]:
        reply, response = invoke(client, name, {"n": expected}, Qualifier=version)
        assert reply == {
            "handler": "example.Own", "state": "restored", "invocation": expected, "event": {"n": expected},
            "crac": "com.amazonaws.services.lambda.crac"}
        assert (report(response["Log"], "Restore Duration") is not None) == (expected == 1)


def test_many_restores_at_once(client, java_code, runtime):
    name = f"many-{runtime}"
    version = published(client, name, java_code, runtime=runtime, handler="functions.Plain::add")
    with ThreadPoolExecutor(20) as pool:
        replies = list(pool.map(lambda n: invoke(client, name, [n, n], Qualifier=version)[0], range(60)))
    assert replies == [2 * n for n in range(60)]


def test_example(client, runtime):
    name = f"api-{runtime}"
    version = published(client, name, example("java-api"), runtime=runtime, handler="example.Api::handle")
    for qualifier, duration in [("$LATEST", "Init Duration"), (version, "Restore Duration")]:
        reply, response = invoke(
            client, name, {"rawPath": "/search", "queryStringParameters": {"q": "Red oak lamp"}}, Qualifier=qualifier)
        assert len(reply["products"]) == 3 and all(product["name"] == "red oak lamp" for product in reply["products"])
        prices = [product["price"] for product in reply["products"]]
        assert prices == sorted(prices)
        assert report(response["Log"], duration) > 0
        assert sum(invoke(client, name, {"rawPath": "/prices"}, Qualifier=qualifier)[0].values()) == 20_000
        assert invoke(client, name, {"rawPath": "/x"}, Qualifier=qualifier)[0]["statusCode"] == 404


def test_example_with_jackson(client, runtime):
    name = f"jackson-{runtime}"
    version = published(client, name, example("java-orders"), runtime=runtime, handler="orders.Api::handle")

    def request(order, qualifier, route="POST /quotes"):
        reply, response = invoke(client, name, {"routeKey": route, "body": json.dumps(order)}, Qualifier=qualifier)
        assert reply["headers"] == {"content-type": "application/json"}
        return reply["statusCode"], json.loads(reply["body"]), response

    def order(**changes):
        return {"customer": {"name": "Grace", "country": "DK"}, "items": [{"product": "oak-desk", "quantity": 2}]} | changes

    for qualifier in ["$LATEST", version]:
        status, plain, _ = request(order(delivery="PICKUP"), qualifier)
        assert status == 200 and plain["customer"] == "Grace" and plain["lines"][0]["name"] == "Desk of oak"
        price = plain["lines"][0]["price"]
        assert plain["total"] == pytest.approx(price * 1.25, abs=0.01) and "discount" not in plain
        assert request(order(voucher="SPRING"), qualifier)[1]["discount"] == pytest.approx(price / 10, abs=0.01)
        assert request(order(items=[{"product": "moon", "quantity": 1}]), qualifier)[:2] == (422, {"message": "there is no product moon"})
        for malformed in [{"items": []}, order(customer=None), order(items=[{"product": "lamp"}]), None]:
            assert request(malformed, qualifier)[0] in [400, 422], malformed
        assert request({}, qualifier, "GET /")[0] == 404
    with ThreadPoolExecutor(20) as pool:
        totals = list(pool.map(lambda n: request(order(items=[{"product": "lamp", "quantity": n}]), version)[1]["lines"][0]["quantity"], range(1, 41)))
    assert totals == list(range(1, 41))
