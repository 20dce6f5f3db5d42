"""River: LogisticRegression with its FTRLProximal optimizer, one dict at a time."""

from __future__ import annotations

import importlib
import time
from itertools import islice
from typing import Any

from bench.contenders.base import ALPHA, BETA, CRITEO_FIELDS, L1, L2, Job, Measures, call_times, criteo_events

NEEDS = "river"
# It takes its time; a rate does not need all rows.
MOST_ROWS = 50_000


def learn_file(job: Job) -> Measures:
    """From a tab separated file to a model in memory (counts are values of their own)."""
    started = time.perf_counter()
    model = _model()
    rows = 0
    with open(job["criteo"], encoding="ascii") as lines:
        for line in islice(lines, MOST_ROWS):
            values = line.rstrip("\n").split("\t")
            named = zip(CRITEO_FIELDS[1:], values[1:], strict=True)
            features = {f"{name}={value}": 1.0 for name, value in named if value}
            model.predict_proba_one(features)
            model.learn_one(features, values[0] == "1")
            rows += 1
    return {"rows": rows, "seconds": time.perf_counter() - started}


def learn_one(job: Job) -> Measures:
    """One dict of features that are one-hot already."""
    model, events, labels = _model(), *_events(job)
    return call_times("event", lambda i: model.learn_one(events[i], labels[i]), len(events))


def score_one(job: Job) -> Measures:
    """One dict of features that are one-hot already."""
    model, events, labels = _model(), *_events(job)
    for event, label in zip(events, labels, strict=True):
        model.learn_one(event, label)
    return call_times("event", lambda i: model.predict_proba_one(events[i]), len(events))


def _model() -> Any:
    linear = importlib.import_module("river.linear_model")
    optim = importlib.import_module("river.optim")
    return linear.LogisticRegression(optimizer=optim.FTRLProximal(alpha=ALPHA, beta=BETA, l1=L1, l2=L2))


def _events(job: Job) -> tuple[list[dict[str, float]], list[bool]]:
    events = criteo_events(job)
    features = [{f"{k}={v}": 1.0 for k, v in event.items() if k != "label"} for event in events]
    return features, [event["label"] == 1 for event in events]
