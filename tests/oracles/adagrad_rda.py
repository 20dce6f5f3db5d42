"""Adaptive RDA of Duchi, Hazan, Singer 2011 with L1: every slot moves at every event."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.oracles.intercept import Intercept

# Settings between which something happens within a few rows.
RANGES = {
    "alpha": (0.02, 1.0),
    "beta": (0.0, 2.0),
    "l1": (0.0, 0.1),
    "intercept_rate": (0.5, 12.0),
}
# With these a weight leaves 0 and comes back within tens of events.
SPARSE = {"alpha": 0.5, "beta": 1.0, "l1": 0.05}


class Oracle:
    """The learner by the dense method: the paper's recursion, for every slot at every event."""

    def __init__(self, alpha: float, beta: float, l1: float, intercept: str, intercept_rate: float) -> None:
        self.eta, self.delta, self.l1 = alpha, beta, l1
        self.mean: dict[int, float] = {}
        self.squares: dict[int, float] = {}
        self.w: dict[int, float] = {}
        self.t = 0
        self.intercept = Intercept(intercept, intercept_rate, alpha, beta)

    def weights(self) -> dict[int, float]:
        return dict(self.w)

    def margin(self, x: Mapping[int, float]) -> float:
        return sum(self.w.get(i, 0.0) * x[i] for i in x) + self.intercept.margin

    def learn(self, x: Mapping[int, float], y: float, importance: float = 1.0) -> float:
        """Learn an event with the features x, each slot once; returns the margin before."""
        margin = self.margin(x)
        p = 1.0 / (1.0 + math.exp(-margin))
        if x:
            self._step({i: importance * (p - y) * x[i] for i in x})
        self.intercept.learn(importance * (p - y), y, importance)
        return margin

    def _step(self, g: Mapping[int, float]) -> None:
        self.t += 1
        t = self.t
        for i in self.mean.keys() | g.keys():
            mean = (t - 1) / t * self.mean.get(i, 0.0) + g.get(i, 0.0) / t
            self.mean[i] = mean
            self.squares[i] = self.squares.get(i, 0.0) + g.get(i, 0.0) ** 2
            excess = max(0.0, abs(mean) - self.l1)
            H = self.delta + math.sqrt(self.squares[i])
            self.w[i] = math.copysign(self.eta * t / H * excess, -mean) if excess > 0.0 else 0.0
