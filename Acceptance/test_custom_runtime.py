"""provided.al2 and provided.al2023: the function's own `bootstrap`, in any language, with snapshots."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from daemon import deploy, example, executable, invoke, published, refused, report

CURL = """#!/bin/bash
api="http://$AWS_LAMBDA_RUNTIME_API/2018-06-01/runtime"
[ "$AWS_LAMBDA_INITIALIZATION_TYPE" = snap-start ] && curl -sS "$api/restore/next"
while true; do
  headers=$(mktemp)
  event=$(curl -sS -D "$headers" "$api/invocation/next")
  id=$(grep -i lambda-runtime-aws-request-id "$headers" | tr -d '\\r' | cut -d' ' -f2)
  curl -sS -d "{\\"handler\\":\\"$_HANDLER\\",\\"cwd\\":\\"$PWD\\",\\"event\\":$event,\\"env\\":\\"${AWS_EXECUTION_ENV-none}\\"}" \\
    "$api/invocation/$id/response" >/dev/null
done
"""


@pytest.mark.parametrize("runtime", ["provided.al2", "provided.al2023"])
def test_compiled_bootstrap(daemon, client, runtime):
    name = f"custom-c-{runtime.split('.')[1]}"
    version = published(client, name, example("custom-bootstrap"), runtime=runtime, handler="count.letters")
    reply, response = invoke(client, name, {"ab": "cd1"}, Qualifier=version)
    assert reply == {"letters": 4, "primes": 348513, "invocation": 1, "handler": "count.letters"}
    assert report(response["Log"], "Restore Duration") is not None
    assert "restored" in daemon.thaw("logs", name).stdout, "printed between restore and first event"
    reply, response = invoke(client, name, {}, Qualifier=version)
    assert reply["invocation"] == 2 and report(response["Log"], "Restore Duration") is None
    reply, response = invoke(client, name, {"x": "fail"}, Qualifier=version)
    assert reply["errorType"] == "Example.Error" and response["FunctionError"] == "Unhandled"
    reply, response = invoke(client, name, {"ab": 1})
    assert reply["invocation"] == 1 and report(response["Log"], "Init Duration") > 0


def test_many_restores_of_one_bootstrap(client):
    version = published(client, "custom-many", example("custom-bootstrap"), runtime="provided.al2023", handler="h")
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda n: invoke(client, "custom-many", {"a" * n: 0}, Qualifier=version)[0], range(1, 33)))
    assert [reply["letters"] for reply in replies] == list(range(1, 33))


def test_shell_that_holds_the_connection(daemon, client):
    version = published(client, "custom-shell", example("custom-shell"), runtime="provided.al2023", handler="words.count")
    reply, response = invoke(client, "custom-shell", {"umlaut": "ä"}, Qualifier=version)
    assert reply == {"echo": {"umlaut": "ä"}, "invocation": 1, "words": 4}
    assert "restored" in daemon.thaw("logs", "custom-shell").stdout
    assert invoke(client, "custom-shell", [1], Qualifier=version)[0]["invocation"] == 2


def test_shell_with_curl(client):
    """On demand it runs as on AWS; its tree of processes is not snapshotted, which is said by name."""
    deploy(client, "custom-curl", executable(bootstrap=CURL), runtime="provided.al2023", handler="a.b", publish=False, snap=False)
    reply, _ = invoke(client, "custom-curl", {"n": 1})
    assert reply == {"handler": "a.b", "cwd": "/var/task", "event": {"n": 1}, "env": "none"}
    configuration = refused(client, "custom-curl-snap", executable(bootstrap=CURL), runtime="provided.al2023", handler="a.b")
    assert "curl" in configuration["StateReason"] and "child of the runtime" in configuration["StateReason"]


def test_bootstrap_that_does_not_know_of_snapshots(client):
    script = CURL.replace('[ "$AWS_LAMBDA_INITIALIZATION_TYPE" = snap-start ] && curl', ": curl")
    configuration = refused(client, "custom-unaware", executable(bootstrap=script), runtime="provided.al2023", handler="h")
    assert "restore/next" in configuration["StateReason"]


@pytest.mark.parametrize("kind", ["missing", "not-executable"])
def test_bootstrap_that_cannot_be_started(client, kind):
    code = executable(run=CURL) if kind == "missing" else executable(modes=0o644, bootstrap=CURL)
    said = {
        "missing": "Couldn't find valid bootstrap(s): [/var/task/bootstrap /opt/bootstrap]",
        "not-executable": "fork/exec /var/task/bootstrap: permission denied",
    }[kind]
    deploy(client, f"custom-{kind}", code, runtime="provided.al2023", handler="h", publish=False, snap=False)
    reply, response = invoke(client, f"custom-{kind}")
    assert response["FunctionError"] == "Unhandled"
    assert reply == {"errorType": "Runtime.InvalidEntrypoint", "errorMessage": f"Error: {said}"}
    configuration = refused(client, f"custom-{kind}-snap", code, runtime="provided.al2023", handler="h")
    assert said in configuration["StateReason"]
    assert configuration["StateReasonCode"] == "FunctionError.InvalidEntryPoint"


def test_bootstrap_that_ends(client):
    deploy(
        client, "custom-ends", executable(bootstrap="#!/bin/sh\necho going down\nexit 3\n"), runtime="provided.al2023",
        handler="h", publish=False, snap=False)
    reply, response = invoke(client, "custom-ends")
    assert reply["errorType"] == "Runtime.ExitError" and "exit status 3" in reply["errorMessage"]
