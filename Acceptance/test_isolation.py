"""Two clones of one snapshot share no process, no socket, no /tmp; what one writes the other never sees."""

from concurrent.futures import ThreadPoolExecutor

from daemon import deploy, invoke

CODE = """
import os, socket, time, json
STATE = {"writes": 0}
open("/tmp/from-init", "w").write("made in init")
def sockets():
    return sorted(os.readlink("/proc/self/fd/%s" % fd) for fd in os.listdir("/proc/self/fd") if os.path.islink("/proc/self/fd/%s" % fd) and os.readlink("/proc/self/fd/%s" % fd).startswith("socket"))
def handler(event, context):
    who = event["who"]
    seen = sorted(os.listdir("/tmp"))
    content = open("/tmp/from-init").read()
    open("/tmp/%s" % who, "w").write(who)
    open("/tmp/from-init", "w").write(who)
    STATE["writes"] += 1
    listener = socket.socket(); listener.bind(("127.0.0.1", 7777)); listener.listen()
    time.sleep(event["sleep"])
    status = dict(line.split(":\\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\\t" in line)
    listener.close()
    try:
        os.open("/usr/written", os.O_CREAT | os.O_WRONLY); readonly = False
    except OSError as error:
        readonly = error.errno
    return {"seen": seen, "content": content, "after": sorted(os.listdir("/tmp")), "writes": STATE["writes"], "pid": os.getpid(),
            "processes": sorted(int(p) for p in os.listdir("/proc") if p.isdigit()), "sockets": sockets(),
            "host": socket.gethostname(), "namespaces": {n: os.readlink("/proc/self/ns/" + n) for n in ["pid", "mnt", "net", "ipc", "uts"]},
            "capabilities": [status[n] for n in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"]], "nnp": status["NoNewPrivs"],
            "seccomp": status["Seccomp"], "uid": os.getuid(), "readonly": readonly, "interfaces": [n for _, n in socket.if_nameindex()],
            "task": os.listdir("/var/task"), "groups": os.getgroups()}
"""


def test_clones_share_nothing(client):
    version = deploy(client, "isolated", CODE)
    with ThreadPoolExecutor(3) as pool:
        replies = list(pool.map(
            lambda who: invoke(client, "isolated", {"who": who, "sleep": 1}, Qualifier=version)[0], ["a", "b", "c"]))
    for reply, who in zip(replies, "abc"):
        assert reply["seen"] == ["from-init"] and reply["content"] == "made in init"
        assert reply["after"] == sorted([who, "from-init"]) and reply["writes"] == 1
        assert reply["pid"] == 2 and reply["processes"] == [1, 2]
        assert reply["capabilities"] == ["0000000000000000"] * 5 and reply["nnp"] == "1" and reply["seccomp"] == "2"
        assert reply["uid"] == 993 and reply["groups"] in ([], [993]) and reply["readonly"] in (13, 30)
        assert reply["interfaces"] == ["lo"] and "app.py" in reply["task"]
    for kind in ["pid", "mnt", "net", "ipc", "uts"]:
        assert len({reply["namespaces"][kind] for reply in replies}) == 3, f"{kind} namespaces are shared"
    used = [name for reply in replies for name in reply["sockets"]]
    assert len(used) == len(set(used)), "a socket is shared"
    assert len({reply["host"] for reply in replies}) == 3


def test_cold_started_sandbox_is_confined_too(client):
    deploy(client, "cold", CODE, publish=False, snap=False)
    reply = invoke(client, "cold", {"who": "x", "sleep": 0})[0]
    assert reply["capabilities"] == ["0000000000000000"] * 5 and reply["nnp"] == "1" and reply["seccomp"] == "2"
    assert reply["uid"] == 993 and reply["interfaces"] == ["lo"] and reply["processes"] == [1, 2]


def test_denied_calls(client):
    code = """
import ctypes, os
LIBC = ctypes.CDLL(None, use_errno=True)
def call(number, *arguments):
    result = LIBC.syscall(number, *arguments)
    return 0 if result >= 0 else ctypes.get_errno()
def handler(event, context):
    return {"mount": call(165, b"x", b"/tmp", b"tmpfs", 0, 0), "unshare": call(272, 0x10000000), "ptrace": call(101, 0, 0, 0, 0),
            "bpf": call(321, 0, 0, 0), "io_uring": call(425, 1, 0), "clone3": call(435, 0, 0), "keyctl": call(250, 0, 0),
            "init": open("/proc/1/comm").read().strip(), "kill": kill()}
def kill():
    try:
        os.kill(1, 9)
    except OSError as error:
        return error.errno
"""
    version = deploy(client, "denied", code)
    for qualifier in ["$LATEST", version]:
        reply = invoke(client, "denied", Qualifier=qualifier)[0]
        assert reply.pop("init") == "thaw-init"
        assert reply.pop("clone3") == 38
        assert set(reply.values()) == {1}, reply
