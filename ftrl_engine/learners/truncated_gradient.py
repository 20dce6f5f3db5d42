"""Truncated gradient (Langford, Li, Zhang 2009): gradient steps, and every K-th one shrinks small weights.

With rate eta_t = alpha / (1 + t)^power and gravity l1, each step is v = w - eta_t g; where t is a
multiple of K = ``every`` (counting from 1), all weights then become T1(v, eta_t K l1, theta):

    T1(v, a, theta) = sgn(v) max(0, |v| - a) where |v| <= theta,    v where |v| > theta

A weight within theta stays there until its next event, so the truncations that it missed add up: it
keeps the total gravity u of its last event, and the rest is applied when it is seen, scored or
published. With K = 1 and a theta that no weight reaches this is FOBOS. A row without features is no step.
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
from ftrl_engine.learners.steps import falling_rate, shrunk
from ftrl_engine.losses import sigmoid

_GRAVITY, _STEPS = CELLS, CELLS + 1  # cells of the scalars: u and t


class TruncatedGradient(LearnerWithIntercept):
    """State (w, u at its last event) for each slot; u and t are shared by all."""

    name: ClassVar[str] = "truncated_gradient"
    width: ClassVar[int] = 2
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.5, "> 0", "first rate: eta = alpha / (1 + t)^power"),
        Parameter("power", 0.5, "in [0, 1]", "how fast the rate falls"),
        Parameter("l1", 1e-5, ">= 0", "gravity: penalty per event"),
        Parameter("every", 10.0, ">= 1 and whole", "K: events between two truncations"),
        Parameter("theta", 1.0, "> 0", "a weight beyond it is not shrunk"),
        *INTERCEPT,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, 2, parameters)
        self._alpha = float(self.settings["alpha"])
        self._power = float(self.settings["power"])
        self._l1 = float(self.settings["l1"])
        self._every = float(self.settings["every"])
        self._theta = float(self.settings["theta"])

    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        learn_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, labels, batch.importance,
            self.state, self.scalars, self._alpha, self._power, self._l1, self._every, self._theta,
            self._kind, self._rate, margins, self.kept_scratch(batch, 3),
        )  # fmt: skip

    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None:
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, self.state, self.scalars,
            self._theta, margins, self.scratch(batch, 1),
        )  # fmt: skip

    def _weights(self, state: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        all_weights(state, self.scalars, self._theta, weights)


@inlined
def truncated(w: float, gravity: float, theta: float) -> float:
    """T1(w, gravity, theta)."""
    return shrunk(w, gravity) if abs(w) <= theta else w


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, power: float, l1: float, every: float, theta: float, kind: int, rate: float,
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
        u = scalars[_GRAVITY]
        for k in range(count):
            slot = slots[lo + k]
            w[k] = truncated(state[slot, 0], u - state[slot, 1], theta)
            x[k] = values[lo + k] if valued[r] else 1.0
            terms[k] = w[k] * x[k]
        margin = total(terms, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        eta = falling_rate(alpha, power, scalars[_STEPS])
        for k in range(count):
            slot = slots[lo + k]
            state[slot, 0] = w[k] - eta * g * x[k]
            state[slot, 1] = u
        if count > 0:
            scalars[_STEPS] += 1.0
            if scalars[_STEPS] % every == 0.0:
                scalars[_GRAVITY] = u + eta * every * l1
        update_intercept(scalars, kind, g, rate, alpha, 1.0)
    end_intercept(scalars, kind)


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], state: NDArray[np.float64], scalars: NDArray[np.float64],
    theta: float, margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """The margins of the rows; nothing is learned."""
    u = scalars[_GRAVITY]
    terms = scratch[0]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            terms[k] = truncated(state[slot, 0], u - state[slot, 1], theta)
            if valued[r]:
                terms[k] *= values[lo + k]
        margins[r] = total(terms, count) + scalars[MARGIN]


@kernel
def all_weights(
    state: NDArray[np.float64], scalars: NDArray[np.float64], theta: float, weights: NDArray[np.float64]
) -> None:
    """The weight of every slot."""
    u = scalars[_GRAVITY]
    for i in range(len(state)):
        weights[i] = truncated(state[i, 0], u - state[i, 1], theta)
