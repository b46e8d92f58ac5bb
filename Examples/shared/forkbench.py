"""fork() of the warm process, measured from inside: the yardstick for restores."""

import json
import os
import time


def fork_times(work, count):
    """Microseconds from before fork() to the first byte of the child's reply, for `count` children that each do `work`."""
    times = []
    for _ in range(count):
        reading, writing = os.pipe()
        begin = time.perf_counter_ns()
        child = os.fork()
        if child == 0:
            # Whatever happens, the child ends here: it must not go on as a second copy of the runtime.
            try:
                os.write(writing, json.dumps(work({"x": 1})).encode())
                os._exit(0)
            finally:
                os._exit(1)
        os.close(writing)
        first = os.read(reading, 1)
        times.append((time.perf_counter_ns() - begin) / 1000)
        os.close(reading)
        status = os.waitpid(child, 0)[1]
        if not first or status != 0:
            raise RuntimeError(f"the forked child failed with status {status}")
    return times
