"""NameCollector: names what a learner has learned, from the events at hand, in a share of its time.

A slot is a hash and cannot be read backwards, but the events go by again: after a step has been
learned, the rows that hold slots with a weight and no name, the largest weight first, are read once
more in plain Python. That takes a small share of the processor time of learning, and nothing that
is learned depends on it. A slot that turns up with another name is shared, and gets both.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import CorruptFileError
from ftrl_engine.learners.base import Learner
from ftrl_engine.naming import Feature
from ftrl_engine.schema import Schema
from streams.codecs.base import Codec
from streams.name_store import NameStore, Slots
from streams.names import Names
from streams.pipeline import Step

# Of the processor time since the beginning; of all time, where a slow stream needs few processors;
# and what a run may take in all even if that is less: at its end, so that short runs have names too.
SHARE, IDLE_SHARE = 0.025, 0.005
END_SECONDS = 0.15
# A visit is worth its overhead from here on, and others wait for it no longer than this.
_LEAST_SECONDS, _MOST_SECONDS = 0.002, 0.02
_SAMPLE_ROWS, _LAST_ROWS = 256, 1024
_SHARING_SECONDS = 0.02  # for slots that are shared, at the end of a run
_SAVE_SECONDS = 10.0
# A thread that gives up the interpreter's lock for moments and takes it back at once starves the others: the
# end of a run would wait for names. So it stays away for a moment after each row.
_LET_OTHERS_SECONDS = 1e-5


class NameCollector:
    """Fills a store with the names of what ``learner`` learns; one thread.

    path   where the names are written, and were written by an earlier run
    warn   is told once where naming fails; learning goes on without it
    clock  seconds that only grow
    """

    def __init__(
        self,
        learner: Learner,
        store: NameStore,
        path: Path,
        owner: tuple[Schema, int],
        warn: Callable[[str], None] = lambda message: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store = store
        self._learner, self._path, self._owner = learner, path, owner
        self._warn, self._clock = warn, clock
        self._started = self._saved = clock()
        self._busy_before = time.process_time()
        self._spent = 0.0
        self._last: tuple[Step, Codec] | None = None
        self._turn = 0
        self._loaded = self._changed = self._failed = self._finishing = False

    def see(self, step: Step, codec: Codec) -> None:
        """A step has been learned: name some of it if there is time."""
        self._last = step, codec
        allowed = self._allowance()
        if allowed >= _LEAST_SECONDS:
            self._visit(step, codec, min(allowed, _MOST_SECONDS), _SAMPLE_ROWS, known=1)

    def save_if_due(self) -> None:
        """Write the names now and then, if there are new ones; never raises."""
        if self._clock() - self._saved >= _SAVE_SECONDS:
            self._guard(self._save)

    def finish(self) -> None:
        """The run is over: name what the last step holds, and write; never raises.

        May run beside the thread that saves the model.
        """
        self._finishing = True
        if self._last is not None:
            # It is over as soon as nothing is left to name; then some rows show which slots are shared.
            rows = len(self._last[0].batch)
            self._visit(*self._last, max(self._allowance(), END_SECONDS - self._spent), rows, known=0)
            sharing = min(END_SECONDS, _SHARING_SECONDS)
            self._visit(*self._last, max(self._allowance(), sharing), _LAST_ROWS, known=_LAST_ROWS)
            self._last = None
            self._guard(self._save)

    def _allowance(self) -> float:
        busy = time.process_time() - self._busy_before
        return max(SHARE * busy, IDLE_SHARE * (self._clock() - self._started)) - self._spent

    def _visit(self, step: Step, codec: Codec, seconds: float, rows: int, known: int) -> None:
        # This thread's own time: a busy machine must not make names scarce.
        began = time.thread_time()
        self._guard(partial(self._name, step, codec, began + seconds, rows, known))
        self._spent += time.thread_time() - began

    def _guard(self, work: Callable[[], None]) -> None:
        """Names are advice: whatever is wrong with them must not end learning."""
        if self._failed:
            return
        try:
            work()
        except Exception as error:
            self._failed = True
            self._warn(f"features get no more names in this run: {error!r}")

    def _load(self) -> None:
        """What an earlier run has written."""
        self._loaded = True
        try:
            self.store.take(Names.load(self._path, *self._owner))
        except FileNotFoundError:
            return
        except CorruptFileError as error:
            self._warn(f"{error}; collecting names anew")

    def _save(self) -> None:
        self._saved, began = self._clock(), time.thread_time()
        if self._loaded and self._changed:
            self.store.names().save(self._path, *self._owner)
            self._changed = False
        self._spent += time.thread_time() - began

    def _name(self, step: Step, codec: Codec, until: float, most: int, known: int) -> None:
        """Name rows of the step until this thread has worked ``until``, the most wanted first.

        ``known`` rows are read though they hold nothing new: they may show that a slot is shared.
        """
        if not self._loaded:
            self._load()
        self.store.make_room(self._learner.weights_at)
        rows = len(step.batch)
        first = self._turn % max(1, rows - most + 1)
        self._turn += most
        part = step.batch.rows(first, min(rows, first + most))
        sizes = np.abs(self._learner.weights_at(part.slots))
        wanted = np.where(self._is_wanted(part.slots, sizes), sizes, 0.0)
        filled = np.flatnonzero(np.diff(part.indptr))
        best = np.maximum.reduceat(wanted, part.indptr[filled]) if len(filled) else np.empty(0)
        order = np.argsort(-best, kind="stable")
        for row in filled[order].tolist():
            of_row = slice(int(part.indptr[row]), int(part.indptr[row + 1]))
            if not self._is_wanted(part.slots[of_row], sizes[of_row]).any():
                if known == 0:
                    continue
                known -= 1
            learned = dict(zip(part.slots[of_row].tolist(), sizes[of_row].tolist(), strict=True))
            self._name_row(codec.features(step.block, int(step.records[first + row])), learned)
            if self._finishing:
                time.sleep(_LET_OTHERS_SECONDS)
            if time.thread_time() >= until:
                return

    def _is_wanted(self, slots: Slots, sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
        """bool[len(slots)], whether a slot with a weight of this size should get a name."""
        wanted: NDArray[np.bool_] = (sizes > self.store.floor) & ~self.store.named(slots)
        return wanted

    def _name_row(self, features: list[Feature], learned: dict[int, float]) -> None:
        for feature in features:
            if learned.get(feature.slot, 0.0) > self.store.floor:
                self._changed |= self.store.add(feature.slot, feature.name)
