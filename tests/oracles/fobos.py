"""FOBOS of Duchi and Singer 2009 with L1: every weight is shrunk at every event."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.oracles.intercept import Intercept

# Settings between which something happens within a few rows.
RANGES = {
    "alpha": (0.02, 0.8),
    "power": (0.0, 1.0),
    "l1": (0.0, 0.3),
    "intercept_rate": (0.5, 12.0),
}
# With these a weight leaves 0 and comes back within tens of events.
SPARSE = {"alpha": 0.1, "power": 0.0, "l1": 0.48}


class Oracle:
    """The learner by the dense method: nothing is deferred."""

    def __init__(self, alpha: float, power: float, l1: float, intercept: str, intercept_rate: float) -> None:
        self.alpha, self.power, self.l1 = alpha, power, l1
        self.w: dict[int, float] = {}
        self.t = 0
        self.intercept = Intercept(intercept, intercept_rate, alpha, 1.0)

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
        eta = self.alpha / self.t**self.power
        for i in g:
            self.w[i] = self.w.get(i, 0.0) - eta * g[i]
        for i, v in self.w.items():
            self.w[i] = math.copysign(max(0.0, abs(v) - eta * self.l1), v)
