"""History: samples of the last minutes, so that a page that is opened now can show them.

With several workers each keeps its own, of the counts that they share; all take their samples at
the same seconds of the clock, so one continues where another one has left off.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Mapping

import msgspec

from serving.metrics import Metrics
from serving.store import Served

STEP_SECONDS = 1.0
KEPT = 300
EARLY = 0.05  # of a step


class Sample(msgspec.Struct, array_like=True):
    """What was counted until ``time`` (seconds since 1970), and the model that was served then.

    scored      requests for scores; latencies: the same by their time, see serving.metrics.BUCKETS
    rows        of the model; learned_rows, log_loss, calibration and label_mean are its progressive
                metrics. All of the model are None where there is none
    """

    time: float
    scored: float
    errors: float
    candidates: float
    scores: float
    unknown: float
    missing: float
    latencies: list[float]
    rows: int | None = None
    age: float | None = None
    nonzero_weights: int | None = None
    learned_rows: float | None = None
    log_loss: float | None = None
    calibration: float | None = None
    label_mean: float | None = None

    @classmethod
    def of(cls, now: float, metrics: Metrics, served: Served | None) -> Sample:
        """The sample of this moment."""
        totals = metrics.totals()
        sample = cls(
            now, sum(totals.latencies), totals.errors, totals.candidates, round(totals.scores, 6),
            totals.unknown, totals.missing, totals.latencies,
        )  # fmt: skip
        if served is not None:
            snapshot = served.snapshot
            sample.rows, sample.nonzero_weights = snapshot.rows, len(snapshot.slots)
            sample.age = round(served.age(now), 3)
            learned = snapshot.provenance.get("metrics")
            if isinstance(learned, Mapping):
                sample.learned_rows = _number(learned.get("rows"))
                sample.log_loss = _number(learned.get("log_loss"))
                sample.calibration = _number(learned.get("calibration"))
                sample.label_mean = _number(learned.get("label_mean"))
        return sample


class History:
    """Calls ``take`` with the time every ``step`` seconds of ``clock``; keeps the last ``kept`` samples."""

    def __init__(
        self,
        take: Callable[[float], Sample],
        clock: Callable[[], float],
        step: float = STEP_SECONDS,
        kept: int = KEPT,
    ) -> None:
        self.step = step
        self._take, self._clock = take, clock
        self._samples: deque[Sample] = deque(maxlen=kept)
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Take samples on the running event loop until :meth:`stop`."""
        self.stop()
        self._next(asyncio.get_running_loop())

    def stop(self) -> None:
        """Take no more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def after(self, time: float) -> list[Sample]:
        """The samples that are younger than ``time``, the oldest first."""
        return [sample for sample in self._samples if sample.time > time]

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        now = self._clock()
        # A timer may fire a little early; that is already its second.
        at = math.floor(now / self.step + EARLY) * self.step
        if not self._samples or at > self._samples[-1].time:
            self._samples.append(self._take(at))
        self._timer = loop.call_later(max(0.1 * self.step, at + self.step - now), self._next, loop)


def _number(value: object) -> float | None:
    return value if isinstance(value, int | float) else None
