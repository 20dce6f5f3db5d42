"""How often something is done: every so many seconds, or every so many rows."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ftrl_engine.errors import ConfigError

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_PATTERN = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|rows)")


def parse_duration(text: str, name: str = "duration") -> float:
    """Seconds of ``500ms``, ``30s``, ``5m`` or ``1h``."""
    cadence = Cadence.parse(text, name)
    if cadence.rows:
        raise ConfigError(f"{name} must be a duration such as 500ms, 30s or 5m, got {text!r}")
    return cadence.seconds


@dataclass(frozen=True, slots=True)
class Cadence:
    """Either seconds or rows is positive, the other 0."""

    seconds: float = 0.0
    rows: int = 0

    @classmethod
    def parse(cls, text: str, name: str = "cadence") -> Cadence:
        """``500ms``, ``30s``, ``5m``, ``1h`` or ``100000rows``."""
        match = _PATTERN.fullmatch(text.strip().lower())
        if match is None or float(match[1]) <= 0:
            raise ConfigError(f"{name} must be like 500ms, 30s, 5m or 100000rows and above 0, got {text!r}")
        if match[2] != "rows":
            return cls(seconds=float(match[1]) * _UNITS[match[2]])
        if "." in match[1]:
            raise ConfigError(f"{name} must be a whole number of rows, got {text!r}")
        return cls(rows=int(match[1]))


class Timer:
    """Says when something with a cadence is due; every start counts from the last time it was done."""

    def __init__(self, cadence: Cadence, now: float, rows: int) -> None:
        self._cadence = cadence
        self.restart(now, rows)

    def restart(self, now: float, rows: int) -> None:
        """It has just been done."""
        self._time, self._rows = now, rows

    def due(self, now: float, rows: int) -> bool:
        """Whether it should be done now; never without a new row."""
        if rows == self._rows:
            return False
        if self._cadence.rows:
            return self.rows_left(rows) <= 0
        return now - self._time >= self._cadence.seconds

    def rows_left(self, rows: int) -> int:
        """How many rows may be learned before it is due by rows (many, where time decides)."""
        if not self._cadence.rows:
            return 1 << 62
        return self._rows - self._rows % self._cadence.rows + self._cadence.rows - rows
