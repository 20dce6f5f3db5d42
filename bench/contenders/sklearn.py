"""scikit-learn: FeatureHasher and SGDClassifier with an L1 penalty, in parts that fit in memory."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np

from bench.contenders.base import CRITEO_FIELDS, Job, Measures, call_times, criteo_events
from bench.hashed_rows import FEATURES, HashedRows

NEEDS = "sklearn"
# It takes its time; a rate does not need all rows.
MOST_ROWS = 300_000
_PART = 16_384


def learn_file(job: Job) -> Measures:
    """From a tab separated file to a model in memory (counts are values of their own)."""
    started = time.perf_counter()
    model, hasher = _model(), _hasher(job)
    rows = 0
    with open(job["criteo"], encoding="ascii") as lines:
        while rows < MOST_ROWS and (part := list(islice(lines, _PART))):
            values = [line.rstrip("\n").split("\t") for line in part]
            features = hasher.transform(map(_tokens, values))
            model.partial_fit(features, [int(row[0]) for row in values], classes=[0, 1])
            rows += len(part)
    return {"rows": rows, "seconds": time.perf_counter() - started}


def learn_rows(job: Job) -> Measures:
    """One pass over hashed rows."""
    rows = HashedRows.load(job["hashed"], job["bits"])
    matrix = _matrix(rows)
    model = _model()
    model.partial_fit(matrix[:1000], rows.labels[:1000], classes=[0, 1])
    model = _model()
    started = time.perf_counter()
    model.partial_fit(matrix, rows.labels, classes=[0, 1])
    return {"rows_per_second": len(rows) / (time.perf_counter() - started)}


def score_rows(job: Job) -> Measures:
    """Probabilities of hashed rows."""
    rows = HashedRows.load(job["hashed"], job["bits"])
    matrix = _matrix(rows)
    model = _model()
    model.partial_fit(matrix, rows.labels, classes=[0, 1])
    started = time.perf_counter()
    model.predict_proba(matrix)
    return {"rows_per_second": len(rows) / (time.perf_counter() - started)}


def score_one(job: Job) -> Measures:
    """One event: from a mapping of fields, and from a row that is hashed already."""
    hasher, model = _hasher(job), _model()
    events = [_event(event) for event in criteo_events(job)]
    labels = np.arange(len(events)) % 2
    matrix = hasher.transform(events)
    model.partial_fit(matrix, labels, classes=[0, 1])
    rows = [matrix[i] for i in range(len(events))]
    return call_times("event", lambda i: model.predict_proba(hasher.transform([events[i]])), len(events)) | (
        call_times("row", lambda i: model.predict_proba(rows[i]), len(rows))
    )


def _matrix(rows: HashedRows) -> Any:
    """CSR with the 32-bit indices that scikit-learn asks for."""
    from scipy.sparse import csr_array

    indptr = np.arange(len(rows) + 1, dtype=np.int32) * np.int32(FEATURES)
    slots = rows.slots.ravel().astype(np.int32)
    return csr_array((np.ones(len(slots)), slots, indptr), (len(rows), 1 << rows.bits))


def _model() -> Any:
    linear = importlib.import_module("sklearn.linear_model")
    return linear.SGDClassifier(loss="log_loss", penalty="l1", alpha=1e-6, random_state=0)


def _hasher(job: Job) -> Any:
    extraction = importlib.import_module("sklearn.feature_extraction")
    return extraction.FeatureHasher(1 << job["bits"], input_type="string", alternate_sign=False)


def _tokens(values: list[str]) -> Iterator[str]:
    return (f"{name}={value}" for name, value in zip(CRITEO_FIELDS[1:], values[1:], strict=True) if value)


def _event(event: dict[str, str | int]) -> list[str]:
    return [f"{name}={value}" for name, value in event.items() if name != "label"]
