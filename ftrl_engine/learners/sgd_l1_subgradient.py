"""Stochastic gradient descent on the loss plus l1 ||w||_1, by a subgradient: the naive way.

With rate eta_t = alpha / (1 + t)^power, every slot i of the event moves by

    w_i <- w_i - eta_t (g_i + l1 sgn(w_i)),    sgn(0) = 0

A weight that comes near 0 steps over it, so none is ever exactly 0 again ("will essentially never
produce coefficients that are exactly zero", McMahan et al. 2013); that is what this learner is
here to show. The penalty falls on the slots of the event alone: on all others too, it would cost
the whole table at each event and only make weights that are not seen tremble around 0.
A row without features is no step.
"""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.intrinsics import prefetch
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.learners.base import Parameter
from ftrl_engine.learners.intercept import (
    CELLS,
    INTERCEPT,
    MARGIN,
    TERM,
    LearnerWithIntercept,
    begin_intercept,
    end_intercept,
    update_intercept,
)
from ftrl_engine.learners.rows import AHEAD, total
from ftrl_engine.learners.steps import falling_rate
from ftrl_engine.losses import sigmoid

_STEPS = CELLS  # cell of the scalars: t


class SgdL1Subgradient(LearnerWithIntercept):
    """State (w) for each slot; t is shared by all."""

    name: ClassVar[str] = "sgd_l1_subgradient"
    width: ClassVar[int] = 1
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.5, "> 0", "first rate: eta = alpha / (1 + t)^power"),
        Parameter("power", 0.5, "in [0, 1]", "how fast the rate falls"),
        Parameter("l1", 1e-5, ">= 0", "penalty of a weight for each event that has it"),
        *INTERCEPT,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, 1, parameters)
        self._alpha = float(self.settings["alpha"])
        self._power = float(self.settings["power"])
        self._l1 = float(self.settings["l1"])

    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        learn_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, labels, batch.importance,
            self.state, self.scalars, self._alpha, self._power, self._l1,
            self._kind, self._rate, margins, self.kept_scratch(batch, 3),
        )  # fmt: skip

    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None:
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, self.state, self.scalars,
            margins, self.scratch(batch, 1),
        )  # fmt: skip

    def _weights(self, state: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        weights[:] = state[:, 0]


@inlined
def next_weight(w: float, g: float, eta: float, l1: float) -> float:
    """w - eta (g + l1 sgn(w))."""
    sign = math.copysign(1.0, w) if w != 0.0 else 0.0
    return w - eta * (g + l1 * sign)


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, power: float, l1: float, kind: int, rate: float,
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """One pass over the rows in order."""
    w, x, terms = scratch[0], scratch[1], scratch[2]
    begin_intercept(scalars, kind, labels, importance, margins)
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            w[k] = state[slot, 0]
            x[k] = values[lo + k] if valued[r] else 1.0
            terms[k] = w[k] * x[k]
        margin = total(terms, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        eta = falling_rate(alpha, power, scalars[_STEPS])
        for k in range(count):
            state[slots[lo + k], 0] = next_weight(w[k], g * x[k], eta, l1)
        if count > 0:
            scalars[_STEPS] += 1.0
        update_intercept(scalars, kind, g, rate, alpha, 1.0)
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
