import pathlib
import subprocess
import tempfile

import pytest

from daemon import BIN, Daemon


@pytest.fixture(scope="session")
def runtimes():
    """Runtime bundles, installed once for the whole run with `thaw runtime install`."""
    with tempfile.TemporaryDirectory(prefix="thaw-test-runtimes-", ignore_cleanup_errors=True) as directory:
        for runtime in ["python3.12", "python3.13", "dotnet8"]:
            result = subprocess.run(
                [BIN / "thaw", "runtime", "install", runtime, "--data-dir", directory], capture_output=True, text=True)
            assert result.returncode == 0, result.stderr
            assert f"{runtime} is ready" in result.stdout
        yield pathlib.Path(directory) / "runtimes"


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


@pytest.fixture(scope="session")
def java_code():
    """Function classes at the top, Lambda's interfaces and org.crac in lib/, as build tools pack them."""
    import package

    sources = pathlib.Path(__file__).parent / "java"
    functions = sorted((sources / "functions").glob("*.java"))
    libraries = [path for path in sorted(sources.rglob("*.java")) if path.parent.name != "functions"]
    with tempfile.TemporaryDirectory() as directory:
        root = pathlib.Path(directory)
        (root / "api").mkdir()
        (root / "tree" / "lib").mkdir(parents=True)
        package.compile_java(libraries, root / "api")
        package.compile_java(functions, root / "tree", classpath=root / "api")
        package.archive(root / "api", root / "tree" / "lib" / "aws-lambda-java-core.jar")
        return package.archive(root / "tree", root / "code.zip").read_bytes()
