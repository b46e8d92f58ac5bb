"""For programs that check themselves across a snapshot, as harness.h for those in C: set something up, wait, check it, answer.
The test is the server on 127.0.0.1:9001 (inside the sandbox): it is sent "ready", sends "go" to each clone, and reads the answer."""

import os
import socket
import traceback


def run(set_up, check):
    set_up()
    server = socket.create_connection(("127.0.0.1", 9001))
    server.sendall(b"ready\n")
    assert server.recv(100) == b"go\n"
    try:
        check()
        answer = "ok"
    except BaseException:
        answer = "failed: " + traceback.format_exc().replace("\n", " | ")
    server.sendall(answer.encode() + b"\n")
    server.recv(1)
    os._exit(0)
