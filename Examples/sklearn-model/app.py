"""A model by scikit-learn, trained while the function is initialised: a random forest that tells iris flowers apart by four lengths in centimetres."""

import os

from sklearn.datasets import load_iris
from sklearn.ensemble import RandomForestClassifier

from forkbench import fork_times

IRIS = load_iris()
MODEL = RandomForestClassifier(n_estimators=20, random_state=1).fit(IRIS.data, IRIS.target)
ACCURACY = MODEL.score(IRIS.data, IRIS.target)


def work(event):
    flower = event.get("flower", [6.1, 2.8, 4.7, 1.2])
    [shares] = MODEL.predict_proba([flower])
    return {
        "species": str(IRIS.target_names[shares.argmax()]),
        "share": float(shares.max()),
        "accuracy": round(float(ACCURACY), 2),
        "x": event.get("x"),
        "pid": os.getpid(),
    }


def handler(event, context):
    if event.get("op") == "fork":
        return {"fork_us": fork_times(work, event.get("n", 30))}
    return work(event)


# Warmed while the version is initialised: the snapshot holds what the first call would have to build.
work({})
