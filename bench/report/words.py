"""Numbers and names as people read them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from bench.comparison.summary import factor

Interval = Sequence[float | None]


def times(ratio: Mapping[str, Any]) -> str:
    """``3.0 × [1.8, 3.9]``; only where there is a ratio."""
    return f"{factor(ratio['ratio'])} × {between(ratio['interval'])}"


def between(interval: Interval) -> str:
    """``[1.8, 3.9]``."""
    low, high = interval
    return f"[{factor(low)}, {factor(high)}]"


def loss(value: float | None) -> str:
    """A log loss or an area: enough digits to tell contenders apart."""
    if value is None:
        return "–"
    return f"{value:.4f}" if abs(value) >= 0.1 else f"{value:.5f}"


def loss_between(interval: Interval) -> str:
    """The interval of a log loss or a difference."""
    low, high = interval
    return f"[{loss(low)}, {loss(high)}]"


def count(value: float | None) -> str:
    """A whole number with its thousands apart."""
    return "–" if value is None else f"{round(value):,}"


def listed(names: Sequence[str]) -> str:
    """``a, b and c``."""
    if len(names) < 2:
        return "".join(names)
    return ", ".join(names[:-1]) + " and " + names[-1]


def settings(values: Mapping[str, Any]) -> str:
    """``alpha 0.075, l1 1.12``."""
    return ", ".join(
        f"{name} {value:.4g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in values.items()
    )


def percent(value: float | None) -> str:
    """A share of one, three digits."""
    return "–" if value is None else f"{100 * value:.3g} %"


def size(value: float | None) -> str:
    """Bytes."""
    if value is None:
        return "–"
    for unit, bytes_ in (("MB", 1e6), ("kB", 1e3)):
        if value >= bytes_:
            return f"{value / bytes_:.3g} {unit}"
    return f"{value:.0f} bytes"
