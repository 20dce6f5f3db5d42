"""A power law, ``value = factor * size ** exponent``: a straight line where both axes are logarithmic."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PowerLaw:
    """exponent 1 is linear growth; factor is the value at size 1, in the unit of the values."""

    factor: float
    exponent: float

    @classmethod
    def fit(cls, sizes: Sequence[float], values: Sequence[float]) -> PowerLaw:
        """Least squares of log(value) on log(size); all positive, two different sizes at least."""
        line = statistics.linear_regression([math.log(x) for x in sizes], [math.log(y) for y in values])
        return cls(math.exp(line.intercept), line.slope)

    def __call__(self, size: float) -> float:
        return float(self.factor * size**self.exponent)
