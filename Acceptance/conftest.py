import pathlib
import shutil
import subprocess
import tempfile

import pytest

from daemon import BIN, Daemon


@pytest.fixture(scope="session")
def runtimes():
    """Runtime bundles, installed once for the whole run with `thaw runtime install`."""
    directory = pathlib.Path(tempfile.mkdtemp(prefix="thaw-test-runtimes-"))
    for runtime in ["python3.12", "python3.13", "dotnet8"]:
        result = subprocess.run(
            [BIN / "thaw", "runtime", "install", runtime, "--data-dir", directory], capture_output=True, text=True)
        assert result.returncode == 0, result.stderr
        assert f"{runtime} is ready" in result.stdout
    yield directory / "runtimes"
    shutil.rmtree(directory, ignore_errors=True)


def running(runtimes, *flags):
    daemon = Daemon(*flags, runtimes=runtimes).start()
    try:
        yield daemon
        code = daemon.stop()
        assert code == 0, daemon.output()
        assert not daemon.cgroups(), "cgroups are left"
        mounts = pathlib.Path("/proc/self/mountinfo").read_text()
        assert str(daemon.data) not in mounts, "mounts are left"
    finally:
        if daemon.process.poll() is None:
            daemon.kill()
        daemon.remove()


@pytest.fixture(scope="module")
def daemon(runtimes):
    """A daemon for the tests of one file; it must end cleanly."""
    yield from running(runtimes)


@pytest.fixture
def own_daemon(runtimes):
    """A daemon for one test, which may kill it."""
    yield from running(runtimes)


@pytest.fixture
def fresh_daemon(runtimes):
    """A daemon that gives every invocation a fresh environment."""
    yield from running(runtimes, "--max-idle", "0")


@pytest.fixture(scope="module")
def client(daemon):
    return daemon.client()
