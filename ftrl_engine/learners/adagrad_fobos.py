"""FOBOS with AdaGrad's rates: composite mirror descent (Duchi, Hazan, Singer 2011, section 5).

With n = sum g^2 of a slot, this event's included, and its own rate eta = alpha / (beta + sqrt n):

    v = w - eta g,    w' = sgn(v) max(0, |v| - eta l1)

The second step shrinks every weight at every event. While a slot is not seen its n and so its eta
stand still, and k missed events shrink its weight by k eta l1: a slot keeps the number t of its last
event, and what is due is taken off when it is seen, scored or published. beta is the paper's delta.
With beta = 0 this is the FOBOS of McMahan 2011. A row without features is no step.
"""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.jit import inlined, kernel, prefetch
from ftrl_engine.learners.base import Learner, Parameter
from ftrl_engine.learners.intercept import CELLS, KIND, KINDS, MARGIN, RATE, update_intercept
from ftrl_engine.learners.rows import AHEAD, total
from ftrl_engine.learners.steps import adaptive_rate, shrunk
from ftrl_engine.losses import sigmoid

_STEPS = CELLS  # cell of the scalars: t


class AdagradFobos(Learner):
    """State (w, n, t at its last event) for each slot; t is shared by all."""

    name: ClassVar[str] = "adagrad_fobos"
    width: ClassVar[int] = 3
    parameters: ClassVar[tuple[Parameter, ...]] = (
        Parameter("alpha", 0.1, "> 0", "rate: eta = alpha / (beta + sqrt(n))"),
        Parameter("beta", 1.0, ">= 0", "damps the first steps"),
        Parameter("l1", 1e-5, ">= 0", "penalty per event"),
        KIND,
        RATE,
    )

    def __init__(self, n_slots: int, **parameters: object) -> None:
        super().__init__(n_slots, CELLS + 1, parameters)
        self._alpha = float(self.settings["alpha"])
        self._beta = float(self.settings["beta"])
        self._l1 = float(self.settings["l1"])
        self._kind = KINDS.index(str(self.settings["intercept"]))
        self._rate = float(self.settings["intercept_rate"])

    @property
    def intercept(self) -> float:
        return float(self.scalars[MARGIN])

    def _learn(self, batch: Batch, labels: NDArray[np.float64], margins: NDArray[np.float64]) -> None:
        learn_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, labels, batch.importance,
            self.state, self.scalars, self._alpha, self._beta, self._l1,
            self._kind, self._rate, margins, self.scratch(batch, 5),
        )  # fmt: skip

    def _margins(self, batch: Batch, margins: NDArray[np.float64]) -> None:
        score_rows(
            batch.indptr, batch.slots, batch.raw_values, batch.valued, self.state, self.scalars,
            self._alpha, self._beta, self._l1, margins, self.scratch(batch, 1),
        )  # fmt: skip

    def _weights(self) -> NDArray[np.float64]:
        weights = np.empty(self.n_slots)
        all_weights(self.state, self.scalars, self._alpha, self._beta, self._l1, weights)
        return weights


@inlined
def settled(w: float, eta: float, l1: float, missed: float) -> float:
    """The weight after the penalties of ``missed`` events: max(0, |w| - missed eta l1) sgn(w)."""
    return shrunk(w, missed * eta * l1)


@kernel
def learn_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], labels: NDArray[np.float64], importance: NDArray[np.float64],
    state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, l1: float, kind: int, rate: float,
    margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """One pass over the rows in order."""
    w, n, missed, x, terms = scratch[0], scratch[1], scratch[2], scratch[3], scratch[4]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        t = scalars[_STEPS]
        for k in range(count):
            slot = slots[lo + k]
            w[k] = state[slot, 0]
            n[k] = state[slot, 1]
            missed[k] = t - state[slot, 2]
            x[k] = values[lo + k] if valued[r] else 1.0
        for k in range(count):
            w[k] = settled(w[k], adaptive_rate(alpha, beta, n[k]), l1, missed[k])
            terms[k] = w[k] * x[k]
        margin = total(terms, count) + scalars[MARGIN]
        margins[r] = margin
        g = importance[r] * (sigmoid(margin) - labels[r])
        for k in range(count):
            gx = g * x[k]
            n[k] += gx * gx
            w[k] -= adaptive_rate(alpha, beta, n[k]) * gx
        for k in range(count):
            slot = slots[lo + k]
            state[slot, 0] = w[k]
            state[slot, 1] = n[k]
            state[slot, 2] = t  # this event's own penalty is still due
        if count > 0:
            scalars[_STEPS] = t + 1.0
        update_intercept(scalars, kind, g, labels[r], importance[r], rate, alpha, beta)


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], state: NDArray[np.float64], scalars: NDArray[np.float64],
    alpha: float, beta: float, l1: float, margins: NDArray[np.float64], scratch: NDArray[np.float64],
) -> None:  # fmt: skip
    """The margins of the rows; nothing is learned."""
    t = scalars[_STEPS]
    terms = scratch[0]
    for r in range(len(indptr) - 1):
        lo = indptr[r]
        count = indptr[r + 1] - lo
        for k in range(lo + AHEAD, min(lo + AHEAD + count, len(slots))):
            prefetch(state, np.int64(slots[k]))
        for k in range(count):
            slot = slots[lo + k]
            terms[k] = settled(
                state[slot, 0], adaptive_rate(alpha, beta, state[slot, 1]), l1, t - state[slot, 2]
            )
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
    t = scalars[_STEPS]
    for i in range(len(state)):
        weights[i] = settled(state[i, 0], adaptive_rate(alpha, beta, state[i, 1]), l1, t - state[i, 2])
