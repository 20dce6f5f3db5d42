"""OGD-Count of McMahan et al. 2013: no weight before its feature was seen more than k times."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.oracles.intercept import Intercept

# Settings between which something happens within a few rows.
RANGES = {
    "alpha": (0.02, 1.0),
    "beta": (0.0, 2.0),
    "count": (0, 4),
    "intercept_rate": (0.5, 12.0),
}
# With these a weight leaves 0 within tens of events; none comes back.
SPARSE = {"alpha": 0.5, "beta": 1.0, "count": 1}
COMES_BACK = False


class Oracle:
    """The learner, one event and one feature at a time."""

    def __init__(
        self, alpha: float, beta: float, count: float, intercept: str, intercept_rate: float
    ) -> None:
        self.alpha, self.beta, self.k = alpha, beta, count
        self.w: dict[int, float] = {}
        self.seen: dict[int, int] = {}
        self.gradients: dict[int, list[float]] = {}
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
        for i in g:
            if g[i] == 0.0:
                continue
            self.seen[i] = self.seen.get(i, 0) + 1
            if self.seen[i] <= self.k:
                continue
            history = self.gradients.setdefault(i, [])
            history.append(g[i])
            eta = self.alpha / (self.beta + math.sqrt(math.fsum(s**2 for s in history)))
            self.w[i] = self.w.get(i, 0.0) - eta * g[i]
