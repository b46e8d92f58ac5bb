"""CPython with children in use at the snapshot: multiprocessing by fork, spawn and forkserver with queues, pipes, managers, locks and shared
memory, a pool of processes, subprocesses with pipes, one that asyncio waits for, one that has ended."""

import asyncio
import concurrent.futures
import multiprocessing
import multiprocessing.shared_memory
import os
import signal
import subprocess
import sys
import threading
import time

import harness

state = {}


def square(number):
    return number * number, os.getpid()


def serve(requests, replies, lock, counter):
    held = {"asked": 0}
    for request in iter(requests.get, None):
        held["asked"] += 1
        with lock:
            counter.value += request
        replies.put((request * 2, held["asked"], os.getpid(), os.getppid()))


def answer(connection, name):
    memory = multiprocessing.shared_memory.SharedMemory(name)
    while True:
        offset = connection.recv()
        memory.buf[offset] = memory.buf[offset] + 1
        connection.send(("done", offset))


def wait_for_child():
    async def main():
        process = await asyncio.create_subprocess_exec(
            "/bin/cat", stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE)
        state["asyncio child"] = process
        state["loop"] = asyncio.get_running_loop()
        state["go"] = asyncio.Event()
        state["ready"].set()
        await state["go"].wait()
        state["said"] = (await process.communicate(b"to a child of asyncio"))[0]
        state["ended"] = process.returncode

    asyncio.run(main())


def set_up():
    for method in ["fork", "spawn", "forkserver"]:
        context = multiprocessing.get_context(method)
        requests, replies, lock, counter = context.Queue(), context.SimpleQueue(), context.Lock(), context.Value("i", 0)
        process = context.Process(target=serve, args=(requests, replies, lock, counter), daemon=True)
        process.start()
        requests.put(5)
        assert replies.get()[:2] == (10, 1)
        state[method] = (process, requests, replies, lock, counter)
    state["memory"] = multiprocessing.shared_memory.SharedMemory(create=True, size=4096)
    state["pipe"], other = multiprocessing.Pipe()
    state["answerer"] = multiprocessing.Process(target=answer, args=(other, state["memory"].name), daemon=True)
    state["answerer"].start()
    state["manager"] = multiprocessing.Manager()
    state["dictionary"] = state["manager"].dict(kept=1)
    state["pool"] = concurrent.futures.ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork"))
    assert sorted(number for number, _ in state["pool"].map(square, range(10))) == [n * n for n in range(10)]
    state["cat"] = subprocess.Popen(["/bin/cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    state["shell"] = subprocess.Popen(
        ["/bin/sh", "-c", "sleep 1000 & while read line; do echo \"$line from the shell\"; done; kill $!; exit 3"],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True)
    state["shell"].stdin.write("first\n")
    state["shell"].stdin.flush()
    assert state["shell"].stdout.readline() == "first from the shell\n"
    state["ended child"] = subprocess.Popen(["/bin/sh", "-c", "exit 9"])
    state["ready"] = threading.Event()
    state["thread"] = threading.Thread(target=wait_for_child)
    state["thread"].start()
    state["ready"].wait()
    time.sleep(0.3)


def check():
    for method in ["fork", "spawn", "forkserver"]:
        process, requests, replies, lock, counter = state[method]
        assert process.is_alive() and counter.value == 5
        requests.put(7)
        reply = replies.get()
        assert reply[:3] == (14, 2, process.pid), (method, reply)
        assert counter.value == 12 and lock.acquire(timeout=1)
        requests.put(None)
        lock.release()
        process.join(10)
        assert process.exitcode == 0, (method, process.exitcode)
    state["memory"].buf[9] = 41
    state["pipe"].send(9)
    assert state["pipe"].recv() == ("done", 9) and state["memory"].buf[9] == 42
    assert state["dictionary"].copy() == {"kept": 1}
    state["dictionary"]["new"] = os.getpid()
    assert state["dictionary"]["new"] == os.getpid()
    results = list(state["pool"].map(square, range(20)))
    assert [number for number, _ in results] == [n * n for n in range(20)] and os.getpid() not in {pid for _, pid in results}
    state["pool"].shutdown()
    assert state["cat"].communicate(b"through a child")[0] == b"through a child" and state["cat"].returncode == 0
    assert os.getsid(state["shell"].pid) == state["shell"].pid
    said = state["shell"].communicate("second\n")[0]
    assert said == "second from the shell\n" and state["shell"].returncode == 3
    assert state["ended child"].wait(5) == 9
    state["loop"].call_soon_threadsafe(state["go"].set)
    state["thread"].join(10)
    assert state["said"] == b"to a child of asyncio" and state["ended"] == 0
    assert multiprocessing.active_children()
    state["answerer"].terminate()
    state["answerer"].join(5)
    assert state["answerer"].exitcode == -signal.SIGTERM
    state["manager"].shutdown()
    state["memory"].close()
    state["memory"].unlink()
    # New ones can be made as before.
    with multiprocessing.get_context("fork").Pool(2) as pool:
        assert [number for number, _ in pool.map(square, range(5))] == [0, 1, 4, 9, 16]
    assert subprocess.run([sys.executable, "-c", "print(6 * 7)"], capture_output=True, text=True, check=True).stdout == "42\n"


if __name__ == "__main__":
    harness.run(set_up, check)
