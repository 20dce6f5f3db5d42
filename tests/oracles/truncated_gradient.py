"""Truncated gradient of Langford, Li, Zhang 2009: every K-th event truncates every weight."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.oracles.intercept import Intercept

# Settings between which something happens within a few rows.
RANGES = {
    "alpha": (0.02, 0.8),
    "power": (0.0, 1.0),
    "l1": (0.0, 0.3),
    "every": (1, 4),
    "theta": (0.05, 2.0),
    "intercept_rate": (0.5, 12.0),
}
# With these a weight leaves 0 and comes back within tens of events.
SPARSE = {"alpha": 0.1, "power": 0.0, "l1": 0.48, "every": 2, "theta": 2.0}


class Oracle:
    """The learner by the dense method: nothing is deferred."""

    def __init__(
        self,
        alpha: float,
        power: float,
        l1: float,
        every: float,
        theta: float,
        intercept: str,
        intercept_rate: float,
    ) -> None:
        self.alpha, self.power, self.l1, self.every, self.theta = alpha, power, l1, every, theta
        self.w: dict[int, float] = {}
        self.i = 0
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
        self.i += 1
        eta = self.alpha / self.i**self.power
        for j in g:
            self.w[j] = self.w.get(j, 0.0) - eta * g[j]
        gravity = self.every * self.l1 if self.i % self.every == 0 else 0.0
        for j, v in self.w.items():
            self.w[j] = self._t1(v, eta * gravity)

    def _t1(self, v: float, a: float) -> float:
        """Equation 4 of the paper."""
        if 0 <= v <= self.theta:
            return max(0.0, v - a)
        if -self.theta <= v <= 0:
            return min(0.0, v + a)
        return v
