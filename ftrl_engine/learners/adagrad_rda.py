"""Regularized dual averaging with L1 and AdaGrad's rates (Duchi, Hazan, Singer 2011, section 5).

With G and n the sums of the gradients and of their squares, after t events a weight is

    arg-min_w G w + t l1 |w| + (beta + sqrt n) / alpha 1/2 w^2
      = 0 where |G| <= t l1,    -alpha / (beta + sqrt n) (G - sgn(G) t l1) elsewhere

The threshold grows with every event for every slot, seen or not, and nothing has to be deferred: the
weight is a closed form of G, n and t. It differs from the FTRL-Proximal of 2011 in one point: this one
pulls towards 0, that one towards the weights there were. beta is the paper's delta; with beta = 0 this
is the RDA of McMahan 2011. A row without features does not count in t.
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
from ftrl_engine.learners.steps import adaptive_rate
from ftrl_engine.losses import sigmoid

_STEPS = CELLS  # cell of the scalars: t


class AdagradRda(LearnerWithIntercept):
    """State (G, n) for each slot; t is shared by all."""

    name: ClassVar[str] = "adagrad_rda"
    width: ClassVar[int] = 2
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.1, "> 0", "rate: eta = alpha / (beta + sqrt(n))"),
        Parameter("beta", 1.0, ">= 0", "damps the first steps"),
        Parameter("l1", 1e-5, ">= 0", "a weight is exactly 0 until its mean gradient exceeds it"),
        *INTERCEPT,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, 1, parameters)
        self._alpha = float(self.settings["alpha"])
        self._beta = float(self.settings["beta"])
        self._l1 = float(self.settings["l1"])

    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        learn_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, labels, batch.importance,
            self.state, self.scalars, self._alpha, self._beta, self._l1,
            self._kind, self._rate, margins, self.kept_scratch(batch, 4),
        )  # fmt: skip

    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None:
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, self.state, self.scalars,
            self._alpha, self._beta, self._l1, margins, self.scratch(batch, 1),
        )  # fmt: skip

    def _weights(self, state: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        all_weights(state, self.scalars, self._alpha, self._beta, self._l1, weights)


@inlined
def weight(G: float, bound: float, eta: float) -> float:
    """-eta (G - sgn(G) bound), and 0 where |G| <= bound."""
    return (math.copysign(bound, G) - G) * eta if abs(G) > bound else 0.0


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, l1: float, kind: int, rate: float,
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """One pass over the rows in order."""
    G, n, x, terms = scratch[0], scratch[1], scratch[2], scratch[3]
    begin_intercept(scalars, kind, labels, importance, margins)
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        bound = scalars[_STEPS] * l1
        for k in range(count):
            slot = slots[lo + k]
            G[k] = state[slot, 0]
            n[k] = state[slot, 1]
            x[k] = values[lo + k] if valued[r] else 1.0
        for k in range(count):
            terms[k] = weight(G[k], bound, adaptive_rate(alpha, beta, n[k])) * x[k]
        margin = total(terms, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        for k in range(count):
            slot = slots[lo + k]
            gx = g * x[k]
            state[slot, 0] = G[k] + gx
            state[slot, 1] = n[k] + gx * gx
        if count > 0:
            scalars[_STEPS] += 1.0
        update_intercept(scalars, kind, g, rate, alpha, beta)
    end_intercept(scalars, kind)


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, l1: float, margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """The margins of the rows; nothing is learned."""
    bound = scalars[_STEPS] * l1
    terms = scratch[0]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            terms[k] = weight(state[slot, 0], bound, adaptive_rate(alpha, beta, state[slot, 1]))
            if valued[r]:
                terms[k] *= values[lo + k]
        margins[r] = total(terms, count) + scalars[MARGIN]


@kernel
def all_weights(
    state: NDArray[np.float64],
    scalars: NDArray[np.float64],
    alpha: float,
    beta: float,
    l1: float,
    weights: NDArray[np.float64],
) -> None:
    """The weight of every slot."""
    bound = scalars[_STEPS] * l1
    for i in range(len(state)):
        weights[i] = weight(state[i, 0], bound, adaptive_rate(alpha, beta, state[i, 1]))
