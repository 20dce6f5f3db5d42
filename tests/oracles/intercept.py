"""The intercept as its module documents it, in plain Python."""

from __future__ import annotations

import math


class Intercept:
    """``kind`` is none, plain or base_rate; c is the rate of base_rate, alpha and beta that of plain."""

    def __init__(self, kind: str, c: float, alpha: float, beta: float) -> None:
        self.kind, self.c, self.alpha, self.beta = kind, c, alpha, beta
        self.b = 0.0
        self.gradients: list[float] = []
        self.positives = 0.0
        self.negatives = 0.0

    @property
    def margin(self) -> float:
        if self.kind == "none":
            return 0.0
        if self.kind == "plain":
            return self.b
        return math.log((self.positives + 0.5) / (self.negatives + 0.5)) + self.b

    def learn(self, g: float, y: float, importance: float) -> None:
        """One event with label y, whose gradient is g = importance (p - y)."""
        self.gradients.append(g)
        squares = math.fsum(gradient**2 for gradient in self.gradients)
        if self.kind == "plain":
            if g != 0.0:
                self.b -= self.alpha / (self.beta + math.sqrt(squares)) * g
        else:
            self.b -= self.c / (self.c + squares) * g
        if y == 1.0:
            self.positives += importance
        else:
            self.negatives += importance
