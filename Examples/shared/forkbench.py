"""fork() of the warm process, measured from inside: the yardstick for restores."""

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
            work({"x": 1})
            os.write(writing, b"{")
            os._exit(0)
        os.read(reading, 1)
        times.append((time.perf_counter_ns() - begin) / 1000)
        os.waitpid(child, 0)
        os.close(reading)
        os.close(writing)
    return times
