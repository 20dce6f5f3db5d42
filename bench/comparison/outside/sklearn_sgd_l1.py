"""scikit-learn: ``SGDClassifier`` with an L1 penalty.

``partial_fit`` forgets the cumulative penalty between calls, so it is never used. Instead ``fit``
makes one pass, in order, over the events up to a point, and what it has learned predicts the events up
to the next point; fitting a longer beginning gives the model that a single run has there. The points
are a tenth further each time, so a prediction lacks at most the last eleventh of what came before.
"""

from __future__ import annotations

import importlib
import math
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from bench.comparison.method import PER_EVENT, Method
from bench.comparison.outside.base import Rows, Run, Runner, Settings, log_odds

METHOD = Method("sklearn_sgd_l1", "scikit-learn SGDClassifier", "eta0", "alpha", PER_EVENT, power="power_t")
NEEDS, PACKAGE = "sklearn", "scikit-learn"
MOST_ROWS = 100_000
NOTE = (
    "the same slots; one fit over all events before each of a growing series of points (never partial_fit, "
    "which forgets the penalty), so a prediction lacks at most the last eleventh of the events before it"
)
_FIRST, _FURTHER = 50, 1.1


def open_rows(rows: Rows, directory: Path) -> Runner:
    """Keeps a matrix with the 32-bit indices it asks for."""
    values = np.ones(len(rows.slots)) if rows.values is None else rows.values
    before = _base_rate(rows)
    slots, indptr = rows.slots.astype(np.int32), rows.indptr.astype(np.int32)

    def part(start: int, stop: int) -> csr_matrix:
        lo, hi = indptr[start], indptr[stop]
        pointers = indptr[start : stop + 1] - lo
        return csr_matrix((values[lo:hi], slots[lo:hi], pointers), (stop - start, rows.n_slots))

    def run(settings: Settings) -> Run:
        margins = before.copy()
        curve: list[tuple[int, int]] = []
        for start, stop in pairwise([*_points(len(rows)), len(rows)]):
            model = _fitted(part(0, start), rows, start, settings)
            if model is not None:
                margins[start:stop] = model.decision_function(part(start, stop))
                curve.append((start, int(np.count_nonzero(model.coef_))))
        model = _fitted(part(0, len(rows)), rows, len(rows), settings)
        nonzeros = 0 if model is None else int(np.count_nonzero(model.coef_))
        return Run(margins, nonzeros, (*curve, (len(rows), nonzeros)))

    return run


def _base_rate(rows: Rows) -> NDArray[np.float64]:
    """Log-odds of the labels so far: what is predicted until both labels were seen."""
    positives = np.concatenate([[0.0], np.cumsum(rows.labels)[:-1]])
    return log_odds((positives + 0.5) / (np.arange(len(rows)) + 1.0))


def _points(rows: int) -> list[int]:
    points = [min(_FIRST, rows)]
    while points[-1] < rows:
        points.append(min(rows, math.ceil(points[-1] * _FURTHER)))
    return points[:-1]


def _fitted(matrix: csr_matrix, rows: Rows, count: int, settings: Settings) -> Any:
    """The model after one pass over the first ``count`` rows; None while there is one label only."""
    labels = rows.labels[:count]
    if not 0.0 < labels.mean() < 1.0:
        return None
    linear = importlib.import_module("sklearn.linear_model")
    model = linear.SGDClassifier(
        loss="log_loss", penalty="l1", learning_rate="invscaling", max_iter=1, tol=None, shuffle=False,
        **settings,
    )  # fmt: skip
    importance = None if rows.importance is None else rows.importance[:count]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return model.fit(matrix, labels, sample_weight=importance)
