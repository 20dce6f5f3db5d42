"""The search for a method's best settings: the same number of configurations for every method.

1. Without a penalty, five rates a decade apart.
2. Half and quarter steps around the best of them; where one rate for all slots falls with time, a
   slower fall takes the place of the quarter steps.
3. Three rates around the best, each with every penalty: the grid that the frontier is drawn from.
4. Penalties between the two points of the frontier where the log loss passes the tolerance, because
   that is where methods are compared.
"""

from __future__ import annotations

import math
from collections.abc import Generator, Sequence
from typing import NamedTuple

import numpy as np

from bench.comparison.frontier import frontier
from bench.comparison.method import COUNT, Configuration, Method

LEAST_BUDGET, MOST_BUDGET = 12, 400
# Methods are shown and compared where they lose this share of their lowest log loss.
TOLERANCE = 0.005
RATES = tuple(10.0**exponent for exponent in (-2.5, -1.5, -0.5, 0.5, 1.5))
_STEPS, _FEW_STEPS = (0.5, -0.5, 0.25, -0.25), (0.5, -0.5)
_AROUND, _FEW_AROUND = (0.75, 1.25, 2.2), (1.0,)
_BETWEEN, _FEW_BETWEEN = 6, 1
_FEW = 24  # a budget below it is for a first look
LEAST_PENALTY, MOST_PENALTY = 0.05, 200.0
_MOST_COUNT = 60.0
_POWER, _SLOWER, _SLOWER_RATES = 0.5, 0.25, (1.5, 4.0)


class Found(NamedTuple):
    """What came of a configuration; log_loss is infinite where it failed."""

    log_loss: float
    nonzeros: float


# Gives stages of configurations, is sent what came of each.
Search = Generator[list[Configuration], Sequence[Found], None]


def search(method: Method, budget: int, events: int, scale: float, tolerance: float = TOLERANCE) -> Search:
    """At most ``budget`` configurations; ``scale`` is the size of a typical feature value."""
    power = _POWER if method.power is not None else None
    tried = [method.configuration(rate, 0.0, events, power) for rate in RATES]
    found = list((yield tried))
    stage = _refined(method, _best(tried, found), budget, events)
    tried, found = tried + stage, [*found, *(yield stage)]
    best = _best(tried, found)
    around, between = (_AROUND, _BETWEEN) if budget >= _FEW else (_FEW_AROUND, _FEW_BETWEEN)
    penalties = _penalties(method, (budget - len(tried) - between) // len(around), scale)
    rates = [_rounded(best.rate * factor) for factor in around]
    stage = [method.configuration(r, p, events, best.power) for r in rates for p in penalties]
    tried, found = tried + stage, [*found, *(yield stage)]
    yield _between(method, tried, found, budget - len(tried), events, tolerance)


def _refined(method: Method, best: Configuration, budget: int, events: int) -> list[Configuration]:
    exponents = _FEW_STEPS if budget < _FEW or method.power is not None else _STEPS
    stage = [method.configuration(_rounded(best.rate * 10**e), 0.0, events, best.power) for e in exponents]
    if method.power is not None and budget >= _FEW:
        # The rate that has fallen as far at the end of the events.
        same = best.rate * events ** (_SLOWER - _POWER)
        rates = [_rounded(same * factor) for factor in _SLOWER_RATES]
        stage += [method.configuration(rate, 0.0, events, _SLOWER) for rate in rates]
    return stage


def _between(
    method: Method, tried: Sequence[Configuration], found: Sequence[Found], count: int, events: int,
    tolerance: float,
) -> list[Configuration]:  # fmt: skip
    """``count`` more, with penalties and rates around where the frontier passes the tolerance."""
    losses = np.array([one.log_loss for one in found])
    kept = frontier(np.array([one.nonzeros for one in found]), losses)
    if not len(kept):
        return []
    sparse = int(np.searchsorted(-losses[kept], -losses.min() * (1.0 + tolerance)))
    ends = [tried[kept[max(0, sparse - 1)]], tried[kept[sparse]]]
    high, low = (max(end.penalty, LEAST_PENALTY / method.strength) for end in ends)
    least, most = sorted(end.rate for end in ends)
    each = _spread(low, high, -(-count // 2) + 2)[1:-1]
    penalties = [float(round(p)) if method.scale == COUNT else _rounded(p) for p in each]
    known = {one.key() for one in tried}
    stage: dict[str, Configuration] = {}
    # The first two rates take what there is, unless whole numbers leave too few penalties.
    for rate in (
        least,
        most,
        _rounded(math.sqrt(least * most)),
        _rounded(0.85 * least),
        _rounded(1.15 * most),
    ):
        for penalty in penalties:
            one = method.configuration(rate, penalty, events, ends[0].power)
            if one.key() not in known:
                stage.setdefault(one.key(), one)
    return list(stage.values())[:count]


def _best(tried: Sequence[Configuration], found: Sequence[Found]) -> Configuration:
    return tried[min(range(len(tried)), key=lambda i: found[i].log_loss)]


def _penalties(method: Method, count: int, scale: float) -> list[float]:
    """``count`` different penalties, equal steps apart on a logarithmic scale."""
    if method.scale == COUNT:
        spread = _spread(1.0, max(_MOST_COUNT, 2.0 * count), count)
        return [max(float(i + 1), float(round(k))) for i, k in enumerate(spread)]
    least, most = LEAST_PENALTY / method.strength, MOST_PENALTY / method.strength
    return [_rounded(scale * p) for p in _spread(least, most, count)]


def _spread(least: float, most: float, count: int) -> list[float]:
    step = math.log(most / least) / max(1, count - 1)
    return [least * math.exp(i * step) for i in range(count)]


def _rounded(value: float) -> float:
    """Three digits: what is printed is what was tried."""
    return float(f"{value:.3g}")
