"""Runtime hooks: what must not be the same twice is made after the restore."""

import os
import uuid

from snapshot_restore_py import register_after_restore, register_before_snapshot

EVENTS = ["init"]
SHARED_ID = str(uuid.uuid4())  # made in init: the same in every environment of a version
own_id = None


def before(name):
    EVENTS.append(f"before {name}")


def after(name):
    global own_id
    own_id = str(uuid.UUID(bytes=os.urandom(16)))
    EVENTS.append(f"after {name}")


register_before_snapshot(before, "first")
register_before_snapshot(before, "second")
register_after_restore(after, "first")
register_after_restore(after, "second")


def handler(event, context):
    return {"events": EVENTS, "shared": SHARED_ID, "own": own_id, "x": event.get("x")}
