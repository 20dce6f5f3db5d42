"""SGD with the cumulative L1 penalty of Tsuruoka et al. 2009, every weight penalised at every step."""

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
SPARSE = {"alpha": 0.1, "power": 0.0, "l1": 0.05}


class Oracle:
    """The learner by the dense method: nothing is deferred."""

    def __init__(self, alpha: float, power: float, l1: float, intercept: str, intercept_rate: float) -> None:
        self.alpha, self.power, self.l1 = alpha, power, l1
        self.w: dict[int, float] = {}
        self.q: dict[int, float] = {}
        self.u = 0.0
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
            eta = self.alpha / (1 + self.t) ** self.power
            for i in x:
                self.w[i] = self.w.get(i, 0.0) - eta * importance * (p - y) * x[i]
            self.t += 1
            self.u += eta * self.l1
            for i in self.w:
                self._penalise(i)
        self.intercept.learn(importance * (p - y), y, importance)
        return margin

    def _penalise(self, i: int) -> None:
        w, q = self.w[i], self.q.get(i, 0.0)
        if w > 0:
            self.w[i] = max(0.0, w - (self.u + q))
        elif w < 0:
            self.w[i] = min(0.0, w + (self.u - q))
        self.q[i] = q + (self.w[i] - w)
