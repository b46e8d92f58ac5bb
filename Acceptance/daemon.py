"""A real daemon on a free loopback port with a data directory of its own, and clients for it."""

import base64
import io
import json
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import time
import shutil
import zipfile

import boto3
from botocore.config import Config

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "Examples"))
import package  # noqa: E402
BIN = pathlib.Path(os.environ.get("THAW_BIN", ROOT / ".build" / "release")).resolve()
ROLE = "arn:aws:iam::000000000000:role/test"


class Daemon:
    """`thaw serve` as a child of this process."""

    def __init__(self, *flags, data=None, runtimes=None):
        self.flags = flags
        self.data = pathlib.Path(data or tempfile.mkdtemp(prefix="thaw-test-"))
        if runtimes and not (self.data / "runtimes").exists():
            # Installed once for a whole test run: hard links would do, but a copy is what a user would have.
            shutil.copytree(runtimes, self.data / "runtimes", symlinks=True)
        self.process = None
        self.endpoint = None

    def start(self):
        self.log = open(self.data / "daemon.log", "a")
        self.process = subprocess.Popen(
            [BIN / "thaw", "serve", "--data-dir", self.data, "--listen", "127.0.0.1:0", *self.flags],
            stdout=subprocess.PIPE, stderr=self.log, text=True)
        line = self.process.stdout.readline()
        assert line.startswith("listening on http://"), (line, self.output())
        self.endpoint = line.split()[-1]
        return self

    def output(self):
        text = (self.data / "daemon.log").read_text()
        crash = text.find("crashed")
        return text[max(0, crash - 500) : crash + 6000] if crash >= 0 else text[-4000:]

    @property
    def pid(self):
        return self.process.pid

    def kill(self):
        """SIGKILL: nothing is cleaned up by the daemon itself."""
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()

    def stop(self):
        """SIGTERM, as a service manager does; the daemon must end by itself."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        code = self.process.wait(timeout=30)
        self.process.stdout.close()
        self.log.close()
        return code

    def remove(self):
        shutil.rmtree(self.data, ignore_errors=True)

    def environment(self):
        lines = subprocess.run(
            [BIN / "thaw", "env", "--data-dir", self.data], capture_output=True, text=True, check=True).stdout
        pairs = [line.removeprefix("export ").split("=", 1) for line in lines.splitlines()]
        return {**os.environ, **dict(pairs)}

    def client(self, **config):
        environment = self.environment()
        options = {"retries": {"max_attempts": 0}, "read_timeout": 120, "max_pool_connections": 100, **config}
        return boto3.client(
            "lambda", endpoint_url=self.endpoint, region_name="us-east-1",
            aws_access_key_id=environment["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=environment["AWS_SECRET_ACCESS_KEY"], config=Config(**options))

    def cli(self, *arguments, check=True):
        result = subprocess.run(
            [pathlib.Path(sys.executable).parent / "aws", "--output", "json", "lambda", *arguments],
            capture_output=True, text=True, env=self.environment(), timeout=120)
        assert not check or result.returncode == 0, result.stderr
        return result

    def thaw(self, *arguments):
        return subprocess.run(
            [BIN / "thaw", *arguments, "--data-dir", self.data], capture_output=True, text=True, timeout=120)

    # What a daemon has on the host.

    def children(self):
        """Process ids of the whole tree below the daemon."""
        parents = {}
        for entry in pathlib.Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    fields = (entry / "stat").read_text().rsplit(")", 1)[1].split()
                except OSError:
                    continue
                parents[int(entry.name)] = int(fields[1])
        tree, grown = {self.pid}, True
        while grown:
            new = {child for child, parent in parents.items() if parent in tree} - tree
            tree |= new
            grown = bool(new)
        return tree - {self.pid}

    def restored_processes(self, children=False):
        """Runtimes in sandboxes, restored or cold: inside they have pid 2, below the sandbox's pid 1; with `children`, what they have started, too."""
        found = []
        for pid in self.children():
            try:
                status = pathlib.Path(f"/proc/{pid}/status").read_text()
            except OSError:
                continue
            inner = status.split("NSpid:")[1].splitlines()[0].split()
            if len(inner) == 2 and (inner[1] == "2" or children and inner[1] != "1"):
                found.append(pid)
        return found

    def cgroups(self):
        """Groups of this data directory's jailer."""
        instance = fnv(str(self.data))
        return [path for path in pathlib.Path("/sys/fs/cgroup").rglob(f"thaw-{instance}") if path.is_dir()]

    def status(self):
        """What `thaw snapshots` shows, as the daemon says it."""
        from botocore.auth import SigV4Auth
        from botocore.awsrequest import AWSRequest
        from botocore.credentials import Credentials
        import urllib.request

        environment = self.environment()
        request = AWSRequest(method="GET", url=f"{self.endpoint}/thaw/status")
        keys = Credentials(environment["AWS_ACCESS_KEY_ID"], environment["AWS_SECRET_ACCESS_KEY"])
        SigV4Auth(keys, "lambda", "us-east-1").add_auth(request)
        return json.load(urllib.request.urlopen(urllib.request.Request(request.url, headers=dict(request.headers))))


def fnv(text):
    """The daemon's name for its data directory: FNV-1a."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) & 0xFFFFFFFFFFFFFFFF
    return f"{value:x}"


def archive(**files):
    """A zip of files; names are given as keywords with `__` for the dot."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, text in files.items():
            target.writestr(name.replace("__", "."), text)
    return buffer.getvalue()


def example(name):
    """The bytes of an example's archive."""
    with tempfile.TemporaryDirectory() as directory:
        return package.package(name, None, f"{directory}/code.zip").read_bytes()


def executable(modes=0o755, **files):
    """A zip of executable files; names as for `archive`."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as target:
        for name, text in files.items():
            information = zipfile.ZipInfo(name.replace("__", "."))
            information.external_attr = (0o100000 | modes) << 16
            target.writestr(information, text)
    return buffer.getvalue()


def deploy(client, name, code, publish=True, runtime="python3.12", handler="app.handler", snap=True, **options):
    """Creates a function of Python source or a zip; answers the published version's number if it is to be published."""
    payload = code if isinstance(code, bytes) else archive(app__py=code)
    settings = {"MemorySize": 512, "Timeout": 10, **options}
    if snap:
        settings["SnapStart"] = {"ApplyOn": "PublishedVersions"}
    client.create_function(
        FunctionName=name, Runtime=runtime, Role=ROLE, Handler=handler, Code={"ZipFile": payload}, **settings)
    client.get_waiter("function_active_v2").wait(FunctionName=name, WaiterConfig={"Delay": 1, "MaxAttempts": 120})
    return publish_version(client, name) if publish else None


def publish_version(client, name):
    version = client.publish_version(FunctionName=name)["Version"]
    wait(client, name, version)
    return version


def wait(client, name, version):
    deadline = time.monotonic() + 150
    while time.monotonic() < deadline:
        configuration = client.get_function_configuration(FunctionName=name, Qualifier=version)
        if configuration["State"] != "Pending":
            return configuration
        time.sleep(0.05)
    raise AssertionError(f"{name}:{version} stayed Pending")


def published(client, name, code, **options):
    """Creates a function and publishes a version; answers the version's number when it is Active."""
    deploy(client, name, code, publish=False, **options)
    version = client.publish_version(FunctionName=name)["Version"]
    configuration = wait(client, name, version)
    assert configuration["State"] == "Active", configuration.get("StateReason")
    return version


def refused(client, name, code, **options):
    """Creates a function and publishes a version that must fail; answers its configuration."""
    deploy(client, name, code, publish=False, **options)
    configuration = wait(client, name, client.publish_version(FunctionName=name)["Version"])
    assert configuration["State"] == "Failed", configuration
    return configuration


def report(log, field):
    """Milliseconds of a field of the REPORT line."""
    line = next(line for line in log.splitlines() if line.startswith("REPORT"))
    parts = [part for part in line.split("\t") if part.startswith(f"{field}: ")]
    return float(parts[0].split()[-2]) if parts else None


def invoke(client, name, event=None, **options):
    """Invokes and answers the decoded payload and the response."""
    payload = event if isinstance(event, bytes) else json.dumps(event if event is not None else {}).encode()
    response = client.invoke(FunctionName=name, Payload=payload, LogType="Tail", **options)
    body = response["Payload"].read()
    response["Log"] = base64.b64decode(response.get("LogResult", "")).decode(errors="replace")
    return (json.loads(body) if body else None), response
