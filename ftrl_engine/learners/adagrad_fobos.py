"""FOBOS with AdaGrad's rates: composite mirror descent (Duchi, Hazan, Singer 2011, section 5).

With n = sum g^2 of a slot, this event's included, and its own rate eta = alpha / (beta + sqrt n):

    v = w - eta g,    w' = sgn(v) max(0, |v| - eta l1)

The second step shrinks every weight at every event. While a slot is not seen its n and so its eta
stand still, and each event shrinks its weight by eta l1. So a slot keeps what its weight would have
been before the first event, a = w + sgn(w) t eta l1, and w = sgn(a) max(0, |a| - t eta l1) holds until
it is seen again. beta is the paper's delta. With beta = 0 this is the FOBOS of McMahan 2011. A row
without features is no step.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.intrinsics import prefetch
from ftrl_engine.jit import kernel
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
from ftrl_engine.learners.steps import adaptive_rate, grown, shrunk
from ftrl_engine.losses import sigmoid

_STEPS = CELLS  # cell of the scalars: t


class AdagradFobos(LearnerWithIntercept):
    """State (a, n) for each slot; t is shared by all."""

    name: ClassVar[str] = "adagrad_fobos"
    width: ClassVar[int] = 2
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.1, "> 0", "rate: eta = alpha / (beta + sqrt(n))"),
        Parameter("beta", 1.0, ">= 0", "damps the first steps"),
        Parameter("l1", 1e-5, ">= 0", "penalty per event"),
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


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, l1: float, kind: int, rate: float,
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
        penalty = scalars[_STEPS] * l1
        for k in range(count):
            slot = slots[lo + k]
            w[k] = state[slot, 0]
            n[k] = state[slot, 1]
            x[k] = values[lo + k] if valued[r] else 1.0
        for k in range(count):
            w[k] = shrunk(w[k], adaptive_rate(alpha, beta, n[k]) * penalty)
            terms[k] = w[k] * x[k]
        margin = total(terms, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        for k in range(count):
            gx = g * x[k]
            n[k] += gx * gx
            eta = adaptive_rate(alpha, beta, n[k])
            # This event's own penalty becomes due with the next t.
            w[k] = grown(w[k] - eta * gx, eta * penalty)
        for k in range(count):
            slot = slots[lo + k]
            state[slot, 0] = w[k]
            state[slot, 1] = n[k]
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
    penalty = scalars[_STEPS] * l1
    terms = scratch[0]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            terms[k] = shrunk(state[slot, 0], adaptive_rate(alpha, beta, state[slot, 1]) * penalty)
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
    penalty = scalars[_STEPS] * l1
    for i in range(len(state)):
        weights[i] = shrunk(state[i, 0], adaptive_rate(alpha, beta, state[i, 1]) * penalty)
