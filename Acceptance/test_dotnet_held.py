"""dotnet8: what a function holds when its snapshot is taken goes on in each of several clones at once, and is each one's own."""

import pathlib
import tempfile
import time

import pytest

import package
from clones import at_once
from daemon import published

SOURCES = pathlib.Path(__file__).parent / "dotnet" / "held"
CLOSED = {0, "IOException", "SocketException"}


@pytest.fixture(scope="module")
def code():
    with tempfile.TemporaryDirectory() as directory:
        tree = pathlib.Path(directory) / "tree"
        tree.mkdir()
        package.compile_csharp(sorted(SOURCES.glob("*.cs")), tree / "Held.dll", references=["System.Core", "System.Net.Http"])
        return package.archive(tree, pathlib.Path(directory) / "code.zip").read_bytes()


@pytest.fixture
def clones(client, code):
    """Publishes a handler, waits a little, and answers the replies of clones that ran at once; `settings` are the runtime's."""
    def run(kind, **settings):
        name = f"net-held-{kind}-{len(settings)}"
        version = published(
            client, name, code, runtime="dotnet8", handler=f"Held::Held.{kind}::Handle", Timeout=30, Environment={"Variables": settings})
        time.sleep(1.5)
        return at_once(client, name, version)

    return run


@pytest.mark.parametrize(
    "settings",
    [
        {}, {"DOTNET_gcServer": "1", "DOTNET_gcConcurrent": "1"},
        # Code is mapped twice, once to write it; the diagnostics server listens and waits.
        {"DOTNET_EnableWriteXorExecute": "1", "DOTNET_EnableDiagnostics": "1", "DOTNET_TieredPGO": "1"},
    ], ids=["thaw", "collectors", "defaults"])
def test_tasks(clones, settings):
    for number, reply in enumerate(clones("Tasks", **settings)):
        me = f"clone-{number}"
        # Not counted by the monotonic clock: what passed between the snapshot and the restore.
        assert reply.pop("not counted") > 1000
        assert reply == {
            "pending": True, "counted on": True, "ticking": True, "no burst": True, "goes on": True,
            "ends": {
                "periods": "disposed", "channel": me, "promised": me, "delay": "over", "cancelled": "cancelled", "timeout": "cancelled",
                "both": f"{me}+over"},
            "collected": "True, False, True",
            "faults": "NullReferenceException DivideByZeroException IndexOutOfRangeException InvalidOperationException FormatException",
            "regex": f"clone {number} False"}


def test_threads(clones):
    for reply in clones("Threads"):
        assert reply == {
            "pending": True,
            "ends": {
                "holds a monitor": "released", "writes": "released", "holds a mutex": "released", "blocked": "entered",
                "reads 0": "read", "reads 1": "read", "reads 2": "read", "waits for the mutex": "had", "waits": "pulsed",
                "waits for a time": "pulsed after timeouts", "sleeps": "awake", "semaphore": "entered",
                "semaphore of a task": "entered", "kernel semaphore": "entered", "manual event": "set",
                "one of several": "number 1", "all of several": "set", "barrier": "passed", "countdown": "counted"}}


def test_named_mutex(clones):
    for reply in clones("NamedMutex"):
        assert reply == {"mutex": "False, released, had, True"}


def test_files(clones):
    for number, reply in enumerate(clones("Files")):
        me = f"clone-{number}"
        assert reply == {
            "maps": f"from init, from init, {me}, {me}", "maps elsewhere": f"{me}, {me}",
            "exclusive": "4, 456, FLOCK WRITE 0-EOF, IOException", "locked": "FLOCK READ 0-EOF; POSIX WRITE 2-4",
            "unlocked": "FLOCK READ 0-EOF", "deleted": f"nobody finds this {me}, False", "lines": "two, three, ",
            "pipe": f"in the pipe, {me}", "events": [
                f"created watched/{me}", f"created {me}", "renamed watched/before watched/after", "deleted watched/after"]}


def test_sockets(clones):
    for number, reply in enumerate(clones("Sockets")):
        me = f"clone-{number}"
        assert reply.pop("reading") in CLOSED and reply.pop("awaiting") in CLOSED
        assert set(reply.pop("writes")) <= CLOSED
        assert reply == {"pending": True, "http": f"/{me}, /again", "echo": f"{me}, again", "accepted": me, "received": me, "piped": me}
