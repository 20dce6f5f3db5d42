"""Regularized dual averaging with L1 (RDA; Xiao 2010, algorithm 2).

After t events with the mean gradient gbar = G / t, the weights are

    arg-min_w gbar w + l1 |w| + gamma / sqrt(t) (1/2 w^2 + rho |w|)
      = 0 where |gbar| <= l1 + gamma rho / sqrt(t),
        -(sqrt(t) / gamma) (gbar - (l1 + gamma rho / sqrt(t)) sgn(gbar)) elsewhere

with gamma = 1 / alpha; times t, the sum G is held against t l1 + rho sqrt(t) / alpha. The threshold
grows with every event for every slot, seen or not, and nothing has to be deferred: the weight is a
closed form of G and t. rho > 0 is Xiao's enhanced method. A row without features does not count in t.
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
from ftrl_engine.losses import sigmoid

_STEPS = CELLS  # cell of the scalars: t


class Rda(LearnerWithIntercept):
    """State (G) for each slot, the sum of its gradients; t is shared by all."""

    name: ClassVar[str] = "rda"
    width: ClassVar[int] = 1
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 1.0, "> 0", "rate: 1 / gamma"),
        Parameter("l1", 1e-5, ">= 0", "a weight is exactly 0 until its mean gradient exceeds it"),
        Parameter("rho", 0.0, ">= 0", "more of l1 in the beginning: rho / (alpha sqrt(t))"),
        *INTERCEPT,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, 1, parameters)
        self._alpha = float(self.settings["alpha"])
        self._l1 = float(self.settings["l1"])
        self._rho = float(self.settings["rho"])

    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        learn_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, labels, batch.importance,
            self.state, self.scalars, self._alpha, self._l1, self._rho,
            self._kind, self._rate, margins, self.kept_scratch(batch, 3),
        )  # fmt: skip

    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None:
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, self.state, self.scalars,
            self._alpha, self._l1, self._rho, margins, self.scratch(batch, 1),
        )  # fmt: skip

    def _weights(self, state: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        all_weights(state, self.scalars, self._alpha, self._l1, self._rho, weights)


@inlined
def threshold(alpha: float, l1: float, rho: float, t: float) -> float:
    """t l1 + rho sqrt(t) / alpha, which |G| has to exceed."""
    return t * l1 + rho * math.sqrt(t) / alpha


@inlined
def scale(alpha: float, t: float) -> float:
    """alpha / sqrt(t); before the first event there is no G to multiply with it."""
    return alpha / math.sqrt(max(t, 1.0))


@inlined
def weight(G: float, bound: float, slope: float) -> float:
    """-slope (G - sgn(G) bound), and 0 where |G| <= bound."""
    return (math.copysign(bound, G) - G) * slope if abs(G) > bound else 0.0


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, l1: float, rho: float, kind: int, rate: float,
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """One pass over the rows in order."""
    G, x, terms = scratch[0], scratch[1], scratch[2]
    begin_intercept(scalars, kind, labels, importance, margins)
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        t = scalars[_STEPS]
        bound, slope = threshold(alpha, l1, rho, t), scale(alpha, t)
        for k in range(count):
            slot = slots[lo + k]
            G[k] = state[slot, 0]
            x[k] = values[lo + k] if valued[r] else 1.0
        for k in range(count):
            terms[k] = weight(G[k], bound, slope) * x[k]
        margin = total(terms, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        for k in range(count):
            state[slots[lo + k], 0] = G[k] + g * x[k]
        if count > 0:
            scalars[_STEPS] = t + 1.0
        update_intercept(scalars, kind, g, rate, alpha, 1.0)
    end_intercept(scalars, kind)


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, l1: float, rho: float, margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """The margins of the rows; nothing is learned."""
    t = scalars[_STEPS]
    bound, slope = threshold(alpha, l1, rho, t), scale(alpha, t)
    terms = scratch[0]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            terms[k] = weight(state[slot, 0], bound, slope)
            if valued[r]:
                terms[k] *= values[lo + k]
        margins[r] = total(terms, count) + scalars[MARGIN]


@kernel
def all_weights(
    state: NDArray[np.float64],
    scalars: NDArray[np.float64],
    alpha: float,
    l1: float,
    rho: float,
    weights: NDArray[np.float64],
) -> None:
    """The weight of every slot."""
    t = scalars[_STEPS]
    bound, slope = threshold(alpha, l1, rho, t), scale(alpha, t)
    for i in range(len(state)):
        weights[i] = weight(state[i, 0], bound, slope)
