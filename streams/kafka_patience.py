"""How long a silent broker is waited for, and what is said meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import NoReturn

from ftrl_engine.errors import SourceError, SourceUnavailableError

RETRY_SECONDS = 1.0
WARN_SECONDS = 10.0
_log = logging.getLogger(__name__)


class Patience:
    """Counts the seconds since a broker last answered; warns at once, then every ten seconds.

    give_up_after  seconds
    """

    def __init__(
        self, uri: str, give_up_after: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> None:
        self._uri, self._limit = uri, give_up_after
        self._clock, self._sleep = clock, sleep
        self._answered_at = clock()
        self._warned_at: float | None = None

    def answered(self) -> None:
        """A broker has just answered."""
        self._answered_at = self._clock()
        if self._warned_at is not None:
            self._warned_at = None
            _log.warning("%s: answers again", self._uri)

    @property
    def exhausted(self) -> bool:
        """Whether the time is over."""
        return self._clock() - self._answered_at > self._limit

    def wait(self, error: SourceError) -> None:
        """Sleep before another try; SourceUnavailableError when the time is over."""
        left = self._answered_at + self._limit - self._clock()
        if left <= 0:
            self.give_up(error)
        self._warn(f"{self._named(error)}; trying again for {left:.0f} s")
        self._sleep(min(left, RETRY_SECONDS))

    def bear(self, error: SourceError) -> None:
        """Warn of an answer that does not come; a healthy broker may leave out one."""
        silent = self._clock() - self._answered_at
        if silent > RETRY_SECONDS:
            self._warn(f"{self._named(error)}; no answer for {silent:.0f} s, trying on")

    def give_up(self, error: SourceError) -> NoReturn:
        """Raise the final error."""
        raise SourceUnavailableError(f"{self._named(error)}; given up after {self._limit:g} s") from None

    def _warn(self, text: str) -> None:
        if self._warned_at is None or self._clock() - self._warned_at >= WARN_SECONDS:
            self._warned_at = self._clock()
            _log.warning("%s", text)

    def _named(self, error: SourceError) -> str:
        text = str(error)
        return text if text.startswith(self._uri) else f"{self._uri}: {text}"
