"""The search for a method's best settings: the same number of configurations for every method.

1. Without a penalty, five rates a decade apart.
2. Half and quarter steps around the best of them; where one rate for all slots falls with time, a
   slower fall takes the place of the quarter steps.
3. Three rates around the best, each with every penalty: the grid that the frontier is drawn from.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence

from bench.comparison.method import COUNT, Configuration, Method

LEAST_BUDGET, MOST_BUDGET = 12, 400
RATES = tuple(10.0**exponent for exponent in (-2.5, -1.5, -0.5, 0.5, 1.5))
_STEPS, _FEW_STEPS = (0.5, -0.5, 0.25, -0.25), (0.5, -0.5)
_AROUND, _FEW_AROUND = (0.75, 1.25, 2.2), (1.0,)
_FEW = 24  # a budget below it is for a first look
LEAST_PENALTY, MOST_PENALTY = 0.05, 200.0
_MOST_COUNT = 60.0
_POWER, _SLOWER, _SLOWER_RATES = 0.5, 0.25, (1.5, 4.0)

# Gives stages of configurations, is sent the log loss of each (infinity where it failed).
Search = Generator[list[Configuration], Sequence[float], None]


def search(method: Method, budget: int, events: int, scale: float) -> Search:
    """At most ``budget`` configurations; ``scale`` is the size of a typical feature value."""
    power = _POWER if method.power is not None else None
    tried = [method.configuration(rate, 0.0, events, power) for rate in RATES]
    losses = list((yield tried))
    stage = _refined(method, _best(tried, losses), budget, events)
    tried, losses = tried + stage, [*losses, *(yield stage)]
    best = _best(tried, losses)
    around = _FEW_AROUND if budget < _FEW else _AROUND
    penalties = _penalties(method, (budget - len(tried)) // len(around), scale)
    rates = [_rounded(best.rate * factor) for factor in around]
    yield [method.configuration(r, p, events, best.power) for r in rates for p in penalties]


def _refined(method: Method, best: Configuration, budget: int, events: int) -> list[Configuration]:
    exponents = _FEW_STEPS if budget < _FEW or method.power is not None else _STEPS
    stage = [method.configuration(_rounded(best.rate * 10**e), 0.0, events, best.power) for e in exponents]
    if method.power is not None and budget >= _FEW:
        # The rate that has fallen as far at the end of the events.
        same = best.rate * events ** (_SLOWER - _POWER)
        rates = [_rounded(same * factor) for factor in _SLOWER_RATES]
        stage += [method.configuration(rate, 0.0, events, _SLOWER) for rate in rates]
    return stage


def _best(tried: Sequence[Configuration], losses: Sequence[float]) -> Configuration:
    return tried[min(range(len(tried)), key=lambda i: losses[i])]


def _penalties(method: Method, count: int, scale: float) -> list[float]:
    """``count`` different penalties, equal steps apart on a logarithmic scale."""
    if method.scale == COUNT:
        found = [float(k) for k in range(1, count + 1)]
        for i, k in enumerate(_spread(1.0, max(_MOST_COUNT, 2.0 * count), count)):
            found[i] = max(found[i], float(round(k)))
        return found
    return [_rounded(scale / method.strength * p) for p in _spread(LEAST_PENALTY, MOST_PENALTY, count)]


def _spread(least: float, most: float, count: int) -> list[float]:
    step = math.log(most / least) / max(1, count - 1)
    return [least * math.exp(i * step) for i in range(count)]


def _rounded(value: float) -> float:
    """Three digits: what is printed is what was tried."""
    return float(f"{value:.3g}")
