"""Restarts: how long to wait before a process that has ended is started again."""

from __future__ import annotations

from collections import deque

_MINUTE = 60.0


class Restarts:
    """Waits ``first`` seconds, then twice as long each time, at most ``most``.

    A process that has run for ``calm`` seconds begins anew. At most ``per_minute`` restarts fall into
    any minute.
    """

    def __init__(
        self, first: float = 0.1, most: float = 10.0, calm: float = 30.0, per_minute: int = 20
    ) -> None:
        self._first, self._most, self._calm = first, most, calm
        self._wait = first
        self._times: deque[float] = deque(maxlen=per_minute)

    def due(self, started: float, now: float) -> float:
        """When to start again what began at ``started`` and has ended ``now``; seconds on one clock."""
        if now - started >= self._calm:
            self._wait = self._first
        at = now + self._wait
        self._wait = min(2 * self._wait, self._most)
        if len(self._times) == self._times.maxlen:
            at = max(at, self._times[0] + _MINUTE)
        self._times.append(at)
        return at
