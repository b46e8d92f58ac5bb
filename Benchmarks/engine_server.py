"""A warm process for the engine's own benchmark: `engine_server.py MODULE` does that module's work for each line it gets.

"go" does the work once; "fork N" forks N children that do the work, and answers how long each took to its first byte.
"""

import gc
import importlib
import json
import socket
import sys

sys.path.insert(0, "/var/task")
module = importlib.import_module(sys.argv[1])
for _ in range(3):
    module.work({"x": 1})
from forkbench import fork_times  # noqa: E402

server = socket.create_connection(("127.0.0.1", 9001))
server.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
gc.collect()
gc.freeze()
server.sendall(b"ready\n")
while True:
    line = server.recv(4096).decode().split()
    if not line:
        break
    if line[0] == "fork":
        reply = {"fork_us": fork_times(module.work, int(line[1]))}
    else:
        reply = module.work({"x": 1})
    server.sendall(json.dumps(reply).encode() + b"\n")
