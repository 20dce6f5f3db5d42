"""Forward-backward splitting with L1 (FOBOS; Duchi and Singer 2009).

A gradient step, then the step that L1 asks for, with eta_t = alpha / (1 + t)^power for both:

    v = w - eta_t g,    w' = arg-min_w 1/2 ||w - v||^2 + eta_t l1 ||w||_1 = sgn(v) max(0, |v| - eta_t l1)

The second one shrinks every weight at every event. Shrinking by b and then by c is shrinking by
b + c, so with u = l1 sum_s eta_s a slot keeps what its weight would have been before the first event,
a = w + sgn(w) u, and w = sgn(a) max(0, |a| - u) holds until it is seen again. A row without features
is no step.
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
from ftrl_engine.learners.steps import falling_rate, grown, shrunk
from ftrl_engine.losses import sigmoid

_PENALTY, _STEPS = CELLS, CELLS + 1  # cells of the scalars: u and t


class Fobos(LearnerWithIntercept):
    """State (a) for each slot; u and t are shared by all."""

    name: ClassVar[str] = "fobos"
    width: ClassVar[int] = 1
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.5, "> 0", "first rate: eta = alpha / (1 + t)^power"),
        Parameter("power", 0.5, "in [0, 1]", "how fast the rate falls"),
        Parameter("l1", 1e-5, ">= 0", "penalty per event"),
        *INTERCEPT,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, 2, parameters)
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
        all_weights(state, self.scalars, weights)


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
        u = scalars[_PENALTY]
        for k in range(count):
            slot = slots[lo + k]
            w[k] = shrunk(state[slot, 0], u)
            x[k] = values[lo + k] if valued[r] else 1.0
            terms[k] = w[k] * x[k]
        margin = total(terms, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        eta = falling_rate(alpha, power, scalars[_STEPS])
        for k in range(count):
            # This event's own penalty becomes due with the next u.
            state[slots[lo + k], 0] = grown(w[k] - eta * g * x[k], u)
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
    u = scalars[_PENALTY]
    terms = scratch[0]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            terms[k] = shrunk(state[slot, 0], u)
            if valued[r]:
                terms[k] *= values[lo + k]
        margins[r] = total(terms, count) + scalars[MARGIN]


@kernel
def all_weights(
    state: NDArray[np.float64], scalars: NDArray[np.float64], weights: NDArray[np.float64]
) -> None:
    """The weight of every slot."""
    u = scalars[_PENALTY]
    for i in range(len(state)):
        weights[i] = shrunk(state[i, 0], u)
