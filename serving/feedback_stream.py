"""FeedbackStream: events of many requests, durable in a stream by one write and one sync for all that wait.

There is one for a server, because a log has one writer and ids are told apart in one place.
"""

from __future__ import annotations

import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ftrl_engine.errors import ConfigError, FtrlError
from serving.feedback_ids import IdWindow
from serving.server_state import FeedbackState
from streams.log_segments import segments
from streams.sink import Sink, open_sink, scheme_of

DEFAULT_WINDOW = 100_000
# Of what waits for the next write.
MAX_WAITING_BYTES = 64 << 20
MAX_WAITING = 10_000
_FIRST_OPEN_SECONDS, _AGAIN_SECONDS, _CLOSE_SECONDS = 5.0, 0.5, 30.0

# A record's key (None: it has no id) and its line.
Item = tuple[bytes | None, bytes]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request: which of its events were known already, or why nothing is certain.

    full  too much waits already, so nothing of it is stored
    """

    duplicates: Sequence[int] = ()
    error: str | None = None
    full: bool = False


Deliver = Callable[[list[tuple[Any, Outcome]]], None]


class Full(Exception):
    """Too much waits already."""


class FeedbackStream:
    """Writes to ``destination`` in a thread; ``deliver`` is called by it with tickets and outcomes.

    options  of a kafka:// destination
    window   so many ids are remembered
    state    what is wrong with the destination is kept there
    """

    def __init__(
        self,
        destination: str,
        options: Mapping[str, str] | None,
        window: int,
        state: FeedbackState,
        deliver: Deliver,
    ) -> None:
        if scheme_of(destination) not in ("log", "kafka"):
            raise ConfigError(f"--feedback must be log:DIR or kafka://HOST:PORT/TOPIC, got {destination!r}")
        if not 1 <= window <= 10_000_000:
            raise ConfigError(f"--feedback-window must be between 1 and 10000000 ids, got {window}")
        self._destination, self._options = destination, options
        self._window = window
        self._state = state
        self._deliver = deliver
        self._ids = IdWindow(window)
        self._sink: Sink | None = None
        self._opened = threading.Event()
        self._failure: Exception | None = None
        self._not_before = 0.0
        self._waiting: deque[tuple[Any, Sequence[Item]]] = deque()
        self._bytes = 0
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._run, name="ftrl-feedback", daemon=True)

    def start(self) -> None:
        """Open the destination; raises what is wrong with it, unless that may pass or takes long to tell."""
        self._thread.start()
        self._opened.wait(_FIRST_OPEN_SECONDS)
        failure = self._failure
        if failure is not None and not getattr(failure, "retriable", False):
            self.close()
            raise failure

    def submit(self, ticket: Any, items: Sequence[Item]) -> None:
        """Let events be written in their order; never waits. Full says that too much waits."""
        size = sum(len(line) for _, line in items)
        with self._changed:
            if self._closing or len(self._waiting) >= MAX_WAITING or self._bytes + size > MAX_WAITING_BYTES:
                raise Full
            self._waiting.append((ticket, items))
            self._bytes += size
            self._changed.notify()

    def close(self) -> None:
        """Write what waits, and end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        try:
            self._open()
        except (FtrlError, OSError) as error:
            self._failure = error
            self._give_up(error)
        self._opened.set()
        while True:
            with self._changed:
                while not self._waiting and not self._closing:
                    self._changed.wait()
                batch = list(self._waiting)
                self._waiting.clear()
                self._bytes = 0
            if not batch:
                break
            self._deliver(self._commit(batch))
        self._drop()

    def _commit(self, batch: list[tuple[Any, Sequence[Item]]]) -> list[tuple[Any, Outcome]]:
        """Write the events of all requests; returns when they are durable, or nothing is certain."""
        try:
            if self._sink is None:
                if time.monotonic() < self._not_before:
                    return _failed(batch, self._state.error or "it is being opened")
                self._open()
            assert self._sink is not None
            outcomes, lines, keys = self._sort(batch)
            if lines:
                self._sink.append(b"".join(lines))
                self._sink.flush()
        except (FtrlError, OSError) as error:
            self._give_up(error)
            return _failed(batch, str(error))
        for key in keys:
            self._ids.add(key)
        self._state.error = None
        return outcomes

    def _sort(
        self, batch: list[tuple[Any, Sequence[Item]]]
    ) -> tuple[list[tuple[Any, Outcome]], list[bytes], dict[bytes, None]]:
        """(outcomes if all goes well, lines to write, keys that are new)."""
        lines: list[bytes] = []
        fresh: dict[bytes, None] = {}
        outcomes = []
        for ticket, items in batch:
            duplicates = []
            for number, (key, line) in enumerate(items):
                if key is not None and (key in fresh or key in self._ids):
                    duplicates.append(number)
                    continue
                lines.append(line)
                if key is not None:
                    fresh[key] = None
            outcomes.append((ticket, Outcome(duplicates)))
        return outcomes, lines, fresh

    def _open(self) -> None:
        """Open the destination, and know the ids in it where it can be read back."""
        self._sink = open_sink(self._destination, self._options)
        if scheme_of(self._destination) == "log":
            directory = Path(self._destination.removeprefix("log:")).expanduser()
            _sync_newest(directory)
            self._ids = IdWindow.of_log(directory, self._window)
        self._state.error = None

    def _give_up(self, error: Exception) -> None:
        """After an error nothing is known of the destination's end: open it anew, in a while."""
        self._drop()
        self._state.error = str(error)
        self._not_before = time.monotonic() + _AGAIN_SECONDS

    def _drop(self) -> None:
        sink, self._sink = self._sink, None
        if sink is not None:
            with suppress(FtrlError, OSError):
                sink.close()


def _failed(batch: list[tuple[Any, Sequence[Item]]], why: str) -> list[tuple[Any, Outcome]]:
    return [(ticket, Outcome(error=why)) for ticket, _ in batch]


def _sync_newest(directory: Path) -> None:
    """Records whose writer died before its sync count as known ids, so they must be durable too."""
    for _, path in segments(directory)[-1:]:
        with path.open("rb+") as file:
            os.fsync(file.fileno())
