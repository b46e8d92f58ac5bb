"""Whatever comes: Lambda's error each time, and the daemon unharmed."""

import datetime
import io
import json
import subprocess
import sys
import textwrap
import zipfile

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from daemon import ROLE, archive, deploy, invoke, wait

FINE = "def handler(event, context): return 'fine'"


@pytest.fixture(scope="module", autouse=True)
def unharmed(daemon, client):
    """After everything in this file the same daemon still works."""
    pid = daemon.pid
    yield
    assert daemon.process.poll() is None and daemon.pid == pid
    deploy(client, "still-there", FINE, publish=False)
    assert invoke(client, "still-there")[0] == "fine"


def code_of(error):
    return error.value.response["Error"]["Code"], error.value.response["ResponseMetadata"]["HTTPStatusCode"]


def create(client, name="bad", **changes):
    settings = {
        "FunctionName": name, "Runtime": "python3.12", "Role": ROLE, "Handler": "app.handler",
        "Code": {"ZipFile": archive(app__py=FINE)}, **changes}
    return client.create_function(**settings)


def hostile(*entries):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, content, mode in entries:
            information = zipfile.ZipInfo(name)
            information.external_attr = mode << 16
            target.writestr(information, content)
    return buffer.getvalue()


@pytest.mark.parametrize("zip_file", [
    b"this is not a zip", b"PK\x03\x04 but no more",
    hostile(("../outside.py", "x", 0o100644)), hostile(("/absolute.py", "x", 0o100644)),
    hostile(("link", "/etc", 0o120777), ("link/passwd", "x", 0o100644)),
    hostile(("a/../../b", "x", 0o100644)),
], ids=["text", "cut", "traversal", "absolute", "through-link", "hidden-traversal"])
def test_bad_archives(client, zip_file):
    with pytest.raises(ClientError) as error:
        create(client, Code={"ZipFile": zip_file})
    assert code_of(error) == ("InvalidParameterValueException", 400)
    assert "Could not unzip" in str(error.value)


@pytest.mark.parametrize("changes, code", [
    ({"FunctionName": "no spaces please"}, "ValidationException"),
    ({"FunctionName": "x" * 65}, "InvalidParameterValueException"),
    ({"Runtime": "python2.0"}, "ValidationException"),
    ({"Role": "nobody"}, "ValidationException"),
    ({"Timeout": 901}, "ValidationException"),
    ({"MemorySize": 64}, "ValidationException"),
    ({"Environment": {"Variables": {"AWS_REGION": "moon"}}}, "InvalidParameterValueException"),
    ({"Environment": {"Variables": {"BIG": "x" * 5000}}}, "InvalidParameterValueException"),
    ({"Layers": ["arn:aws:lambda:us-east-1:000000000000:layer:x:1"]}, "InvalidParameterValueException"),
    ({"Runtime": "python3.11", "SnapStart": {"ApplyOn": "PublishedVersions"}}, "InvalidParameterValueException"),
    ({"SnapStart": {"ApplyOn": "PublishedVersions"}, "EphemeralStorage": {"Size": 1024}}, "InvalidParameterValueException"),
    ({"Code": {"S3Bucket": "b", "S3Key": "k"}}, "InvalidParameterValueException"),
], ids=lambda value: "-".join(value) if isinstance(value, dict) else value)
def test_bad_settings(daemon, changes, code):
    client = daemon.client(parameter_validation=False)
    with pytest.raises(ClientError) as error:
        create(client, **changes)
    assert code_of(error) == (code, 400), str(error.value)


def test_validation_names_value_field_and_constraint(daemon):
    with pytest.raises(ClientError) as error:
        create(daemon.client(parameter_validation=False), Timeout=0)
    assert ("1 validation error detected: Value '0' at 'timeout' failed to satisfy constraint: "
            "Member must have value greater than or equal to 1") in str(error.value)


def test_conflicts_and_missing(client):
    create(client, "twice")
    with pytest.raises(client.exceptions.ResourceConflictException):
        create(client, "twice")
    with pytest.raises(ClientError) as error:
        client.get_function(FunctionName="nowhere")
    assert "Function not found: arn:aws:lambda:us-east-1:000000000000:function:nowhere" in str(error.value)
    with pytest.raises(client.exceptions.ResourceNotFoundException):
        invoke(client, "twice", Qualifier="7")
    client.get_waiter("function_active_v2").wait(FunctionName="twice", WaiterConfig={"Delay": 1})
    with pytest.raises(client.exceptions.PreconditionFailedException):
        client.update_function_configuration(FunctionName="twice", Timeout=5, RevisionId="old")


INIT = {
    "missing-module": ("missing.handler", FINE, "Runtime.ImportModuleError"),
    "missing-handler": ("app.absent", FINE, "Runtime.HandlerNotFound"),
    "malformed-handler": ("app", FINE, "Runtime.MalformedHandlerName"),
    "syntax-error": ("app.handler", "def handler(:\n", "Runtime.UserCodeSyntaxError"),
    "raises": ("app.handler", "raise RuntimeError('in init')\n" + FINE, "RuntimeError"),
    "exits": ("app.handler", "import os; os._exit(3)\n" + FINE, "Runtime.ExitError"),
}


@pytest.mark.parametrize("name", INIT)
def test_failing_init(client, name):
    handler, code, kind = INIT[name]
    deploy(client, name, code, publish=False, handler=handler)
    reply, response = invoke(client, name)
    assert response["FunctionError"] == "Unhandled" and reply["errorType"] == kind, reply
    version = client.publish_version(FunctionName=name)["Version"]
    configuration = wait(client, name, version)
    assert configuration["State"] == "Failed" and configuration["StateReasonCode"].startswith("FunctionError")
    with pytest.raises(client.exceptions.ResourceConflictException):
        invoke(client, name, Qualifier=version)


HANDLERS = textwrap.dedent("""
    import os, signal, sys, time
    BALLAST = []
    def handler(event, context):
        what = event["do"]
        if what == "raise": raise ValueError("wrong")
        if what == "exit": os._exit(1)
        if what == "exit0": os._exit(0)
        if what == "segv": os.kill(os.getpid(), signal.SIGSEGV)
        if what == "sleep": time.sleep(60)
        if what == "spin":
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            while True: pass
        if what == "memory":
            while True: BALLAST.append(bytearray(10_000_000))
        if what == "forks":
            made = 0
            try:
                while True:
                    if os.fork() == 0: time.sleep(60)
                    made += 1
            except OSError as error:
                return {"made": made, "error": str(error)}
        if what == "fill":
            try:
                with open("/tmp/full", "wb") as file:
                    while True: file.write(bytes(1 << 20))
            except OSError as error:
                size = os.path.getsize("/tmp/full")
                os.unlink("/tmp/full")
                return {"error": error.errno, "size": size}
        if what == "large": return "x" * (7 << 20)
        if what == "print":
            for _ in range(200_000): print("x" * 100)
            return "printed"
        if what == "echo": return event
        return "done"
""")


@pytest.fixture(scope="module")
def troublesome(client):
    return deploy(client, "troublesome", HANDLERS, Timeout=3)


@pytest.mark.parametrize("qualifier", ["$LATEST", "1"])
@pytest.mark.parametrize("what, kind", [
    ("raise", "ValueError"), ("exit", "Runtime.ExitError"), ("exit0", "Runtime.ExitError"), ("segv", "Runtime.ExitError"),
    ("sleep", "Sandbox.Timedout"), ("spin", "Sandbox.Timedout"),
    ("large", "Function.ResponseSizeTooLarge"),
])
def test_failing_handler(client, troublesome, qualifier, what, kind):
    reply, response = invoke(client, "troublesome", {"do": what}, Qualifier=qualifier)
    assert response["FunctionError"] == "Unhandled" and reply["errorType"] == kind, reply
    if kind == "Sandbox.Timedout":
        assert "Task timed out after 3.00 seconds" in reply["errorMessage"]
        assert "Task timed out after 3.00 seconds" in response["Log"] and "Status: timeout" in response["Log"]
    if what == "exit":
        assert "Runtime exited with error: exit status 1" in reply["errorMessage"]
    # The next event finds a working environment.
    assert invoke(client, "troublesome", {"do": "echo", "again": 1}, Qualifier=qualifier)[0] == {"do": "echo", "again": 1}


def test_fork_bomb_hurts_only_itself(client, troublesome):
    reply, response = invoke(client, "troublesome", {"do": "forks"}, Qualifier="1")
    if response.get("FunctionError") is None:
        assert 100 < reply["made"] <= 1024
    assert invoke(client, "troublesome", {"do": "echo"}, Qualifier="$LATEST")[0] == {"do": "echo"}


@pytest.mark.parametrize("qualifier", ["$LATEST", "1"])
def test_out_of_memory(client, qualifier):
    name = f"hungry-{qualifier.strip('$')}"
    deploy(client, name, HANDLERS, Timeout=60, MemorySize=512)
    reply, response = invoke(client, name, {"do": "memory"}, Qualifier=qualifier)
    assert response["FunctionError"] == "Unhandled" and reply["errorType"] == "Runtime.OutOfMemory", reply
    assert invoke(client, name, {"do": "echo"}, Qualifier=qualifier)[0] == {"do": "echo"}


def test_full_tmp(client, troublesome):
    deploy(client, "fills", HANDLERS, Timeout=30)
    reply, response = invoke(client, "fills", {"do": "fill"}, Qualifier="1")
    assert reply["error"] == 28, reply  # ENOSPC
    assert reply["size"] >= 500 << 20


def test_much_output(client, troublesome):
    deploy(client, "prints", HANDLERS, Timeout=30)
    reply, response = invoke(client, "prints", {"do": "print"}, Qualifier="1")
    assert reply == "printed" and len(response["Log"]) <= 4096 and "REPORT" in response["Log"]


def test_payloads(client, troublesome):
    with pytest.raises(ClientError) as error:
        invoke(client, "troublesome", json.dumps({"x": "y" * 7_340_000}).encode())
    assert code_of(error) == ("RequestTooLargeException", 413)
    for payload in [b"{", b"no json", b'{"a":}', b"\xff\xfe"]:
        with pytest.raises(ClientError) as error:
            invoke(client, "troublesome", payload)
        assert code_of(error) == ("InvalidRequestContentException", 400)
        assert "Could not parse request body into json" in str(error.value)
    large = {"do": "echo", "x": "y" * 5_500_000}
    assert invoke(client, "troublesome", large, Qualifier="1")[0] == large


def test_signatures(daemon):
    keys = daemon.environment()

    def client(key=keys["AWS_ACCESS_KEY_ID"], secret=keys["AWS_SECRET_ACCESS_KEY"], region="us-east-1", **config):
        return boto3.client(
            "lambda", endpoint_url=daemon.endpoint, region_name=region, aws_access_key_id=key,
            aws_secret_access_key=secret, config=Config(retries={"max_attempts": 0}, **config))

    client().list_functions()
    for wrong, code in [
        (client(key="AKIAWRONGWRONGWRONG1"), "UnrecognizedClientException"),
        (client(secret="x" * 40), "InvalidSignatureException"),
        (client(region="eu-west-1"), "InvalidSignatureException"),
    ]:
        with pytest.raises(ClientError) as error:
            wrong.list_functions()
        assert code_of(error) == (code, 403)
    from botocore import UNSIGNED

    with pytest.raises(ClientError) as error:
        client(signature_version=UNSIGNED).list_functions()
    assert code_of(error) == ("MissingAuthenticationTokenException", 403)


def test_stale_signature(daemon, monkeypatch):
    import botocore.auth

    real = botocore.auth.get_current_datetime

    def late(*arguments, **options):
        return real(*arguments, **options) - datetime.timedelta(minutes=20)

    monkeypatch.setattr(botocore.auth, "get_current_datetime", late)
    with pytest.raises(ClientError) as error:
        daemon.client().list_functions()
    assert code_of(error) == ("InvalidSignatureException", 403) and "Signature expired" in str(error.value)


def test_refused_snapshot_is_named(client):
    code = "import fcntl, os\nLEASED = os.open('/tmp/leased', os.O_CREAT | os.O_RDONLY)\nfcntl.fcntl(LEASED, fcntl.F_SETLEASE, fcntl.F_RDLCK)\n" + FINE
    deploy(client, "with-lease", code, publish=False)
    version = client.publish_version(FunctionName="with-lease")["Version"]
    configuration = wait(client, "with-lease", version)
    assert configuration["State"] == "Failed"
    assert "/tmp/leased" in configuration["StateReason"] and "LEASE" in configuration["StateReason"]


def test_snapshot_that_does_not_come_back(client):
    """It is brought back once before the version becomes Active: what fails then is the version's reason, not every invocation's."""
    code = (
        "import threading, time\nthreading.stack_size(65536)\n"
        "for _ in range(950): threading.Thread(target=time.sleep, args=(100000,), daemon=True).start()\n" + FINE)
    deploy(client, "too-many", code, publish=False, MemorySize=1024)
    version = client.publish_version(FunctionName="too-many")["Version"]
    configuration = wait(client, "too-many", version)
    assert configuration["State"] == "Failed"
    assert "does not come back" in configuration["StateReason"] and "the restore program takes" in configuration["StateReason"]
