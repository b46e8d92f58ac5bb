"""A plain function: JSON, a hash, a regular expression."""

import hashlib
import json
import os
import re

from forkbench import fork_times


def work(event):
    text = json.dumps({str(i): [i, i * i] for i in range(100)})
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    return {"h": digest, "n": len(re.findall(r"\d+", text)), "x": event.get("x"), "pid": os.getpid()}


def handler(event, context):
    if event.get("op") == "fork":
        return {"fork_us": fork_times(work, event.get("n", 30))}
    return work(event)
