"""The events of the demo: a thread that writes simulated clicks to a log and knows the truth."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np

from streams.click_events import BestLogLoss, Events
from streams.event_log import LogWriter
from streams.simulate import ClickStream, to_jsonl

BLOCK_ROWS = 8192
# Events written before the pace begins, enough for the commands to compile on.
FIRST_ROWS = 2048
_STEP_SECONDS = 0.02
_POPULAR_ITEMS, _GOOD_TIMES = 20, 5.0


class EventWriter:
    """Writes to the log in ``directory`` at ``rate`` events a second, from :meth:`release` on.

    rows   events written
    error  why writing has ended early, or None
    """

    def __init__(self, directory: Path, stream: ClickStream, rate: float) -> None:
        self.rows = 0
        self.error: BaseException | None = None
        self._directory, self._stream, self._rate = directory, stream, rate
        self._best = BestLogLoss()
        # After how many rows the true probabilities had which log loss in total.
        self._marks: list[tuple[int, float]] = [(0, 0.0)]
        self._block: tuple[int, Events] | None = None
        self._released, self._stopped = threading.Event(), threading.Event()
        self._thread = threading.Thread(target=self._run, name="ftrl-clicks", daemon=True)

    def start(self) -> None:
        """Write the first rows and wait for the release."""
        self._thread.start()

    def release(self) -> None:
        """Go on at the given rate."""
        self._released.set()

    def stop(self) -> None:
        """Write no more; everything written is on disk then."""
        self._stopped.set()
        self._released.set()
        if self._thread.ident is not None:
            self._thread.join()

    def best_log_loss(self, rows: int) -> float | None:
        """The log loss of the true probabilities over the first ``rows`` events: nobody can do better."""
        marks = np.array(self._marks)
        if rows <= 0 or len(marks) < 2:
            return None
        return float(np.interp(rows, marks[:, 0], marks[:, 1])) / rows

    def _run(self) -> None:
        try:
            with LogWriter(self._directory) as log:
                self._write(log, FIRST_ROWS)
                self._released.wait()
                started = time.monotonic()
                while not self._stopped.wait(_STEP_SECONDS):
                    due = FIRST_ROWS + int(self._rate * (time.monotonic() - started))
                    # One block at most, so that the end is never far away.
                    self._write(log, min(due - self.rows, BLOCK_ROWS))
        except BaseException as error:
            self.error = error

    def _write(self, log: LogWriter, count: int) -> None:
        while count > 0:
            index, first = divmod(self.rows, BLOCK_ROWS)
            if self._block is None or self._block[0] != index:
                self._block = (index, self._stream.block(index, BLOCK_ROWS))
            events = self._block[1].part(first, min(first + count, BLOCK_ROWS))
            self._best.update(events.label, events.probability)
            # The truth is noted before anybody can learn from the events.
            self._marks.append((self._best.rows, self._best.loss * self._best.rows))
            log.append(to_jsonl(events))
            self.rows += len(events)
            count -= len(events)


def good_event(stream: ClickStream) -> tuple[dict[str, Any], float]:
    """An event much likelier to be clicked than most, without its label, and its true probability.

    Its item is among the popular ones and its user an ordinary one, so that both are soon learned.
    """
    events = stream.block(0, BLOCK_ROWS)
    fit = (events.item_id < _POPULAR_ITEMS) & (stream.effects["user_id"][events.user_id] == 0.0)
    best = int(np.where(fit, abs(events.probability - _GOOD_TIMES * stream.ctr), np.inf).argmin())
    event: dict[str, Any] = json.loads(to_jsonl(events.part(best, best + 1)))
    del event["click"]
    return event, float(events.probability[best])
