"""A daemon that is killed comes back with everything; a snapshot that is damaged is noticed before it is used."""

import os
import pathlib
import subprocess
import tempfile
import threading
import time

import pytest
from botocore.exceptions import ClientError

from daemon import Daemon, deploy, invoke, wait

CODE = """
import time
ID = __import__("uuid").uuid4().hex
def handler(event, context):
    time.sleep(event.get("sleep", 0))
    return {"id": ID, "event": event}
"""


def gone(pids):
    """Waits until processes have ended: the kernel needs a moment after the daemon's death."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = [pid for pid in pids if alive(pid)]
        if not left:
            return
        time.sleep(0.05)
    raise AssertionError(f"still there: {left}")


def alive(pid):
    try:
        return open(f"/proc/{pid}/stat").read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_killed_while_idle(own_daemon):
    client = own_daemon.client()
    version = deploy(client, "kept", CODE)
    client.create_alias(FunctionName="kept", Name="live", FunctionVersion=version)
    first = invoke(client, "kept", Qualifier="live")[0]["id"]
    children = own_daemon.children()
    assert children
    own_daemon.kill()
    gone(children)
    own_daemon.start()
    client = own_daemon.client()
    assert [alias["Name"] for alias in client.list_aliases(FunctionName="kept")["Aliases"]] == ["live"]
    assert client.get_function_configuration(FunctionName="kept", Qualifier=version)["State"] == "Active"
    reply, response = invoke(client, "kept", Qualifier="live")
    assert reply["id"] == first, "restored from the snapshot it had"
    assert "Restore Duration" in response["Log"]


def test_killed_while_snapshotting(own_daemon):
    client = own_daemon.client()
    slow = "import time; time.sleep(0.4); BALLAST = bytearray(b'x' * 150_000_000)\n" + CODE
    deploy(client, "cut", slow, publish=False)
    for delay in [0.2, 0.5, 0.62, 0.7, 0.8]:
        version = client.publish_version(FunctionName="cut", Description=str(delay))["Version"]
        time.sleep(delay)
        children = own_daemon.children()
        own_daemon.kill()
        gone(children)
        own_daemon.start()
        client = own_daemon.client()
        assert not [name for name in os.listdir(own_daemon.data / "snapshots") if name.startswith(".staging") and "old" in name]
        assert wait(client, "cut", version)["State"] == "Active", "taken up again"
        assert "id" in invoke(client, "cut", Qualifier=version)[0]


def test_killed_while_restoring_and_invoking(own_daemon):
    client = own_daemon.client()
    version = deploy(client, "busy", CODE)
    for delay in [0.0, 0.005, 0.02, 0.3]:
        def call():
            try:
                invoke(own_daemon.client(), "busy", {"sleep": 2}, Qualifier=version)
            except Exception:
                pass  # the connection is lost with the daemon

        threads = [threading.Thread(target=call) for _ in range(4)]
        for thread in threads:
            thread.start()
        time.sleep(0.1 + delay)
        children = own_daemon.children()
        own_daemon.kill()
        gone(children)
        for thread in threads:
            thread.join()
        own_daemon.start()
        client = own_daemon.client()
        assert invoke(client, "busy", {"x": 1}, Qualifier=version)[0]["event"] == {"x": 1}


def test_jailer_killed(own_daemon):
    client = own_daemon.client()
    version = deploy(client, "jailed", CODE)
    invoke(client, "jailed", Qualifier=version)
    children = own_daemon.children()
    jailer = [pid for pid in children if open(f"/proc/{pid}/comm").read().strip() == "thaw-jailer"]
    assert len(jailer) == 1
    os.kill(jailer[0], 9)
    assert own_daemon.process.wait(timeout=10) == 1
    assert "the jailer ended" in own_daemon.output()
    gone(children)
    own_daemon.process.stdout.close()
    own_daemon.start()
    assert "id" in invoke(own_daemon.client(), "jailed", Qualifier=version)[0]


def damage(path, how):
    if how == "missing":
        path.unlink()
        return
    data = bytearray(path.read_bytes())
    if how == "truncated":
        data = data[: len(data) // 2]
    elif how == "empty":
        data = b""
    else:
        data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("file", ["image", "manifest"])
@pytest.mark.parametrize("how", ["truncated", "flipped", "missing", "empty"])
def test_damaged_snapshot(own_daemon, file, how):
    client = own_daemon.client()
    version = deploy(client, "damaged", CODE)
    first = invoke(client, "damaged", Qualifier=version)[0]["id"]
    own_daemon.stop()
    [directory] = [path for path in (own_daemon.data / "snapshots").iterdir()]
    damage(directory / file, how)
    own_daemon.start()
    client = own_daemon.client()
    reply, response = invoke(client, "damaged", Qualifier=version)
    assert reply["id"] != first, "the damaged snapshot was not used"
    assert "cannot be used" in own_daemon.output() and (file in own_daemon.output())
    deadline = time.monotonic() + 30
    while "a new snapshot of damaged:1 is there" not in own_daemon.output() and time.monotonic() < deadline:
        time.sleep(0.05)
    own_daemon.stop()
    own_daemon.start()
    reply, response = invoke(own_daemon.client(), "damaged", Qualifier=version)
    assert "Restore Duration" in response["Log"], "the new snapshot is used"


def test_changed_file_under_a_snapshot(own_daemon):
    """A mapped file that is another one now: the snapshot is built anew from code."""
    client = own_daemon.client()
    version = deploy(client, "moved", CODE)
    own_daemon.stop()
    [bundle] = [path for path in (own_daemon.data / "runtimes").glob("python3.12*")]
    [library] = bundle.glob("runtime_client*.so")
    os.utime(library, (1, 1))
    own_daemon.start()
    client = own_daemon.client()
    reply, response = invoke(client, "moved", Qualifier=version)
    assert "id" in reply and "has changed since the snapshot" in own_daemon.output()


def test_two_daemons_on_one_directory(own_daemon):
    other = Daemon(data=own_daemon.data)
    with pytest.raises(AssertionError):
        other.start()
    assert other.process.wait(timeout=10) == 1
    assert "another daemon uses the data directory" in own_daemon.output()
    other.process.stdout.close()
    other.log.close()


def test_deleted_function_leaves_nothing(own_daemon):
    client = own_daemon.client()
    version = deploy(client, "deleted", CODE)
    invoke(client, "deleted", Qualifier=version)
    client.delete_function(FunctionName="deleted")
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        left = list((own_daemon.data / "snapshots").iterdir()) + list((own_daemon.data / "code").iterdir())
        if not left and len(own_daemon.children()) == 1:
            return
        time.sleep(0.05)
    raise AssertionError((left, own_daemon.children()))


def test_full_disk_while_snapshotting(runtimes):
    """A disk that is full when a version is published: the version says so, all else goes on, and the next one is Active when there is room again."""
    base = pathlib.Path(tempfile.mkdtemp(prefix="thaw-test-full-"))
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=600m,mode=0700", "thaw-test", base], check=True)
    daemon = Daemon(data=base / "data", runtimes=runtimes)
    try:
        daemon.start()
        client = daemon.client()
        version = deploy(client, "before", CODE)
        first = invoke(client, "before", Qualifier=version)[0]["id"]
        big = "import os; BALLAST = os.urandom(60_000_000)\n" + CODE
        deploy(client, "big", big, publish=False)
        snapshots = sorted(path.name for path in (base / "data" / "snapshots").iterdir())
        filler = base / "filler"
        space = os.statvfs(base)
        filler.write_bytes(bytes(space.f_bavail * space.f_frsize - 20_000_000))
        failed = wait(client, "big", client.publish_version(FunctionName="big")["Version"])
        assert failed["State"] == "Failed" and "no space left" in failed["StateReason"].lower(), failed
        assert sorted(path.name for path in (base / "data" / "snapshots").iterdir()) == snapshots, "nothing half-made is left"
        assert invoke(client, "before", Qualifier=version)[0]["id"] == first
        filler.unlink()
        # Nothing has changed but that there is room: what has failed can be published again.
        version = client.publish_version(FunctionName="big")["Version"]
        again = wait(client, "big", version)
        assert version == "2" and again["State"] == "Active", again
        assert invoke(client, "big", Qualifier=version)[0]["id"]
        assert daemon.stop() == 0
    finally:
        if daemon.process and daemon.process.poll() is None:
            daemon.kill()
        subprocess.run(["umount", "--lazy", base], check=True)
        base.rmdir()
