"""Stochastic gradient descent with the cumulative L1 penalty (Tsuruoka, Tsujii, Ananiadou 2009).

With rate eta_t = alpha / (1 + t)^power and the total penalty u_t = l1 sum_{s<=t} eta_s that
every weight could have received, each step moves w by -eta_t g and then clips it:

    w > 0:  w' = max(0, w - (u + q))        w < 0:  w' = min(0, w + (u - q))        q += w' - w

where q is the penalty the weight has received so far. The penalty of a feature that is not in
the event waits until the feature is seen, scored or published; applying it late, at once, gives
the same weight as applying it step by step, so every prediction is that of the dense method.
A row without features is no step: it moves the intercept alone, and t and u stand still.
(scikit-learn predicts with weights whose penalty is still due, and forgets u and q between calls.)
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

_PENALTY, _STEPS = CELLS, CELLS + 1  # cells of the scalars: u and t


class SgdL1(LearnerWithIntercept):
    """State (w, q) for each slot; u and t are shared by all."""

    name: ClassVar[str] = "sgd_l1"
    width: ClassVar[int] = 2
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.5, "> 0", "first rate: eta = alpha / (1 + t)^power"),
        Parameter("power", 0.5, "in [0, 1]", "how fast the rate falls"),
        Parameter("l1", 1e-5, ">= 0", "penalty per event"),
        *INTERCEPT,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, 2, parameters)
        self._alpha, self._power = float(self.settings["alpha"]), float(self.settings["power"])
        self._l1 = float(self.settings["l1"])

    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        learn_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, labels, batch.importance,
            self.state, self.scalars, self._alpha, self._power, self._l1, self._kind, self._rate,
            margins, self.kept_scratch(batch, 3),
        )  # fmt: skip

    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None:
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, self.state, self.scalars,
            margins, self.scratch(batch, 1),
        )  # fmt: skip

    def _weights(self, state: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        all_weights(state, self.scalars[_PENALTY], weights)


@inlined
def clipped(w: float, q: float, u: float) -> float:
    """The weight after the penalty it still owes."""
    if w > 0.0:
        return max(0.0, w - (u + q))
    if w < 0.0:
        return min(0.0, w + (u - q))
    return w


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, power: float, l1: float, kind: int, rate: float,
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """One pass over the rows in order."""
    w, q, x = scratch[0], scratch[1], scratch[2]
    begin_intercept(scalars, kind, labels, importance, margins)
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        u = scalars[_PENALTY]
        for k in range(count):
            slot = slots[lo + k]
            value = values[lo + k] if valued[r] else 1.0
            w[k] = clipped(state[slot, 0], state[slot, 1], u)
            q[k] = state[slot, 1] + (w[k] - state[slot, 0])
            x[k] = w[k] * value
        margin = total(x, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        eta = falling_rate(alpha, power, scalars[_STEPS])
        for k in range(count):
            slot = slots[lo + k]
            value = values[lo + k] if valued[r] else 1.0
            state[slot, 0] = w[k] - eta * g * value
            state[slot, 1] = q[k]
        if count > 0:
            scalars[_PENALTY] = u + eta * l1
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
    x = scratch[0]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(count):
            slot = slots[lo + k]
            x[k] = clipped(state[slot, 0], state[slot, 1], scalars[_PENALTY])
            if valued[r]:
                x[k] *= values[lo + k]
        margins[r] = total(x, count) + scalars[MARGIN]


@kernel
def all_weights(state: NDArray[np.float64], u: float, weights: NDArray[np.float64]) -> None:
    """The weight of every slot."""
    for i in range(len(state)):
        weights[i] = clipped(state[i, 0], state[i, 1], u)
