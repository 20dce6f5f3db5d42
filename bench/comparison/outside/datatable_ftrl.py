"""datatable: its ``Ftrl`` model on one thread, in float32 as it comes.

It wants one value a column and hashes it as ``value + hash of the column's name``, modulo the table.
Subtracting the name's hash beforehand makes every feature fall into its own slot. It has no intercept,
so it gets a feature that is always on.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.comparison.method import TOTAL, Method
from bench.comparison.outside.base import Rows, Run, Runner, Settings, Skipped, log_odds

METHOD = Method("datatable_ftrl", "datatable Ftrl", "alpha", "lambda1", TOTAL, {"beta": 1.0, "lambda2": 1.0})
NEEDS, PACKAGE = "datatable", "datatable"
MOST_ROWS = 200_000
NOTE = (
    "the same slots; one thread, because more give another result each time; predicts in parts of 20 events"
)
_PART = 20
_MOST_PADDING = 0.01
_MOST_REPEATS = 4


def open_rows(rows: Rows, directory: Path) -> Runner:
    """Keeps a frame of one column a feature of the longest row, and one that is always on."""
    slots = _table(rows)
    datatable = importlib.import_module("datatable")
    models = importlib.import_module("datatable.models")
    datatable.options.nthreads = 1
    n_bins = rows.n_slots + slots.shape[1]
    names = [f"c{k}" for k in range(slots.shape[1])]
    hashes = _hashes(datatable, models, names)
    cells = (slots.astype(np.uint64) - hashes).astype(np.int64)
    features = datatable.Frame(cells, names=names)
    labels = datatable.Frame(rows.labels == 1.0)

    def run(settings: Settings) -> Run:
        model = models.Ftrl(nbins=n_bins, nepochs=1, model_type="binomial", **settings)
        probabilities = np.full(len(rows), 0.5)
        for start in range(0, len(rows), _PART):
            stop = min(start + _PART, len(rows))
            if start:
                predicted = model.predict(features[start:stop, :])
                probabilities[start:stop] = _of_true(predicted)
            model.fit(features[start:stop, :], labels[start:stop, :])
        z = model.model.to_numpy()[: rows.n_slots, 0]
        return Run(log_odds(probabilities), int((np.abs(z) > float(settings["lambda1"])).sum()))

    return run


def _table(rows: Rows) -> NDArray[np.int64]:
    """int64[rows, features + 1] of slots; what a shorter row lacks is a slot of the column's own."""
    if rows.importance is not None:
        raise Skipped("it takes no importance, and these events have some")
    indptr, slots = _repeated(rows)
    lengths = np.diff(indptr)
    widest = int(lengths.max())
    lacking = 1.0 - lengths.mean() / widest if widest else 1.0
    if lacking > _MOST_PADDING:
        raise Skipped("it takes one value a column, and these events have differing numbers of features")
    table = np.empty((len(rows), widest + 1), dtype=np.int64)
    for k in range(widest):
        there = lengths > k
        table[:, k] = rows.n_slots + k
        table[there, k] = slots[(indptr[:-1] + k)[there]]
    table[:, widest] = rows.n_slots + widest
    return table


def _repeated(rows: Rows) -> tuple[NDArray[np.int64], NDArray[np.uint32]]:
    """indptr and slots where a value of 2, as two features in one slot have, is the feature twice."""
    if rows.values is None:
        return rows.indptr, rows.slots
    times = rows.values.astype(np.int64)
    if bool((times != rows.values).any()) or not 1 <= int(times.min()) <= int(times.max()) <= _MOST_REPEATS:
        raise Skipped("it takes no feature values, and these events have some")
    ends = np.concatenate([[0], np.cumsum(times)])
    return ends[rows.indptr], np.repeat(rows.slots, times)


def _hashes(datatable: Any, models: Any, names: list[str]) -> NDArray[np.uint64]:
    """What is added to the values of each column."""
    model = models.Ftrl(nbins=2, nepochs=1, model_type="binomial")
    zeros = datatable.Frame(np.zeros((2, len(names)), dtype=np.int64), names=names)
    model.fit(zeros, datatable.Frame(np.array([True, False])))
    return np.array(model.colname_hashes, dtype=np.uint64)


def _of_true(predicted: Any) -> NDArray[np.float64]:
    """The probabilities of the label being 1."""
    column: NDArray[np.float64] = predicted[:, "True"].to_numpy().ravel().astype(np.float64)
    return column
