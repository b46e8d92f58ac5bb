"""Environments of one version that run at the same time: clones of one snapshot."""

import time
from concurrent.futures import ThreadPoolExecutor

from daemon import invoke

CLONES = 4
# How long a handler stays, so that all of them are there at once.
OVERLAP = 3.0


def at_once(client, name, version, **event):
    """Invokes `CLONES` environments at once, each with a name of its own for the event's `me`; answers their replies in that order.

    Functions report as `clone` how often their environment was used, what the environment has for itself alone, and from when until when they ran.
    """
    def call(number):
        began = time.time()
        reply, response = invoke(
            client, name, {"me": f"clone-{number}", "until": int((start + OVERLAP) * 1000), **event}, Qualifier=version)
        assert "FunctionError" not in response, (reply, response["Log"])
        # The wall clock is the present, whenever the snapshot was taken.
        assert began - 0.01 <= reply["clone"]["began"] / 1000 <= reply["clone"]["ended"] / 1000 <= time.time() + 0.01
        return reply

    start = time.time()
    with ThreadPoolExecutor(CLONES) as pool:
        replies = list(pool.map(call, range(CLONES)))
    identities = [reply.pop("clone") for reply in replies]
    assert [identity["invocation"] for identity in identities] == [1] * CLONES, "an environment was used twice"
    for namespace in ["uts", "net"]:
        assert len({identity[namespace] for identity in identities}) == CLONES, identities
    assert max(identity["began"] for identity in identities) < min(identity["ended"] for identity in identities), identities
    return replies
