"""How long it will still take."""

from __future__ import annotations

import time
from collections.abc import Callable

_LEAST_SHARE = 0.02


class Remaining:
    """Adds the remaining time of each part of the work to its line of progress."""

    def __init__(
        self, show: Callable[[str, float | None], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._show = show
        self._clock = clock
        self._started: dict[str, float] = {}

    def show(self, text: str, share: float) -> None:
        """``share`` of the part called ``text`` is done."""
        now = self._clock()
        elapsed = now - self._started.setdefault(text, now)
        left = ""
        if _LEAST_SHARE <= share < 1.0:
            left = f"  about {duration(elapsed * (1.0 - share) / share)} left"
        self._show(f"{text}: {100 * share:.0f} %{left}", share)


def duration(seconds: float) -> str:
    """Seconds below two minutes, minutes above."""
    return f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
