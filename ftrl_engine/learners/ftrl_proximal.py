"""FTRL-Proximal with per-coordinate rates and L1/L2 (McMahan et al. 2013, Algorithm 1).

The threshold of L1 is fixed in 2013. In 2011 (McMahan, AISTATS) each event adds lambda to it, so
that after t events it is t lambda for every slot, seen or not: that is ``l1_per_event`` = lambda,
with l1 = 0 and, to be exact, beta = l2 = 0. A row without features does not count in t.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.intrinsics import flat
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
from ftrl_engine.learners.rows import gather, scatter, total
from ftrl_engine.learners.steps import LEAST_SCALE
from ftrl_engine.losses import sigmoid

_STEPS = CELLS  # cell of the scalars: t


class FtrlProximal(LearnerWithIntercept):
    """State (z, n) for each slot; the weight is a closed form of it and exactly 0 where |z| <= l1.

    t, the rows that had features, is shared by all.
    """

    name: ClassVar[str] = "ftrl_proximal"
    width: ClassVar[int] = 2
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.1, "> 0", "rate: eta = alpha / (beta + sqrt(n))"),
        Parameter("beta", 1.0, ">= 0", "damps the first steps"),
        Parameter("l1", 1.0, ">= 0", "a weight stays exactly 0 until |z| exceeds it"),
        Parameter("l2", 1.0, ">= 0", "shrinks weights"),
        Parameter("l1_per_event", 0.0, ">= 0", "added to l1 with each event (McMahan 2011)"),
        *INTERCEPT,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, 1, parameters)
        self._alpha, self._beta = float(self.settings["alpha"]), float(self.settings["beta"])
        self._l1, self._l2 = float(self.settings["l1"]), float(self.settings["l2"])
        self._l1_per_event = float(self.settings["l1_per_event"])

    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        learn_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, labels, batch.importance,
            self.state, self.scalars, self._alpha, self._beta, self._l1, self._l1_per_event, self._l2,
            self._kind, self._rate, margins, self.kept_scratch(batch, 5),
        )  # fmt: skip

    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None:
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued,
            self.state, self.scalars, self._alpha, self._beta, self._l1, self._l1_per_event, self._l2,
            margins, self.scratch(batch, 3),
        )  # fmt: skip

    def _weights(self, state: NDArray[np.float64], weights: NDArray[np.float64]) -> None:
        all_weights(
            state, self.scalars, self._alpha, self._beta, self._l1, self._l1_per_event, self._l2, weights
        )

    def counts_at(self, slots: NDArray[np.uint32]) -> NDArray[np.float64]:
        counts: NDArray[np.float64] = self.state[slots, 1]
        return counts

    @classmethod
    def rates(cls, counts: NDArray[Any], settings: Mapping[str, Any]) -> NDArray[np.float64]:
        """1 / ((beta + sqrt n)/alpha + l2); n only grows, so this is the rate of the next event at most."""
        alpha, beta, l2 = (float(settings[name]) for name in ("alpha", "beta", "l2"))
        rates: NDArray[np.float64] = 1.0 / np.maximum((beta + np.sqrt(counts)) / alpha + l2, LEAST_SCALE)
        return rates


@inlined
def threshold(l1: float, l1_per_event: float, t: float) -> float:
    """The l1 that holds after t events."""
    return l1 + l1_per_event * t


@inlined
def weight(z: float, root: float, inverse_alpha: float, beta: float, l1: float, l2: float) -> float:
    """w = -(z - sgn(z) l1) / ((beta + sqrt n)/alpha + l2), and 0 where |z| <= l1; root is sqrt n."""
    w = (math.copysign(l1, z) - z) / max((beta + root) * inverse_alpha + l2, LEAST_SCALE)
    return w if abs(z) > l1 else 0.0


@inlined
def next_z(z: float, g: float, root: float, next_root: float, inverse_alpha: float, w: float) -> float:
    """z + g - sigma w with sigma = (sqrt(n + g^2) - sqrt n)/alpha."""
    return z + g - (next_root - root) * inverse_alpha * w


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, l1: float, l1_per_event: float, l2: float, kind: int, rate: float,
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """Algorithm 1 over the rows in order: gather the cells, compute over small buffers, scatter."""
    inverse_alpha = 1.0 / alpha
    cells = flat(state)
    z, n, root, w, x = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    begin_intercept(scalars, kind, labels, importance, margins)
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        filled = gather(cells, slots, lo, count, z, n)
        bound = threshold(l1, l1_per_event, scalars[_STEPS])
        for k in range(filled):
            root[k] = math.sqrt(n[k])
            w[k] = weight(z[k], root[k], inverse_alpha, beta, bound, l2)
        if valued[r]:
            for k in range(count):
                x[k] = w[k] * values[lo + k]
            margin = total(x, count) + (scalars[TERM] + margins[r])
        else:
            margin = total(w, count) + (scalars[TERM] + margins[r])
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        if valued[r]:
            for k in range(count):
                gx = g * values[lo + k]
                n[k] += gx * gx
                z[k] = next_z(z[k], gx, root[k], math.sqrt(n[k]), inverse_alpha, w[k])
        else:
            for k in range(filled):
                n[k] += g * g
                z[k] = next_z(z[k], g, root[k], math.sqrt(n[k]), inverse_alpha, w[k])
        scatter(cells, slots, lo, count, z, n)
        if count > 0:
            scalars[_STEPS] += 1.0
        update_intercept(scalars, kind, g, rate, alpha, beta)
    end_intercept(scalars, kind)


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, l1: float, l1_per_event: float, l2: float,
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """The margins of the rows; nothing is learned."""
    inverse_alpha = 1.0 / alpha
    bound = threshold(l1, l1_per_event, scalars[_STEPS])
    cells = flat(state)
    z, n, w = scratch[0], scratch[1], scratch[2]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(gather(cells, slots, lo, count, z, n)):
            w[k] = weight(z[k], math.sqrt(n[k]), inverse_alpha, beta, bound, l2)
        if valued[r]:
            for k in range(count):
                w[k] *= values[lo + k]
        margins[r] = total(w, count) + scalars[MARGIN]


@kernel
def all_weights(
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, l1: float, l1_per_event: float, l2: float, weights: NDArray[np.float64],
) -> None:  # fmt: skip
    """The weight of every slot."""
    bound = threshold(l1, l1_per_event, scalars[_STEPS])
    for i in range(len(state)):
        weights[i] = weight(state[i, 0], math.sqrt(state[i, 1]), 1.0 / alpha, beta, bound, l2)
