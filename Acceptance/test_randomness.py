"""What must not be the same twice: a hundred clones of one snapshot draw from every generator, and no value comes twice."""

import pytest

from daemon import deploy, invoke, published
from test_load import example

CLONES = 100

CODE = """
import os, random, secrets, ssl, tempfile, uuid
# Every generator is in use when the snapshot is taken.
MADE_IN_INIT = [random.random(), uuid.uuid1().hex, uuid.uuid4().hex, next(tempfile._get_candidate_names()), ssl.RAND_bytes(8).hex()]
ID = uuid.uuid4().hex
SEEN_BY_HOOK = []
from snapshot_restore_py import register_after_restore
register_after_restore(lambda: SEEN_BY_HOOK.append(random.random()))
def handler(event, context):
    return {"id": ID, "fresh": {
        "random": random.random(), "random in the hook": SEEN_BY_HOOK[0], "getrandbits": random.getrandbits(64), "uuid1": uuid.uuid1().hex,
        "node": uuid.getnode(), "uuid4": uuid.uuid4().hex, "tempfile": next(tempfile._get_candidate_names()),
        "openssl": ssl.RAND_bytes(16).hex(), "secrets": secrets.token_hex(16), "urandom": os.urandom(16).hex()}}
"""

NUMPY = """
import numpy.random
numpy.random.rand(3)
ID = 1
def handler(event, context):
    return {"id": ID, "fresh": {
        "rand": float(numpy.random.rand()), "randn": float(numpy.random.randn()), "integers": int(numpy.random.randint(1 << 62)),
        "default_rng": float(numpy.random.default_rng().random())}}
"""


def draw(client, name, version):
    replies = [invoke(client, name, Qualifier=version) for _ in range(CLONES)]
    for reply, response in replies:
        assert "FunctionError" not in response, response["Log"]
        assert "could not be reseeded" not in response["Log"]
    replies = [reply for reply, _ in replies]
    # What user code made in init is the same in all, as on AWS.
    assert len({reply["id"] for reply in replies}) == 1
    values = {generator: {reply["fresh"][generator] for reply in replies} for generator in replies[0]["fresh"]}
    twice = [generator for generator in values if len(values[generator]) < CLONES]
    assert not twice, f"a value came twice of: {', '.join(twice)}"
    return replies


@pytest.mark.parametrize("runtime", ["python3.12", "python3.13"])
def test_no_value_comes_twice(fresh_daemon, runtime):
    client = fresh_daemon.client()
    draw(client, "random", deploy(client, "random", CODE, runtime=runtime))


def test_no_value_of_numpy_comes_twice(fresh_daemon):
    import io
    import zipfile

    client = fresh_daemon.client()
    archive = io.BytesIO(example("pandas-report"))
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr("draw.py", NUMPY)
    draw(client, "numpy", deploy(client, "numpy", archive.getvalue(), handler="draw.handler", MemorySize=1769, Timeout=60))


@pytest.mark.parametrize("runtime", ["java17", "java25"])
def test_no_value_of_the_jdk_comes_twice(fresh_daemon, java_code, runtime):
    client = fresh_daemon.client()
    # For the function's hook: what the JDK has read ahead of the kernel's generator stays fresh, as if the host's clock had been set back.
    variables = {"JAVA_TOOL_OPTIONS": "--add-opens=java.base/sun.security.provider=ALL-UNNAMED"}
    version = published(
        client, "numbers", java_code, runtime=runtime, handler="functions.Numbers", Environment={"Variables": variables})
    replies = draw(client, "numbers", version)
    # 12 bits of the seed of new Random(), a hundred times: 99 different ones are expected.
    assert len({reply["seed"] for reply in replies}) > 80, "new Random() differs by the time only"
