"""Charts as data: what is drawn, apart from how."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

Point = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Series:
    """One contender in one chart.

    place   its place among all contenders, which is its colour and marker everywhere
    points  (x, y) in rising order of x; band: (x, low, high) of some of them
    join    how points are joined: solid, dashed or none
    """

    name: str
    title: str
    place: int
    points: Sequence[Point]
    band: Sequence[tuple[float, float, float]] = ()
    markers: bool = False
    join: str = "solid"


@dataclass(frozen=True, slots=True)
class Axis:
    """Label with its unit, range and scale."""

    label: str
    least: float
    most: float
    log: bool = False

    def share(self, value: float) -> float:
        """Where a value lies between the ends, 0 to 1; beyond them it is outside of [0, 1]."""
        if self.log:
            return math.log(max(value, 1e-300) / self.least) / math.log(self.most / self.least)
        return (value - self.least) / (self.most - self.least)

    def ticks(self, count: int = 5) -> list[float]:
        """Round values within the range, about ``count`` of them."""
        if self.log:
            return _log_ticks(self.least, self.most)
        step = _round_step((self.most - self.least) / count)
        first = math.ceil(self.least / step - 1e-9)
        last = math.floor(self.most / step + 1e-9)
        return [i * step for i in range(first, last + 1)]


@dataclass(frozen=True, slots=True)
class Chart:
    """name is that of its files; text explains it to someone who sees it for the first time.

    levels    (y, words) of horizontal lines
    diagonal  whether a line y = x shows what would be perfect
    right     (label, factor): a second scale of y * factor on the right
    """

    name: str
    title: str
    text: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    levels: Sequence[tuple[float, str]] = ()
    diagonal: bool = False
    right: tuple[str, float] | None = None


@dataclass(frozen=True, slots=True)
class Bar:
    """One row of a forest: (value, low, high), each None where it is infinite, and words instead of them."""

    title: str
    place: int
    filled: tuple[float, float | None, float | None] | None
    hollow: tuple[float, float | None, float | None] | None
    words: str


@dataclass(frozen=True, slots=True)
class Forest:
    """Ratios with their intervals, one row a contender, on a logarithmic scale around 1."""

    name: str
    title: str
    text: str
    x: Axis
    bars: Sequence[Bar] = field(default_factory=list)


def tick_label(value: float) -> str:
    """Thousands as k and millions as M; no digits that say nothing."""
    if value == 0:
        return "0"
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.4g}{unit}"
    return f"{value:.4g}"


def padded(values: Iterable[float], share: float = 0.05) -> tuple[float, float]:
    """The range of the values and a little more."""
    known = list(values)
    least, most = min(known), max(known)
    room = (most - least) * share or abs(least) * share or 1.0
    return least - room, most + room


def _round_step(step: float) -> float:
    size = 10.0 ** math.floor(math.log10(step))
    return next(size * factor for factor in (1, 2, 2.5, 5, 10) if size * factor >= step * (1 - 1e-9))


def _log_ticks(least: float, most: float) -> list[float]:
    decades = math.log10(most / least)
    factors = (1, 2, 5) if decades < 2.5 else (1, 3) if decades < 4 else (1,)
    low, high = math.floor(math.log10(least)), math.ceil(math.log10(most))
    ticks = [f * 10.0**k for k in range(low, high + 1) for f in factors]
    return [tick for tick in ticks if least * (1 - 1e-9) <= tick <= most * (1 + 1e-9)]
