"""The baseline: FTRL-Proximal as one writes it first, two plain loops over the features of a row.

The first loop reads each cell, computes its weight and adds it to the margin; the second one
updates the cells. The formula, the intercept and the order of the rows are those of
``ftrl_proximal``; only the shape of the loop differs, so this shows what the shape brings.
"""

from __future__ import annotations

import math
import time

import numpy as np
from numpy.typing import NDArray

from bench.contenders.base import ALPHA, BETA, L1, L2, Job, Measures
from bench.hashed_rows import HashedRows
from ftrl_engine.jit import kernel
from ftrl_engine.learners.ftrl_proximal import next_z, weight
from ftrl_engine.learners.intercept import (
    BASE_RATE,
    CELLS,
    RATE,
    TERM,
    begin_intercept,
    end_intercept,
    update_intercept,
)
from ftrl_engine.losses import sigmoid


def learn_rows(job: Job) -> Measures:
    """Learn all rows once."""
    rows = HashedRows.load(job["hashed"], job["bits"])
    learn(rows.head(1000))
    margins, seconds = learn(rows)
    return {"rows_per_second": len(rows) / seconds, "log_loss": rows.log_loss(margins)}


def learn(rows: HashedRows) -> tuple[NDArray[np.float64], float]:
    """(margins, seconds) of one pass from zeros."""
    state = np.empty((1 << rows.bits, 2))
    state.fill(0.0)  # touches every page before the clock starts
    scalars, margins, weights = np.zeros(CELLS), np.empty(len(rows)), np.empty(rows.slots.shape[1])
    rate = float(RATE.default)
    once = np.ones(len(rows))
    started = time.perf_counter()
    learn_plainly(rows.slots, rows.labels, state, scalars, ALPHA, BETA, L1, L2, rate, weights, once, margins)
    return margins, time.perf_counter() - started


@kernel
def learn_plainly(
    slots: NDArray[np.uint32], labels: NDArray[np.float64], state: NDArray[np.float64],
    scalars: NDArray[np.float64], alpha: float, beta: float, l1: float, l2: float, rate: float,
    weights: NDArray[np.float64], importance: NDArray[np.float64], margins: NDArray[np.float64],
) -> None:  # fmt: skip
    """Rows of values 1: slots uint32[rows, features], state float64[n_slots, 2] of (z, n)."""
    inverse_alpha = 1.0 / alpha
    begin_intercept(scalars, BASE_RATE, labels, importance, margins)
    for r in range(len(labels)):
        margin = scalars[TERM] + margins[r]
        for k in range(slots.shape[1]):
            slot = slots[r, k]
            root = math.sqrt(state[slot, 1])
            weights[k] = weight(state[slot, 0], root, inverse_alpha, beta, l1, l2)
            margin += weights[k]
        margins[r] = margin
        g = sigmoid(margin) - labels[r]
        for k in range(slots.shape[1]):
            slot = slots[r, k]
            n = state[slot, 1]
            next_root = math.sqrt(n + g * g)
            state[slot, 0] = next_z(state[slot, 0], g, math.sqrt(n), next_root, inverse_alpha, weights[k])
            state[slot, 1] = n + g * g
        update_intercept(scalars, BASE_RATE, g, rate, alpha, beta)
    end_intercept(scalars, BASE_RATE)
