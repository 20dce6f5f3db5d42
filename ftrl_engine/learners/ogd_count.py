"""OGD-Count (McMahan et al. 2013, section 4): gradient descent on slots that were seen often enough.

A weight is fixed at 0 until its slot was seen more than ``count`` times; from then on it follows
plain online gradient descent without L1, here with the per-coordinate rate of the paper's equation 2:

    w <- w - eta g,    eta = alpha / (beta + sqrt n),    n = sum g^2 of the steps taken, this one included

Sparsity comes from rare features alone: no weight ever returns to 0. With count = 0 it is AdaGrad.
An event whose gradient is 0, as that of importance 0, is not seen.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.intrinsics import prefetch
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.learners.base import Parameter
from ftrl_engine.learners.intercept import (
    INTERCEPT,
    MARGIN,
    TERM,
    LearnerWithIntercept,
    begin_intercept,
    end_intercept,
    update_intercept,
)
from ftrl_engine.learners.rows import AHEAD, total
from ftrl_engine.learners.steps import adaptive_rate
from ftrl_engine.losses import sigmoid


class OgdCount(LearnerWithIntercept):
    """State (w, n) for each slot; while the weight is fixed, n is minus the times it was seen."""

    name: ClassVar[str] = "ogd_count"
    width: ClassVar[int] = 2
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.1, "> 0", "rate: eta = alpha / (beta + sqrt(n))"),
        Parameter("beta", 1.0, ">= 0", "damps the first steps"),
        Parameter("count", 3.0, ">= 0 and whole", "k: events with a slot before it is learned"),
        *INTERCEPT,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, 0, parameters)
        self._alpha = float(self.settings["alpha"])
        self._beta = float(self.settings["beta"])
        self._least = float(self.settings["count"])

    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        learn_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, labels, batch.importance,
            self.state, self.scalars, self._alpha, self._beta, self._least,
            self._kind, self._rate, margins, self.kept_scratch(batch, 4),
        )  # fmt: skip

    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None:
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, self.state, self.scalars,
            margins, self.scratch(batch, 1),
        )  # fmt: skip

    def _weights(self, state: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        weights[:] = state[:, 0]


@inlined
def next_n(n: float, g: float, least: float) -> float:
    """Once more seen, n - 1, until that was ``least`` times; n + g^2 from then on."""
    if g == 0.0:
        return n
    return n - 1.0 if -least < n <= 0.0 else max(n, 0.0) + g * g


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, least: float, kind: int, rate: float,
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """One pass over the rows in order."""
    w, n, x, terms = scratch[0], scratch[1], scratch[2], scratch[3]
    begin_intercept(scalars, kind, labels, importance, margins)
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            w[k] = state[slot, 0]
            n[k] = state[slot, 1]
            x[k] = values[lo + k] if valued[r] else 1.0
            terms[k] = w[k] * x[k]
        margin = total(terms, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        for k in range(count):
            gx = g * x[k]
            n[k] = next_n(n[k], gx, least)
            w[k] -= adaptive_rate(alpha, beta, max(n[k], 0.0)) * (gx if n[k] > 0.0 else 0.0)
        for k in range(count):
            slot = slots[lo + k]
            state[slot, 0] = w[k]
            state[slot, 1] = n[k]
        update_intercept(scalars, kind, g, rate, alpha, beta)
    end_intercept(scalars, kind)


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], state: NDArray[np.float64], scalars: NDArray[np.float64],
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """The margins of the rows; nothing is learned."""
    terms = scratch[0]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            terms[k] = state[slot, 0]
            if valued[r]:
                terms[k] *= values[lo + k]
        margins[r] = total(terms, count) + scalars[MARGIN]
