"""CPython with everything in use at the snapshot: an event loop in a thread of its own, threads in waits, SQLite in WAL
mode with an open transaction, shared memory, memory-mapped files, locks and semaphores of multiprocessing."""

import asyncio
import concurrent.futures
import mmap
import multiprocessing
import multiprocessing.shared_memory
import os
import queue
import selectors
import signal
import socket
import sqlite3
import tempfile
import threading
import time

import harness

state = {}


def serve_events():
    async def answer(reader, writer):
        while line := await reader.readline():
            writer.write(line.upper())
            await writer.drain()
        writer.close()

    async def main():
        state["loop"] = asyncio.get_running_loop()
        state["wake"] = asyncio.Event()
        state["server"] = await asyncio.start_server(answer, "127.0.0.1", 8123)
        state["unix"] = await asyncio.start_unix_server(answer, "/tmp/asyncio.sock")
        state["later"] = asyncio.create_task(asyncio.sleep(1.5, "slept"))
        state["waiter"] = asyncio.create_task(state["wake"].wait())
        state["ready"].set()
        await state["waiter"]
        state["slept"] = await state["later"]
        state["thread"] = await asyncio.to_thread(lambda: threading.current_thread().name)
        reader, writer = await asyncio.open_connection("127.0.0.1", 8123)
        writer.write(b"over tcp\n")
        state["tcp"] = await reader.readline()
        writer.close()
        reader, writer = await asyncio.open_unix_connection("/tmp/asyncio.sock")
        writer.write(b"over unix\n")
        state["local"] = await reader.readline()
        writer.close()
        process = await asyncio.create_subprocess_exec("/bin/echo", "a child", stdout=asyncio.subprocess.PIPE)
        state["child"] = (await process.communicate())[0]

    asyncio.run(main())


def set_up():
    state["ready"] = threading.Event()
    state["events"] = threading.Thread(target=serve_events, name="events")
    state["events"].start()
    state["ready"].wait()

    state["pool"] = concurrent.futures.ThreadPoolExecutor(4)
    list(state["pool"].map(time.sleep, [0.01] * 4))
    state["queue"] = queue.Queue()
    state["getter"] = state["pool"].submit(lambda: state["queue"].get(timeout=3600))
    state["timer_ran"] = threading.Event()
    state["timer"] = threading.Timer(1.0, state["timer_ran"].set)
    state["timer"].start()

    database = sqlite3.connect("/tmp/data.sqlite", isolation_level=None, check_same_thread=False)
    database.execute("pragma journal_mode = wal")
    database.execute("pragma mmap_size = 1048576")
    database.execute("create table words (word text)")
    database.executemany("insert into words values (?)", [(f"word {i}",) for i in range(2000)])
    database.execute("begin immediate")
    database.execute("insert into words values ('not committed yet')")
    state["cursor"] = database.execute("select word from words order by rowid")
    assert state["cursor"].fetchone() == ("word 0",)
    state["database"] = database
    state["plain"] = sqlite3.connect("/tmp/plain.sqlite")
    state["plain"].execute("create table words (word text)")
    state["plain"].commit()

    state["anonymous"] = mmap.mmap(-1, 1 << 20)
    state["anonymous"][1000:1006] = b"shared"
    state["file"] = tempfile.TemporaryFile()
    state["file"].write(b"0123456789" * 1000)
    state["file"].flush()
    state["mapped"] = mmap.mmap(state["file"].fileno(), 0)
    state["view"] = memoryview(state["mapped"])[5:]
    state["memory"] = multiprocessing.shared_memory.SharedMemory(create=True, size=10000)
    state["memory"].buf[:4] = b"kept"
    state["lock"] = multiprocessing.Lock()
    state["lock"].acquire()
    state["semaphore"] = multiprocessing.Semaphore(3)
    state["value"] = multiprocessing.Value("i", 77)
    state["memfd"] = os.memfd_create("python")
    os.write(state["memfd"], b"in a memory file")
    state["selector"] = selectors.DefaultSelector()
    state["pair"] = socket.socketpair()
    state["pair"][0].sendall(b"waiting")
    state["selector"].register(state["pair"][1], selectors.EVENT_READ, "pair")
    signal.signal(signal.SIGUSR1, lambda *_: state.__setitem__("signal", True))


def check():
    state["loop"].call_soon_threadsafe(state["wake"].set)
    state["queue"].put("from the queue")
    assert state["getter"].result(10) == "from the queue"
    assert state["timer_ran"].wait(10)
    assert state["pool"].submit(sum, [1, 2, 3]).result(10) == 6

    assert sum(1 for _ in state["cursor"]) == 2000
    # Locks are seen by other processes; within one SQLite knows of them by itself.
    child = os.fork()
    if child == 0:
        try:
            other = sqlite3.connect("/tmp/data.sqlite", timeout=0, isolation_level=None)
            assert other.execute("select count(*) from words").fetchone() == (2000,)
            other.execute("insert into words values ('against the lock')")
        except sqlite3.OperationalError as error:
            os._exit(42 if "locked" in str(error) else 1)
        os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 42
    state["database"].execute("commit")
    other = sqlite3.connect("/tmp/data.sqlite", timeout=0, isolation_level=None)
    assert other.execute("select count(*) from words").fetchone() == (2001,)
    other.execute("insert into words values ('after')")
    assert other.execute("pragma integrity_check").fetchone() == ("ok",)
    assert state["database"].execute("select count(*) from words").fetchone() == (2002,)

    state["plain"].execute("insert into words values ('with a rollback journal')")
    state["plain"].commit()

    assert state["anonymous"][1000:1006] == b"shared" and state["anonymous"][:6] == bytes(6)
    state["mapped"][:3] = b"abc"
    state["file"].seek(0)
    assert state["file"].read(12) == b"abc345678901" and bytes(state["view"][:3]) == b"567"
    again = multiprocessing.shared_memory.SharedMemory(state["memory"].name)
    assert bytes(again.buf[:4]) == b"kept"
    mine = os.urandom(8)
    state["memory"].buf[100:108] = mine
    time.sleep(0.1)
    assert bytes(again.buf[100:108]) == mine
    assert not state["lock"].acquire(block=False)
    state["lock"].release()
    assert state["lock"].acquire(timeout=1)
    assert [state["semaphore"].acquire(block=False) for _ in range(4)] == [True, True, True, False]
    assert state["value"].value == 77
    child = os.fork()
    if child == 0:
        state["value"].value = 78
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0 and state["value"].value == 78
    assert os.pread(state["memfd"], 100, 0) == b"in a memory file"
    [(key, _)] = state["selector"].select(5)
    assert key.data == "pair" and state["pair"][1].recv(100) == b"waiting"
    os.kill(os.getpid(), signal.SIGUSR1)
    assert state.get("signal")

    state["events"].join(20)
    assert not state["events"].is_alive()
    expected = {"slept": "slept", "tcp": b"OVER TCP\n", "local": b"OVER UNIX\n", "child": b"a child\n"}
    assert {name: state.get(name) for name in expected} == expected
    assert state["thread"].startswith("asyncio")


harness.run(set_up, check)
