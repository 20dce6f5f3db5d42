"""Algorithm 1 of McMahan et al. 2013, line by line, and the growing threshold of McMahan 2011."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tests.oracles.intercept import Intercept

# Settings between which something happens within a few rows.
RANGES = {
    "alpha": (0.02, 1.0),
    "beta": (0.0, 2.0),
    "l1": (0.0, 1.5),
    "l2": (0.0, 3.0),
    "l1_per_event": (0.0, 0.1),
    "intercept_rate": (0.5, 12.0),
}
# With these a weight leaves 0 and comes back within tens of events.
SPARSE = {"alpha": 0.5, "beta": 1.0, "l1": 1.0, "l2": 0.1}


class Oracle:
    """The learner, one event and one feature at a time."""

    def __init__(
        self,
        alpha: float,
        beta: float,
        l1: float,
        l2: float,
        intercept: str,
        intercept_rate: float,
        l1_per_event: float = 0.0,
    ) -> None:
        self.alpha, self.beta, self.l1, self.l2 = alpha, beta, l1, l2
        self.l1_per_event = l1_per_event
        self.z: dict[int, float] = {}
        self.n: dict[int, float] = {}
        self.intercept = Intercept(intercept, intercept_rate, alpha, beta)

    def weight(self, i: int) -> float:
        z, n = self.z.get(i, 0.0), self.n.get(i, 0.0)
        if abs(z) <= self.l1:
            return 0.0
        sign = 1.0 if z > 0 else -1.0
        return -(((self.beta + math.sqrt(n)) / self.alpha + self.l2) ** -1) * (z - sign * self.l1)

    def weights(self) -> dict[int, float]:
        return {i: self.weight(i) for i in self.z}

    def margin(self, x: Mapping[int, float]) -> float:
        return sum(self.weight(i) * x[i] for i in x) + self.intercept.margin

    def learn(self, x: Mapping[int, float], y: float, importance: float = 1.0) -> float:
        """Learn an event with the features x, each slot once; returns the margin before."""
        w = {i: self.weight(i) for i in x}
        margin = self.margin(x)
        p = 1.0 / (1.0 + math.exp(-margin))
        for i in x:
            g = importance * (p - y) * x[i]
            z, n = self.z.get(i, 0.0), self.n.get(i, 0.0)
            sigma = (math.sqrt(n + g**2) - math.sqrt(n)) / self.alpha
            self.z[i] = z + g - sigma * w[i]
            self.n[i] = n + g**2
        if x:
            self.l1 += self.l1_per_event
        self.intercept.learn(importance * (p - y), y, importance)
        return margin
