"""A report with pandas: groups 200 rows; on request, a product of two matrices by all of numpy's BLAS threads."""

import os

import numpy as np
import pandas as pd

from forkbench import fork_times

MATRIX = np.ones((256, 256))


def work(event):
    frame = pd.DataFrame({"k": [i % 7 for i in range(200)], "v": np.arange(200) * 1.5})
    groups = frame.groupby("k")["v"].agg(["sum", "mean"])
    return {
        "sum": float(groups["sum"].sum()),
        "mean": float(groups["mean"].iloc[3]),
        "x": event.get("x"),
        "pid": os.getpid(),
    }


def handler(event, context):
    if event.get("op") == "product":
        return {"product": float((MATRIX @ MATRIX).sum()), "x": event.get("x"), "pid": os.getpid()}
    if event.get("op") == "fork":
        return {"fork_us": fork_times(work, event.get("n", 30))}
    return work(event)


# Warmed while the version is initialised: the snapshot holds what the first call would have to build.
work({})
MATRIX @ MATRIX
