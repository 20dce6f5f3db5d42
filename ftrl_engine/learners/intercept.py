"""The intercept, shared by all learners: unregularised, with a rate of its own.

Kinds:

- ``base_rate``  log-odds of the observed label rate so far plus a learned term b:
  log((P + 1/2) / (N + 1/2)) + b, with P and N the importance of positives and negatives.
  A rare click is predicted as rare from the first events on, because no weight has to
  travel there from a probability of one half.
- ``plain``      the learned term alone, with the rate of the other weights, as in
  McMahan et al. 2013
- ``none``       no intercept

With S = sum g^2, the term of ``plain`` follows b <- b - g alpha / (beta + sqrt S), which is
FTRL-Proximal with l1 = l2 = 0 (McMahan 2011, corollary 3). The term of ``base_rate`` follows
b <- b - g c / (c + S): at most g in the beginning, so that one click is no certainty. S
estimates the curvature, so later this is a Newton step c times too long, as if only the last
c-th part of the events counted. Rounds of too much and too little prediction then cancel
within that part, and the sum of predictions stays near that of labels.

The kernel of a :class:`LearnerWithIntercept` calls :func:`begin_intercept` before its rows, adds
``scalars[TERM] + margins[r]`` to the margin of row r, calls :func:`update_intercept` after it and
:func:`end_intercept` after the last one.

An event without features is an event all the same: it moves the intercept and nothing else.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.jit import inlined
from ftrl_engine.learners.base import Learner, Parameter

NONE, PLAIN, BASE_RATE = range(3)
KINDS = ("none", "plain", "base_rate")
# Cells of a learner's scalars.
TERM, SQUARES, POSITIVES, NEGATIVES, MARGIN = range(5)
CELLS = 5

KIND = Parameter(
    "intercept",
    "base_rate",
    "base_rate|plain|none",
    "observed log-odds and a learned term, a learned term alone, or none",
)
RATE = Parameter("intercept_rate", 10.0, "> 0", "c of the base_rate intercept: higher follows faster")
INTERCEPT = (KIND, RATE)


class LearnerWithIntercept(Learner):
    """A learner that adds the intercept to every margin: its ``parameters`` contain ``INTERCEPT``.

    The first ``CELLS`` of the scalars are the intercept's, the learner's own follow.
    """

    def __init__(self, n_slots: int, own_scalars: int, values: Mapping[str, object]) -> None:
        super().__init__(n_slots, CELLS + own_scalars, values)
        self._kind = KINDS.index(str(self.settings["intercept"]))
        self._rate = float(self.settings["intercept_rate"])

    @property
    def intercept(self) -> float:
        return float(self.scalars[MARGIN])


@inlined
def begin_intercept(
    scalars: NDArray[np.float64], kind: int, labels: NDArray[np.float64], importance: NDArray[np.float64],
    margins: NDArray[np.float64],
) -> None:  # fmt: skip
    """Make ``margins[r]`` the part of row r's intercept that depends on labels alone.

    Its logarithms are computed here, where none waits for another, and not between a row and the next.
    """
    if kind != BASE_RATE:
        margins[:] = 0.0
        return
    positives, negatives = scalars[POSITIVES], scalars[NEGATIVES]
    for r in range(len(labels)):
        margins[r] = log_odds(positives, negatives)
        positives += importance[r] * labels[r]
        negatives += importance[r] * (1.0 - labels[r])
    scalars[POSITIVES], scalars[NEGATIVES] = positives, negatives


@inlined
def update_intercept(
    scalars: NDArray[np.float64], kind: int, g: float, rate: float, alpha: float, beta: float
) -> None:
    """One event: ``g`` is the gradient importance * (p - y) of its margin."""
    if kind == NONE:
        return
    scalars[SQUARES] += g * g
    if kind == BASE_RATE:
        scalars[TERM] -= g * rate / (rate + scalars[SQUARES])
    elif scalars[SQUARES] > 0.0:  # with beta = 0 there is no rate before the first gradient
        scalars[TERM] -= g * alpha / (beta + math.sqrt(scalars[SQUARES]))


@inlined
def end_intercept(scalars: NDArray[np.float64], kind: int) -> None:
    """The intercept after all rows."""
    scalars[MARGIN] = scalars[TERM]
    if kind == BASE_RATE:
        scalars[MARGIN] += log_odds(scalars[POSITIVES], scalars[NEGATIVES])


@inlined
def log_odds(positives: float, negatives: float) -> float:
    """Of the observed label rate, as if half an event of each label had come before."""
    return math.log((positives + 0.5) / (negatives + 0.5))
