"""Which runtimes there are, and what is said when one is not."""

import pytest

from daemon import Daemon, archive, deploy, executable
from botocore.exceptions import WaiterError


def test_list(daemon):
    lines = {line.split()[0]: line for line in daemon.thaw("runtime", "list").stdout.splitlines()}
    for runtime in ["python3.12", "java17", "java25", "dotnet8", "provided.al2", "provided.al2023"]:
        assert " installed" in lines[runtime], lines
    assert "/usr/lib/jvm" in lines["java17"] and lines["java17"].rstrip().endswith("/bin/java")
    doctor = daemon.thaw("doctor")
    assert doctor.returncode == 0
    for runtime in ["java17", "dotnet8", "provided.al2023"]:
        assert any(line.startswith("ok") and f" {runtime} " in line for line in doctor.stdout.splitlines()), doctor.stdout


def test_install_says_what_is_used(daemon):
    result = daemon.thaw("runtime", "install", "java25")
    assert result.stdout.startswith("java25 is ready: Java 25") and "/usr/lib/jvm/" in result.stdout
    assert "dotnet8 is ready: .NET 8." in daemon.thaw("runtime", "install", "dotnet8").stdout
    result = daemon.thaw("runtime", "install", "ruby3.3")
    assert result.returncode != 0 and "ruby3.3 is not supported yet" in result.stderr and "java21" in result.stderr


@pytest.mark.parametrize("value, text", [("java21", "RUNTIME=PATH"), ("cobol=/usr/bin/cobc", "there is no runtime cobol")])
def test_flags_that_mean_nothing(daemon, value, text):
    result = daemon.thaw("runtime", "list", "--runtime", value)
    assert result.returncode != 0 and text in result.stderr


def test_a_path_that_is_not_that_runtime(runtimes, daemon):
    java17 = daemon.thaw("runtime", "install", "java17").stdout.split(" at ")[1].strip()
    own = Daemon("--runtime", f"java21={java17}", "--runtime", "dotnet8=/nowhere/dotnet", runtimes=runtimes).start()
    try:
        client = own.client()
        for runtime, text in [("java21", f"no Java 21 was found at {java17}"), ("dotnet8", "no .NET 8 was found")]:
            with pytest.raises(WaiterError):
                deploy(client, runtime, archive(a__txt="x"), runtime=runtime, handler="a::b::c", publish=False)
            configuration = client.get_function_configuration(FunctionName=runtime)
            assert configuration["State"] == "Failed" and configuration["StateReasonCode"] == "InvalidRuntime"
            assert text in configuration["StateReason"] and f"--runtime {runtime}=" in configuration["StateReason"]
        assert own.stop() == 0
    finally:
        if own.process.poll() is None:
            own.kill()
        own.remove()


def test_snapshots_of_other_runtimes_are_refused(client):
    for runtime in ["nodejs22.x", "python3.11", "provided"]:
        with pytest.raises(client.exceptions.InvalidParameterValueException) as error:
            deploy(client, "old", executable(bootstrap="#!/bin/sh\n"), runtime=runtime, handler="a.b", publish=False)
        assert f"{runtime} is not supported for SnapStart" in str(error.value)
