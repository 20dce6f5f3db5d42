"""L1-RDA of Xiao 2010 (algorithm 2): the mean gradient of every slot moves at every event."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.oracles.intercept import Intercept

# Settings between which something happens within a few rows.
RANGES = {
    "alpha": (0.02, 1.0),
    "l1": (0.0, 0.1),
    "rho": (0.0, 0.1),
    "intercept_rate": (0.5, 12.0),
}
# With these a weight leaves 0 and comes back within tens of events.
SPARSE = {"alpha": 0.5, "l1": 0.05, "rho": 0.01}


class Oracle:
    """The learner by the dense method: the paper's recursion, for every slot at every event."""

    def __init__(self, alpha: float, l1: float, rho: float, intercept: str, intercept_rate: float) -> None:
        self.gamma, self.l1, self.rho = 1.0 / alpha, l1, rho
        self.mean: dict[int, float] = {}
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
        t = self.t
        threshold = self.l1 + self.gamma * self.rho / math.sqrt(t)
        for i in self.mean.keys() | g.keys():
            mean = (t - 1) / t * self.mean.get(i, 0.0) + g.get(i, 0.0) / t
            self.mean[i] = mean
            if abs(mean) <= threshold:
                self.w[i] = 0.0
            else:
                sign = 1.0 if mean > 0 else -1.0
                self.w[i] = -math.sqrt(t) / self.gamma * (mean - threshold * sign)
