"""`make bench`: cold start, restore and fork() of the same warm process, side by side in one run.

Every round takes one of each in turn, so that all see the same machine. Times are from the order to the reply: of a cold start and of a
restore, as the daemon reports them (`Init Duration` + `Duration`; the order to the reply of the first event), and as the client sees them; of fork(), from before the
call to the first byte of the child's reply, measured in the parent. One table, and JSON beside it.
"""

import argparse
import concurrent.futures
import json
import os
import pathlib
import re
import statistics
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "Acceptance"), str(ROOT / "Examples")]
import package  # noqa: E402

FUNCTIONS = ["bare", "pandas-report", "sklearn-model", "langchain-agent"]


def aligned(rows):
    """Rows of texts as one text, column below column."""
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join("  ".join(text.ljust(width) for text, width in zip(row, widths)).rstrip() for row in rows)


def archive(name):
    """The archive of an example, for CPython 3.12."""
    return package.package(name, package.interpreter("3.12"), ROOT / ".build" / f"bench-{name}.zip")


def quantile(values, share):
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))]


def field(log, name):
    found = re.search(rf"{name}: ([\d.]+) ms", log)
    return float(found.group(1)) if found else None


def pss(process):
    total = private = 0
    for line in pathlib.Path(f"/proc/{process}/smaps_rollup").read_text().splitlines():
        if line.startswith("Pss:"):
            total = int(line.split()[1])
        if line.startswith("Private_Dirty:"):
            private = int(line.split()[1])
    return total / 1024, private / 1024


def faults(process):
    return int(pathlib.Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[7])


def measure_burst(daemon, name, burst):
    """Many at once, all first invocations: the daemon starts anew, so that nothing waits; one invocation builds the template."""
    from daemon import invoke

    daemon.stop()
    daemon.start()
    client = daemon.client()
    invoke(client, name, {"x": 0}, Qualifier="1")
    time.sleep(2)
    known = set(daemon.restored_processes())
    with concurrent.futures.ThreadPoolExecutor(burst) as pool:
        begin, used = time.perf_counter(), time.process_time()
        replies = list(pool.map(lambda x: invoke(client, name, {"x": x}, Qualifier="1"), range(burst)))
        elapsed, used = (time.perf_counter() - begin) * 1000, (time.process_time() - used) * 1000
    restored = sum(field(response["Log"], "Restore Duration") is not None for _, response in replies)
    alive = [pid for pid in daemon.restored_processes() if pid not in known]
    shared, private = (statistics.mean(values) for values in zip(*map(pss, alive)))
    return {
        # Those that found an environment that was done already are not counted, their time is.
        "n": burst, "restored": restored, "elapsed": elapsed, "each": elapsed / restored,
        # The client shares the machine: what it computed itself, spread over the processors.
        "client": used / burst / os.cpu_count(),
        "alive": len(alive), "pss": shared, "private": private, "pss / private": shared / private,
        "faults": statistics.median(faults(pid) for pid in alive)}


def measure(name, rounds, burst, warm):
    from daemon import Daemon, deploy, invoke

    result = {"function": name}
    zip_file = archive(name)
    fresh = Daemon("--max-idle", "0", "--pool", "4").start()
    keeping = Daemon("--pool", str(burst + 4), "--idle-seconds", "3600", runtimes=None).start()
    try:
        clients = {}
        for daemon in [fresh, keeping]:
            clients[daemon] = daemon.client()
            deploy(clients[daemon], name, zip_file.read_bytes(), MemorySize=1769 * 2, Timeout=120)
        client = clients[fresh]
        invoke(client, name, {"x": 0}, Qualifier="1")
        invoke(clients[keeping], name, {"x": 0}, Qualifier="1")
        series = {key: [] for key in ["cold client", "cold", "restore client", "restore", "fork"]}
        split = {}
        for number in range(rounds):
            if number % 5 == 0:  # cold starts are slow: one in five rounds
                time.sleep(0.2)
                begin = time.perf_counter()
                log = invoke(client, name, {"x": 1}, Qualifier="$LATEST")[1]["Log"]
                series["cold client"].append((time.perf_counter() - begin) * 1000)
                series["cold"].append(field(log, "Init Duration") + field(log, "\tDuration"))
            # The environment before is gone, and a blank sandbox waits again: a start is measured, not the end of the last one.
            time.sleep(0.2)
            begin = time.perf_counter()
            invoke(client, name, {"x": 1}, Qualifier="1")
            series["restore client"].append((time.perf_counter() - begin) * 1000)
            [snapshot] = fresh.status()["snapshots"]
            last = snapshot["lastRestore"]
            series["restore"].append(last["reply"] / 1000)
            for key in ["firstNext", "reply"]:
                split.setdefault(key, []).append(last[key] / 1000)
            time.sleep(0.1)
            forks = invoke(clients[keeping], name, {"op": "fork", "n": 3}, Qualifier="1")[0]["fork_us"]
            series["fork"].append(statistics.median(forks) / 1000)
        for key, values in series.items():
            result[key] = {"median": statistics.median(values), "p99": quantile(values, 0.99), "n": len(values)}
        result["split"] = {key: statistics.median(values) for key, values in split.items()}
        result["snapshot MB"] = snapshot["bytes"] / 1e6
        result["threads"] = snapshot["threads"]

        begin = time.perf_counter()
        times = []
        for number in range(warm):
            begin = time.perf_counter()
            log = invoke(clients[keeping], name, {"x": 1}, Qualifier="1")[1]["Log"]
            times.append((time.perf_counter() - begin) * 1000)
        result["warm client"] = {"median": statistics.median(times), "p99": quantile(times, 0.99), "n": warm}

        bursts = [measure_burst(keeping, name, burst) for _ in range(5)]
        result["burst"] = {key: statistics.median(one[key] for one in bursts) for key in bursts[0]} | {
            "runs": [one["each"] for one in bursts]}
    finally:
        for daemon in [fresh, keeping]:
            if daemon.process.poll() is None:
                daemon.stop()
            daemon.remove()
    return result


def run_engine(subjects):
    """The engine alone: warm processes are frozen and restored; fork() of the same process, or cold starts, in turn."""
    import subprocess

    binaries = pathlib.Path(os.environ["THAW_BIN"])
    if (ROOT / ".build").resolve() in binaries.resolve().parents:  # others are taken as they are
        subprocess.run(["swift", "build", "-c", "release", "--product", "engine-measurement"], cwd=ROOT, check=True, stdout=sys.stderr)
    output = subprocess.run([binaries / "engine-measurement"], cwd=ROOT, input=json.dumps(subjects), text=True, capture_output=True)
    if output.returncode != 0:
        raise SystemExit(f"the engine's benchmark failed:\n{output.stdout[-3000:]}{output.stderr[-2000:]}")
    return {figures["name"]: figures for figures in map(json.loads, output.stdout.splitlines())}


def engine_subjects(names):
    """The example functions, as the engine's measurement takes them."""
    import shutil
    import subprocess
    import zipfile

    python = package.interpreter("3.12")
    prefix = subprocess.run([python, "-c", "import sys; print(sys.base_prefix)"], capture_output=True, text=True).stdout.strip()
    subjects = []
    for name in names:
        code = ROOT / ".build" / f"bench-{name}"
        shutil.rmtree(code, ignore_errors=True)
        with zipfile.ZipFile(archive(name)) as packed:
            packed.extractall(code)
        mounts = [[str(code), "/var/task"], [str(ROOT / "Benchmarks"), "/opt"]]
        if not prefix.startswith("/usr"):
            mounts.append([prefix, prefix])
        subjects.append({"name": name, "arguments": [python, "/opt/engine_server.py", "app"], "mounts": mounts})
    return subjects


def measure_engine(names, rounds):
    """The example functions in the engine."""
    return run_engine([subject | {"rounds": rounds, "alive": 0} for subject in engine_subjects(names)])


# What grows, while the rest stays as it is: megabytes, threads, pairs of mappings, clones alive.
SCALES = {
    "image MB": [(size, 1, 50, 0) for size in (10, 100, 500, 2000)],
    "threads": [(10, threads, 50, 0) for threads in (1, 20, 100, 500)],
    "mappings": [(10, 1, mappings // 2, 0) for mappings in (50, 500, 5000)],
    "clones alive": [(10, 1, 50, alive) for alive in (1, 100, 300, 1000)],
}


def compile_scale():
    """Compiles the process of a given size; answers where it is."""
    import subprocess

    directory = ROOT / ".build" / "bench-scale"
    directory.mkdir(parents=True, exist_ok=True)
    subprocess.run(["cc", "-O2", "-pthread", "-o", directory / "scale", ROOT / "Benchmarks" / "scale.c"], check=True)
    return directory


def scale_subject(directory, name, megabytes, threads=1, mappings=50):
    """A process of a given size, as the engine's measurement takes it."""
    arguments = ["/var/task/scale", *map(str, [megabytes, threads, mappings])]
    return {"name": name, "arguments": arguments, "mounts": [[str(directory), "/var/task"]]}


def measure_scales(rounds):
    """How the cost of a start grows with image size, threads, mappings and clones alive; the same megabyte is written in all."""
    directory = compile_scale()
    subjects, places = [], []
    for axis, sizes in SCALES.items():
        for size in sizes:
            name = f"{axis}: {size}"
            value = size[{"image MB": 0, "threads": 1, "mappings": 2, "clones alive": 3}[axis]]
            places.append((axis, value * 2 if axis == "mappings" else value, name))
            subjects.append(scale_subject(directory, name, *size[:3]) | {"rounds": rounds, "alive": size[3]})
    figures = run_engine(subjects)
    return [{"axis": axis, "value": value, **figures[name]} for axis, value, name in places]


def scale_table(results):
    rows = [["", "", "restore ms", "armed ms", "fork() ms", "restore / fork", "cloned ms", "snapshot frozen ms", "template ms"]]
    for figures in results:
        restore, armed, fork = (statistics.median(figures[key]) / 1000 for key in ["restore", "armed", "fork"])
        rows.append([
            figures["axis"], str(figures["value"]), f"{restore:.2f}", f"{armed:.2f}", f"{fork:.2f}", f"{restore / fork:.2f}",
            f"{figures['steps']['cloned'] / 1000:.2f}", f"{statistics.median(figures['frozen']):.0f}", f"{figures['template']:.0f}"])
    return aligned(rows)


def table(results):
    def cell(value):
        return f"{value:.2f}" if value < 100 else f"{value:.0f}"

    rows = [["ms"] + [result["function"] for result in results]]
    for key in ["restore", "second", "armed", "fork"]:
        rows.append(
            [f"engine alone: {'second of two restores at once' if key == 'second' else key}, median (p99)"]
            + [f"{cell(r['engine'][key]['median'])} ({cell(r['engine'][key]['p99'])})" for r in results])
    for key in ["restore", "armed"]:
        rows.append(
            [f"engine alone: {key} / fork"]
            + [f"{r['engine'][key]['median'] / r['engine']['fork']['median']:.2f}x" for r in results])
    rows.append(["  had ahead of need, MB"] + [cell(r["engine"]["working set"]) for r in results])
    for key in ["cold", "restore", "fork"]:
        rows.append([f"{key}, median (p99)"] + [f"{cell(r[key]['median'])} ({cell(r[key]['p99'])})" for r in results])
    rows.append(["cold / restore"] + [f"{r['cold']['median'] / r['restore']['median']:.0f}x" for r in results])
    rows.append(["restore / fork"] + [f"{r['restore']['median'] / r['fork']['median']:.2f}x" for r in results])
    for key in ["cold client", "restore client", "warm client"]:
        rows.append([f"{key}, median (p99)"] + [f"{cell(r[key]['median'])} ({cell(r[key]['p99'])})" for r in results])
    rows.append(["cold / restore, client"] + [f"{r['cold client']['median'] / r['restore client']['median']:.0f}x" for r in results])
    for key in ["firstNext", "reply"]:  # the steps before were taken when the environment was armed
        rows.append([f"  order to {key}"] + [cell(r["split"][key]) for r in results])
    rows.append(["snapshot MB"] + [cell(r["snapshot MB"]) for r in results])
    rows.append(["threads"] + [str(r["threads"]) for r in results])
    rows.append([f"{results[0]['burst']['n']} at once: ms each"] + [cell(r["burst"]["each"]) for r in results])
    rows.append(["  of which the client's own work"] + [cell(r["burst"]["client"]) for r in results])
    # The less of them there are at the same time, the more of what all share falls to each.
    rows.append(["  of which alive afterwards"] + [f"{r['burst']['alive']:.0f}" for r in results])
    rows.append(["  PSS each, MB"] + [cell(r["burst"]["pss"]) for r in results])
    rows.append(["  written each, MB"] + [cell(r["burst"]["private"]) for r in results])
    # A clone that does nothing new shall cost hardly more than what it wrote: under 1.5 times that.
    rows.append(["  PSS / written"] + [f"{r['burst']['pss / private']:.2f}x" for r in results])
    rows.append(["  page faults each"] + [f"{r['burst']['faults']:.0f}" for r in results])
    return aligned(rows)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin", required=True)
    parser.add_argument("--rounds", type=int, default=100)
    parser.add_argument("--burst", type=int, default=50)
    parser.add_argument("--warm", type=int, default=200)
    parser.add_argument("--functions", nargs="*", default=FUNCTIONS)
    parser.add_argument("--scale", action="store_true", help="only how the engine's cost grows with size")
    parser.add_argument("--json", default=str(ROOT / ".build" / "bench.json"))
    arguments = parser.parse_args()
    os.environ["THAW_BIN"] = str(pathlib.Path(arguments.bin).resolve())
    results = []
    if arguments.scale:
        scales = measure_scales(arguments.rounds)
        pathlib.Path(arguments.json).with_name("bench-scale.json").write_text(json.dumps(scales, indent=1))
        print(scale_table(scales))
        return
    print("measuring the engine alone", file=sys.stderr, flush=True)
    engine = measure_engine(arguments.functions, arguments.rounds)
    for name in arguments.functions:
        print(f"measuring {name}", file=sys.stderr, flush=True)
        results.append(measure(name, arguments.rounds, arguments.burst, arguments.warm))
        figures = engine[name]
        results[-1]["engine"] = {
            key: {"median": statistics.median(figures[key]) / 1000, "p99": quantile(figures[key], 0.99) / 1000, "n": len(figures[key])}
            for key in ["restore", "second", "armed", "fork"]}
        results[-1]["engine"]["working set"] = figures["workingSet"] / 1e6
        results[-1]["engine"]["steps"] = {key: value / 1000 for key, value in figures["steps"].items()}
    pathlib.Path(arguments.json).write_text(json.dumps(results, indent=1))
    print(table(results))
    print(f"\nas JSON: {arguments.json}")


if __name__ == "__main__":
    main()
