"""Figures at the edges: a thousand clones alive at once, restores with a cold page cache, taking snapshots.

Each is a ratio of things measured in turn in one run. Tables, and JSON beside them.

    python Benchmarks/limits.py --bin .build/release               all three
    python Benchmarks/limits.py --bin .build/release --only cold   one of: alive, cold, snapshot
"""

import argparse
import concurrent.futures
import ctypes
import json
import mmap
import os
import pathlib
import random
import re
import resource
import shutil
import signal
import statistics
import struct
import subprocess
import sys
import time
import zipfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "Acceptance"), str(ROOT / "Examples"), str(ROOT / "Benchmarks")]
import bench  # noqa: E402
import package  # noqa: E402

MEGABYTE = 1 << 20


def print_table(rows):
    print(bench.aligned(rows) + "\n", flush=True)


def say(text):
    print(text, file=sys.stderr, flush=True)


# MARK: Clones alive

# Works as the example does, and keeps its environment until it is told to go on: so all of them are there at once, and none of them does anything meanwhile.
# The signal is blocked before anything else is imported: every thread inherits that.
HELD = '''
import signal
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
import os, time
import app

calls, identity = 0, None

def handler(event, context):
    global calls, identity
    calls += 1
    identity = identity or os.urandom(8).hex()
    reply = app.handler(event, context)
    worked = time.time()
    if event.get("hold"):
        signal.sigwait([signal.SIGUSR1])
    return {"reply": reply, "calls": calls, "identity": identity, "worked": worked}
'''
RT_SIGTIMEDWAIT = "128 "


def waits(pid):
    """Whether a process is one in a sandbox that waits for the signal."""
    try:
        if not pathlib.Path(f"/proc/{pid}/syscall").read_text().startswith(RT_SIGTIMEDWAIT):
            return False
        status = pathlib.Path(f"/proc/{pid}/status").read_text()
        return len(status.split("NSpid:")[1].splitlines()[0].split()) == 2
    except OSError:
        return False


def waiting_beside(known):
    """Processes that wait, without those that are known to: looking costs the processors that are measured, so it must be little."""
    return {pid for entry in os.listdir("/proc") if entry.isdigit() and (pid := int(entry)) not in known and waits(pid)}


def memory_information():
    lines = pathlib.Path("/proc/meminfo").read_text().splitlines()
    return {line.split(":")[0]: int(line.split()[1]) / 1024 for line in lines}


def wait_until(condition, seconds, what):
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what} did not come within {seconds} s")
        time.sleep(0.3)


def fresh_memory(kept, megabytes=64):
    """Microseconds for a page of memory that nobody had before: where a virtual machine gets it from its host only now, clones cost more too."""
    memory = mmap.mmap(-1, megabytes * MEGABYTE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_NOHUGEPAGE)
    kept.append(memory)  # given back, it would be what the next one gets
    begin = time.perf_counter()
    for offset in range(0, len(memory), mmap.PAGESIZE):
        memory[offset] = 1
    return (time.perf_counter() - begin) * 1e6 / (len(memory) / mmap.PAGESIZE)


def measure_alive(name, count, batch, again):
    """`count` environments of one version at the same time, made in batches; then `again` of them, chosen at random, answer once more."""
    from daemon import Daemon, deploy, invoke

    # Each costs the daemon and the jailer descriptors, and this client a connection.
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    archive = ROOT / ".build" / f"bench-{name}-held.zip"
    shutil.copyfile(bench.archive(name), archive)
    with zipfile.ZipFile(archive, "a") as target:
        target.writestr(zipfile.ZipInfo("held.py", (2020, 1, 1, 0, 0, 0)), HELD)
    daemon = Daemon(
        "--concurrency", str(count + again), "--max-idle", str(count + again), "--idle-seconds", "3600", "--armed", "0", "--log-level", "warning").start()
    pool = concurrent.futures.ThreadPoolExecutor(count + again)
    result = {"function": name, "n": count, "batch": batch}
    try:
        client = daemon.client(max_pool_connections=count + again, read_timeout=900)
        deploy(client, name, archive.read_bytes(), handler="held.handler", MemorySize=1769, Timeout=900)

        def call(x, hold=True):
            answer, response = invoke(client, name, {"x": x, "hold": hold}, Qualifier="1")
            if "FunctionError" in response:
                raise SystemExit(f"call {x} failed: {answer}\n{daemon.output()}")
            return answer

        # The first invocation shows the working set; its environment is the first of them, idle until it is used.
        call(0, hold=False)
        wait_until(lambda: any((daemon.data / "snapshots").glob("*/working-set")), 10, "the working set")
        time.sleep(2)
        before, client_before = memory_information(), own_memory()
        daemon_before = resident(daemon.pid)
        first, batches, alive, kept = [], [], set(), []
        while len(first) < count:
            known, size = len(first), min(batch, count - len(first))
            page = fresh_memory(kept)
            order, used = time.time(), time.process_time()
            first += [pool.submit(call, x) for x in range(known, known + size)]
            found = set()

            def all_there():
                for future in first[known:]:
                    if future.done():
                        future.result()  # whatever failed says so now
                found.update(waiting_beside(alive | found))
                return len(found) == size
            wait_until(all_there, 300, f"the batch of {size} beside {known}")
            alive |= found
            batches.append({
                "beside": known, "n": size, "order": order, "client": (time.process_time() - used) / size * 1000 / os.cpu_count(), "fresh page": page})
            time.sleep(1)
        time.sleep(2)
        assert alive <= set(daemon.restored_processes())
        alive = sorted(pid for pid in alive if waits(pid))
        after, client_after = memory_information(), own_memory()
        memory = [bench.pss(pid) for pid in alive]
        result |= {
            "alive": len(alive), "threads": sum(len(os.listdir(f"/proc/{pid}/task")) for pid in alive),
            "pss": statistics.mean(value[0] for value in memory), "pss most": max(value[0] for value in memory),
            "written": statistics.mean(value[1] for value in memory),
            "available before": before["MemAvailable"], "available after": after["MemAvailable"], "total": after["MemTotal"],
            "memory each": (before["MemAvailable"] - after["MemAvailable"] - (client_after - client_before)) / count,
            "kernel": {key: (after[key] - before[key]) / count for key in ["AnonPages", "PageTables", "KernelStack", "Slab", "Percpu", "Shmem", "Cached"]},
            "daemon": resident(daemon.pid) - daemon_before, "descriptors": len(os.listdir(f"/proc/{daemon.pid}/fd")),
        }

        # Some of them, chosen at random, are let go, and are the only ones without work then: they answer once more.
        chosen = random.sample(alive, again)
        for pid in chosen:
            os.kill(pid, signal.SIGUSR1)
        wait_until(lambda: sum(future.done() for future in first) == again, 120, "the replies of those let go")
        once = {future.result()["identity"]: future for future in first if future.done()}
        begin = time.perf_counter()
        second = [pool.submit(call, x) for x in range(again)]
        wait_until(lambda: all(waits(pid) for pid in chosen) or any(future.done() for future in second), 120, "the second invocations")
        for pid in chosen:
            os.kill(pid, signal.SIGUSR1)
        replies = [future.result() for future in second]
        result["again"] = {
            "n": len(replies), "elapsed": (time.perf_counter() - begin) * 1000,
            "same": len({reply["identity"] for reply in replies} & set(once)), "right": sum(reply["calls"] >= 2 for reply in replies)}
        for pid in set(alive) - set(chosen):
            os.kill(pid, signal.SIGUSR1)
        replies = [future.result() for future in first]
        expected = {key: replies[0]["reply"][key] for key in replies[0]["reply"] if key not in ["x", "pid"]}
        result["answered"] = len({reply["identity"] for reply in replies if expected.items() <= reply["reply"].items()})
        assert sorted(reply["reply"]["x"] for reply in replies) == list(range(count))
        for part in batches:
            worked = sorted(reply["worked"] for reply in replies[part["beside"] : part["beside"] + part["n"]])
            part["elapsed"] = (worked[-1] - part.pop("order")) * 1000
            part["each"] = part["elapsed"] / part["n"]
        result["batches"] = batches
        result["each last / first"] = batches[-1]["each"] / batches[0]["each"]
        begin = time.perf_counter()
        result["stop code"] = daemon.stop()
        result["stop seconds"] = time.perf_counter() - begin
    finally:
        if daemon.process.poll() is None:
            daemon.stop()
        pool.shutdown(wait=False, cancel_futures=True)
        result["log"] = daemon.output()[-2000:]
        daemon.remove()
    return result


def resident(pid):
    """Resident memory of a process in MB."""
    return int(pathlib.Path(f"/proc/{pid}/status").read_text().split("VmRSS:")[1].split()[0]) / 1024


def own_memory():
    return resident("self")


def show_alive(result):
    print_table([
        [f"{result['n']} clones of {result['function']} at once", ""],
        ["alive at the same time, answered", f"{result['alive']}, {result['answered']}"],
        [f"{result['again']['n']} at random, once more: answered, by those", f"{result['again']['right']}, {result['again']['same']}"],
        ["threads in all", str(result["threads"])],
        ["PSS of each, MB: mean (most)", f"{result['pss']:.2f} ({result['pss most']:.2f})"],
        ["written by each, MB", f"{result['written']:.2f}"],
        ["PSS / written", f"{result['pss'] / result['written']:.2f}x"],
        ["host's memory for each, MB (kernel's and pid 1's share too)", f"{result['memory each']:.2f}"],
        ["host's memory available, GB: before, after, of", " ".join(
            f"{result[key] / 1024:.2f}" for key in ["available before", "available after", "total"])],
        ["daemon: grown by MB, descriptors", f"{result['daemon']:.0f}, {result['descriptors']}"],
        ["daemon's end with all of them, seconds (exit code)", f"{result['stop seconds']:.1f} ({result['stop code']})"],
    ])
    print_table([["clones beside", "ms each", "client's own ms", "against the first", "a fresh page, us"]] + [
        [f"{part['beside']} (+{part['n']})", f"{part['each']:.2f}", f"{part['client']:.2f}", f"{part['each'] / result['batches'][0]['each']:.2f}x",
         f"{part['fresh page']:.2f}"]
        for part in result["batches"]])


# MARK: Page cache cold

libc = ctypes.CDLL(None, use_errno=True)
CACHESTAT = 451


def cached_pages(path):
    """Pages of a file in the page cache: cachestat(2)."""
    with open(path, "rb") as file:
        span, state = struct.pack("QQ", 0, 0), ctypes.create_string_buffer(40)
        if libc.syscall(CACHESTAT, file.fileno(), span, state, 0) != 0:
            raise OSError(ctypes.get_errno(), "cachestat")
        return struct.unpack("5Q", state.raw)[0]


def drop(*places):
    """Takes files, and all below directories, out of the page cache; what a process maps stays."""
    for place in places:
        for file in [place] if place.is_file() else place.rglob("*"):
            if file.is_file() and not file.is_symlink():
                descriptor = os.open(file, os.O_RDONLY)
                os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
                os.close(descriptor)


def read_direct(path, ranges):
    """Milliseconds to read ranges (offset, length) of a file from the disk, past the page cache."""
    buffer = mmap.mmap(-1, 4 * MEGABYTE)
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECT)
    begin = time.perf_counter()
    for offset, length in ranges:
        while length > 0:
            step = min(length, len(buffer))
            os.preadv(descriptor, [memoryview(buffer)[:step]], offset)
            offset, length = offset + step, length - step
    elapsed = (time.perf_counter() - begin) * 1000
    os.close(descriptor)
    return elapsed


def read_buffered(path):
    """Milliseconds to read a file that is not in the page cache through it, as cat does."""
    buffer = bytearray(MEGABYTE)
    drop(path)
    with open(path, "rb", buffering=0) as file:
        begin = time.perf_counter()
        while file.readinto(buffer):
            pass
        return (time.perf_counter() - begin) * 1000


def working_set(path):
    """The lengths of the ranges (written, read) of a `working-set` file: Sources/SnapshotFormat/WorkingSet.swift."""
    data = path.read_bytes()
    assert data[:8] == b"THAWWSET" and struct.unpack_from("<I", data, 8) == (2,), "another version of the working set's file"
    position, lists = 12, []
    [length] = struct.unpack_from("<I", data, position)
    position += 4 + length
    for _ in range(2):
        [count] = struct.unpack_from("<I", data, position)
        words = struct.unpack_from(f"<{count}Q", data, position + 4)
        position += 4 + count * 8
        lists.append(words[1::2])
    return lists


def spread(lengths, size):
    """Ranges of these lengths, in order, spread over a file of `size` bytes at whole pages."""
    used, gap, position, ranges = sum(lengths), 0, 0, []
    gap = max(0, size - used) // max(1, len(lengths))
    for length in lengths:
        length = min(length, (size - position) // 4096 * 4096)
        if length <= 0:
            break
        ranges.append((position // 4096 * 4096, length))
        position += length + gap
    return ranges


def disk_reads(path):
    """Megabytes read so far from the disk that a path is on."""
    device = os.stat(path).st_dev
    return int(pathlib.Path(f"/sys/dev/block/{os.major(device)}:{os.minor(device)}/stat").read_text().split()[2]) * 512 / 1e6


def seconds(text, name):
    """The last value of a field of the daemon's log, in milliseconds."""
    found = re.findall(rf"\b{name}=([\d.e-]+) seconds", text)
    return float(found[-1]) * 1000 if found else None


def measure_cold(name, rounds):
    """First restores after the daemon's start, with what they need in the page cache and not; in turn with reading the same from the disk."""
    from daemon import Daemon, deploy, invoke

    daemon = Daemon("--armed", "0", "--log-level", "debug").start()
    prefix = subprocess.run([package.interpreter("3.12"), "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True).stdout.strip()
    # Of a system's own Python only what is its own.
    libraries = [pathlib.Path(prefix) / "lib" / "python3.12"] + ([] if prefix == "/usr" else [pathlib.Path(prefix)])
    try:
        client = daemon.client()
        deploy(client, name, bench.archive(name).read_bytes(), MemorySize=1769 * 2, Timeout=120)
        invoke(client, name, {"x": 0}, Qualifier="1")
        time.sleep(1)
        [snapshot] = [path for path in (daemon.data / "snapshots").iterdir() if path.is_dir()]
        image = snapshot / "image"
        size = image.stat().st_size
        written, read = working_set(snapshot / "working-set")
        series = {}

        def note(key, value):
            series.setdefault(key, []).append(value)

        def first_restore(key, cold):
            daemon.stop()
            daemon.start()
            client = daemon.client()
            client.list_functions()  # the connection is there
            time.sleep(0.7)  # blank sandboxes too
            if cold:
                os.sync()
                drop(daemon.data, *libraries)
                note("image left in the cache, share", cached_pages(image) * 4096 / size)
            else:
                image.read_bytes()
            log, reads = (daemon.data / "daemon.log").stat().st_size, disk_reads(daemon.data)
            begin = time.perf_counter()
            _, response = invoke(client, name, {"x": 1}, Qualifier="1")
            note(key, (time.perf_counter() - begin) * 1000)
            note(f"{key}: MB read from the disk", disk_reads(daemon.data) - reads)
            assert bench.field(response["Log"], "Restore Duration") is not None, response["Log"]
            text = (daemon.data / "daemon.log").read_text()[log:]
            note(f"{key}: manifest and image read and verified", seconds(text, "verify"))
            note(f"{key}: template built", seconds(text, "build"))
            [snapshot] = daemon.status()["snapshots"]
            note(f"{key}: restored and replied", snapshot["lastRestore"]["reply"] / 1000)
            # Before the template the daemon looks for the runtime (Python is asked its version), and this client does its part.
            note(f"{key}: the rest", series[key][-1] - sum(
                series[f"{key}: {part}"][-1] for part in ["manifest and image read and verified", "template built", "restored and replied"]))

        for _ in range(rounds):
            first_restore("warm", cold=False)
            first_restore("cold", cold=True)
            drop(image)
            note("read image, O_DIRECT", read_direct(image, [(0, size // 4096 * 4096)]))
            note("read image, through the page cache", read_buffered(image))
            drop(image)
            note("read working set in one piece", read_direct(image, [(0, min(sum(written) + sum(read), size) // 4096 * 4096)]))
            note("read working set's pieces", read_direct(image, spread(written + read, size)))
        result = {
            "function": name, "rounds": rounds, "image": size / 1e6, "working set, written": sum(written) / 1e6, "working set, files": sum(read) / 1e6,
            "pieces": len(written) + len(read), "series": series, "median": {key: statistics.median(values) for key, values in series.items()}}
        result["ratios"] = {
            key: statistics.median(cold / yard for cold, yard in zip(series["cold"], series[key]))
            for key in ["read image, O_DIRECT", "read image, through the page cache", "read working set in one piece", "read working set's pieces", "warm"]}
    finally:
        if daemon.process.poll() is None:
            daemon.stop()
        daemon.remove()
    return result


def show_cold(results):
    rows = [["page cache cold, ms (medians)"] + [result["function"] for result in results]]
    rows.append(["image, MB"] + [f"{result['image']:.1f}" for result in results])
    rows.append(["working set, MB: written + of files (pieces)"] + [
        f"{result['working set, written']:.1f} + {result['working set, files']:.1f} ({result['pieces']})" for result in results])
    for key in results[0]["median"]:
        digits = 2 if "share" in key else 1
        rows.append([key] + [f"{result['median'][key]:.{digits}f}" for result in results])
    for key in results[0]["ratios"]:
        rows.append([f"cold / {key}"] + [f"{result['ratios'][key]:.1f}x" for result in results])
    print_table(rows)


# MARK: Taking a snapshot


def measure_snapshot(subject, rounds):
    """Snapshots of a warm process by the engine alone, in turn with writing as many bytes to the same disk. The first one after a start of the
    engine is told apart."""
    [figures] = bench.run_engine([subject | {"rounds": 0, "alive": 0, "snapshots": rounds + 1}]).values()
    first, series = figures["taken"][0], {key: figures[key][1:] for key in ["taken", "frozen", "written"]}
    medians = {key: statistics.median(values) for key, values in series.items()}
    return {
        "function": subject["name"], "image": figures["image"] / 1e6, "series": series, "median": medians, "first": first,
        "taken / written": statistics.median(taken / written for taken, written in zip(series["taken"], series["written"])),
        "frozen / written": statistics.median(frozen / written for frozen, written in zip(series["frozen"], series["written"]))}


def measure_snapshots(names, rounds, sizes):
    results, directory = [], bench.compile_scale()
    for subject in bench.engine_subjects(names) + [bench.scale_subject(directory, f"{size} MB", size) for size in sizes]:
        say(f"taking snapshots of {subject['name']}")
        results.append(measure_snapshot(subject, rounds))
    return results


def show_snapshots(results):
    rows = [["taking a snapshot, ms (medians)"] + [result["function"] for result in results]]
    rows.append(["image, MB"] + [f"{result['image']:.1f}" for result in results])
    rows.append(["from the order, when it is quiet, until durable"] + [f"{result['median']['taken']:.1f}" for result in results])
    rows.append(["  of which the process stands still"] + [f"{result['median']['frozen']:.1f}" for result in results])
    rows.append(["the first one after a start"] + [f"{result['first']:.1f}" for result in results])
    rows.append(["as many bytes written and synced"] + [f"{result['median']['written']:.1f}" for result in results])
    for key in ["taken / written", "frozen / written"]:
        rows.append([key] + [f"{result[key]:.2f}x" for result in results])
    print_table(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bin", required=True)
    parser.add_argument("--only", nargs="*", choices=["alive", "cold", "snapshot"], default=["alive", "cold", "snapshot"])
    parser.add_argument("--functions", nargs="*", default=bench.FUNCTIONS, help="of which restores and snapshots are measured")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--alive", type=int, default=1000, help="how many clones at once")
    parser.add_argument("--alive-function", default="langchain-agent")
    parser.add_argument("--batch", type=int, default=100, help="how many of them are ordered at once")
    parser.add_argument("--again", type=int, default=100, help="how many of them answer once more")
    parser.add_argument("--image-megabytes", nargs="*", type=int, default=[2000], help="snapshots of a process of these sizes, too")
    parser.add_argument("--json", default=str(ROOT / ".build" / "bench-limits.json"))
    arguments = parser.parse_args()
    os.environ["THAW_BIN"] = str(pathlib.Path(arguments.bin).resolve())
    results = {}

    def keep():
        pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))

    if "snapshot" in arguments.only:
        results["snapshot"] = measure_snapshots(arguments.functions, arguments.rounds, arguments.image_megabytes)
        keep()
        show_snapshots(results["snapshot"])
    if "cold" in arguments.only:
        results["cold"] = []
        for name in arguments.functions:
            say(f"restoring {name} with a cold page cache")
            results["cold"].append(measure_cold(name, arguments.rounds))
        keep()
        show_cold(results["cold"])
    if "alive" in arguments.only:
        say(f"making {arguments.alive} clones of {arguments.alive_function}")
        results["alive"] = measure_alive(arguments.alive_function, arguments.alive, arguments.batch, arguments.again)
        keep()
        show_alive(results["alive"])
    print(f"as JSON: {arguments.json}")


if __name__ == "__main__":
    main()
