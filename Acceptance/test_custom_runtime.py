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


def test_shell_with_children(daemon, client):
    """A shell, a co-process with state and a curl that waits in restore/next: all of them come back, in every clone."""
    version = published(client, "custom-shell", example("custom-shell"), runtime="provided.al2023", handler="words.count")
    reply, response = invoke(client, "custom-shell", "thaw", Qualifier=version)
    assert reply == {"word": "thaw", "answer": {"letters": 4, "asked": 1, "knows": 4}}
    assert report(response["Log"], "Restore Duration") is not None
    logs = daemon.thaw("logs", "custom-shell").stdout
    assert logs.count("init in bash") == 1 and "restored" in logs
    assert invoke(client, "custom-shell", "thaw", Qualifier=version)[0]["answer"]["asked"] == 2
    with ThreadPoolExecutor(8) as pool:
        replies = list(pool.map(lambda _: invoke(client, "custom-shell", "snapshot", Qualifier=version)[0], range(24)))
    assert {reply["answer"]["letters"] for reply in replies} == {8}
    # Eight at once are not one environment after another.
    assert sum(reply["answer"]["asked"] == 1 for reply in replies) >= 4


def test_shell_with_curl(client):
    """AWS's tutorial, word for word but for restore/next, on demand and from a snapshot."""
    deploy(client, "custom-curl", executable(bootstrap=CURL), runtime="provided.al2023", handler="a.b", publish=False, snap=False)
    expected = {"handler": "a.b", "cwd": "/var/task", "event": {"n": 1}, "env": "none"}
    assert invoke(client, "custom-curl", {"n": 1})[0] == expected
    version = published(client, "custom-curl-snap", executable(bootstrap=CURL), runtime="provided.al2023", handler="a.b")
    for _ in range(2):
        assert invoke(client, "custom-curl-snap", {"n": 1}, Qualifier=version)[0] == expected


STOPPED = CURL.replace("[ ", "sleep 1000 & sleep 0.3; kill -STOP $!\n[ ", 1)


def test_tree_that_cannot_be_made_again(client):
    configuration = refused(client, "custom-stopped", executable(bootstrap=STOPPED), runtime="provided.al2023", handler="a.b")
    assert "sleep" in configuration["StateReason"] and "is stopped by a signal" in configuration["StateReason"]


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
