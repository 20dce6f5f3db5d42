"""River: ``LogisticRegression`` with its ``FTRLProximal`` optimizer, one dict at a time.

It is not Algorithm 1: it computes its weights after the prediction, so predictions lag one step,
and a weight that should return to zero keeps its last value.
"""

from __future__ import annotations

import importlib
from itertools import pairwise
from pathlib import Path

import numpy as np

from bench.comparison.method import TOTAL, Method
from bench.comparison.outside.base import Rows, Run, Runner, Settings, log_odds

METHOD = Method("river_ftrl", "River FTRLProximal", "alpha", "l1", TOTAL, {"beta": 1.0, "l2": 1.0})
NEEDS, PACKAGE = "river", "river"
MOST_ROWS = 10_000
NOTE = "the same slots, one dict an event; it leaves weights standing that Algorithm 1 sets to zero"


def open_rows(rows: Rows, directory: Path) -> Runner:
    """Makes the dicts once."""
    bounds, labels = rows.indptr.tolist(), (rows.labels == 1.0).tolist()
    values = np.ones(len(rows.slots)) if rows.values is None else rows.values
    importance = [1.0] * len(rows) if rows.importance is None else rows.importance.tolist()
    features = [
        dict(zip(rows.slots[lo:hi].tolist(), values[lo:hi].tolist(), strict=True))
        for lo, hi in pairwise(bounds)
    ]
    linear = importlib.import_module("river.linear_model")
    optim = importlib.import_module("river.optim")

    def run(settings: Settings) -> Run:
        model = linear.LogisticRegression(optimizer=optim.FTRLProximal(**settings))
        probabilities = np.empty(len(rows))
        for i, (row, label) in enumerate(zip(features, labels, strict=True)):
            probabilities[i] = model.predict_proba_one(row)[True]
            model.learn_one(row, label, w=importance[i])
        return Run(log_odds(probabilities), sum(weight != 0.0 for weight in model.weights.values()))

    return run
