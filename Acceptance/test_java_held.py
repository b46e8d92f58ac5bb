"""java17 and java25: what a function holds when its snapshot is taken goes on in each of several clones at once, and is each one's own."""

import time

import pytest

from clones import at_once
from daemon import invoke, published

CLOSED = {-1, "SocketException", "IOException"}
FAULTS = "NullPointerException ArithmeticException StringIndexOutOfBoundsException"


@pytest.fixture
def clones(client, java_code):
    """Publishes a handler, waits a little, and answers the replies of clones that ran at once; `options` are the JVM's."""
    def run(handler, runtime, options=""):
        name = f"{handler.split('.')[-1]}-{runtime}" + "".join(letter for letter in options if letter.isalnum())
        variables = {"JAVA_TOOL_OPTIONS": options} if options else {}
        version = published(
            client, name, java_code, runtime=runtime, handler=handler, Timeout=30, Environment={"Variables": variables})
        time.sleep(1.5)
        return at_once(client, name, version)

    return run


@pytest.mark.parametrize(
    "runtime, options",
    [
        ("java17", ""), ("java25", ""), ("java17", "-XX:+UseG1GC -XX:TieredStopAtLevel=4"), ("java25", "-XX:+UseZGC"),
        ("java25", "-XX:+UseShenandoahGC"),
    ])
def test_threads(clones, runtime, options):
    for number, reply in enumerate(clones("functions.HeldThreads", runtime, options)):
        # Not counted by the monotonic clock: what passed between the snapshot and the restore.
        assert reply.pop("not counted") > 1000
        assert reply == {
            "states": {
                "holds a monitor": "WAITING", "blocked": "BLOCKED", "parked": "WAITING", "parked for a time": "TIMED_WAITING",
                "sleeps": "TIMED_WAITING", "waits": "WAITING", "waits for a time": "TIMED_WAITING", "awaits a condition": "WAITING",
                "takes": "WAITING", "acquires": "WAITING", "at a barrier": "WAITING"},
            "ends": {
                "holds a monitor": "released", "blocked": "entered", "parked": "unparked", "parked for a time": "over",
                "sleeps": "awake", "waits": "notified", "waits for a time": "notified after timeouts",
                "awaits a condition": "signalled", "takes": f"clone-{number}", "acquires": "acquired", "at a barrier": "passed"},
            "pending": True, "futures": [499500, f"clone-{number}", "by timeout", "once"],
            "counted on": True, "ticking": True, "no burst": True, "nanoTime goes on": True, "compiled": True,
            "faults": f"{FAULTS} true, {FAULTS} true"}


@pytest.mark.parametrize("runtime", ["java17", "java25"])
def test_files(clones, runtime):
    for number, reply in enumerate(clones("functions.HeldFiles", runtime)):
        me = f"clone-{number}"
        assert reply == {
            "shared": f"from init, {me}", "shared in the file": f"{me}, by write", "table": "file table",
            "changed": f"file !hanged, {me}", "changed in the file": "file changed", "direct": True,
            "lock": "true, 1", "lock again": "OverlappingFileLockException", "lock anew": "0, 1, true",
            "open": "11, second line", "lines": "two, three, null", "deleted": f"nobody finds this{me}, false",
            "events": [f"ENTRY_CREATE /tmp/{me}", f"ENTRY_CREATE /tmp/watched/{me}", "ENTRY_DELETE /tmp/watched/before"]}


@pytest.mark.parametrize("runtime", ["java17", "java25"])
def test_sockets(clones, runtime):
    for number, reply in enumerate(clones("functions.HeldSockets", runtime)):
        me = f"clone-{number}"
        assert reply.pop("connection") in CLOSED and reply.pop("connection with a timeout") in CLOSED
        assert set(reply.pop("writes")) <= CLOSED
        assert reply == {
            "pipe": "1, true, from init, 0", "both": f"true, {me}, {me}", "http": f"/{me}, /again", "echo": f"{me}, again",
            "accepted": me, "received": me}


def test_virtual_threads(clones):
    for number, reply in enumerate(clones("functions.HeldVirtual", "java25")):
        me = f"clone-{number}"
        assert reply.pop("reader") in CLOSED
        assert reply == {
            "pending": True, "takers": f"100, [{me}]", "ticking": True, "sleeper": "awake", "waiter": "notified", "locker": "locked",
            "accepted": me, "more": 4950}


def test_own_host_name_has_an_address(client, java_code):
    """Libraries ask for it: JMX, loggers, clients of message brokers."""
    version = published(client, "local-host", java_code, runtime="java17", handler="functions.Plain::localHost")
    for qualifier in ["$LATEST", version]:
        assert invoke(client, "local-host", Qualifier=qualifier)[0] == "127.0.0.1"
