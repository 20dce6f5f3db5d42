"""Random draws that both simulated streams share: Zipf ranks, and intercepts for a wanted rate."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def zipf(uniform: Floats, n: int | Ints, exponent: float, offset: float) -> Ints:
    """Ranks 0 .. n-1 with density proportional to (rank + offset) ** -exponent, n per column.

    The inverse of the continuous distribution function at ``uniform`` in [0, 1); exponent != 1.
    """
    power = 1.0 - exponent
    low, high = offset**power, (n + offset) ** power
    ranks = (low + uniform * (high - low)) ** (1.0 / power) - offset
    clipped: Ints = np.minimum(ranks.astype(np.int64), n - 1)
    return clipped


def sigmoid(x: Floats) -> Floats:
    """1 / (1 + exp(-x)), never exactly 0 or 1 (x is held within +-30)."""
    result: Floats = 1.0 / (1.0 + np.exp(-np.clip(x, -30.0, 30.0)))
    return result


def solve_intercept(logits: Floats, rate: float) -> float:
    """The b for which the mean of sigmoid(b + logits) is ``rate`` (bisection to 1e-9)."""
    low, high = -30.0, 30.0
    while high - low > 1e-9:
        middle = (low + high) / 2
        if float(sigmoid(logits + middle).mean()) < rate:
            low = middle
        else:
            high = middle
    return low


def sparse_normal(random: np.random.Generator, n: int, share: float, scale: float) -> Floats:
    """n effects: a ``share`` of them normal with deviation ``scale``, the others exactly 0."""
    effects: Floats = np.where(random.random(n) < share, random.normal(0.0, scale, n), 0.0)
    return effects


def check_range(name: str, value: float, low: float, high: float) -> None:
    """Refuse a parameter outside [low, high] (ConfigError)."""
    if not low <= value <= high:
        raise ConfigError(f"{name} must be from {low} to {high}; got {value}")
