"""NameCollector: names what a learner has learned, from the events at hand, in a share of its time.

A slot is a hash and cannot be read backwards, but the events go by again: after a step has been
learned, slots with a weight and no name, the largest weight first, are looked up in a row that
holds them, in plain Python. That takes a small share of the processor time of learning, and nothing
that is learned depends on it. A slot that turns up with another name is shared, and gets both.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import CorruptFileError
from ftrl_engine.learners.base import Learner
from ftrl_engine.schema import Schema
from streams.codecs.base import Codec
from streams.name_store import NameStore, Slots
from streams.names import Names
from streams.pipeline import Step
from streams.source import Block

# Of the processor time since the beginning; of all time, where a slow stream needs few processors;
# what a run may take in all even if that is less, so that short runs have names too; and what its end
# may take in any case, for it is where most weights are known.
SHARE, IDLE_SHARE = 0.025, 0.005
RUN_SECONDS = 0.05
END_SECONDS = 0.02
# A visit is worth its overhead from here on, and others wait for it no longer than this.
_LEAST_SECONDS, _MOST_SECONDS = 0.008, 0.02
_SAMPLE_ROWS, _LAST_ROWS, _SHARING_ROWS = 256, 2048, 256
_LAST_FEATURES = 80_000  # in rows looked at together: finding what to name takes time, too
_SHARING_SECONDS = 0.005  # for slots that are shared, at the end of a run
_SAVE_SECONDS = 10.0
# A thread that gives up the interpreter's lock for moments and takes it back at once starves the others: the
# end of a run would wait for names. So it stays away for a moment every now and then.
_REST_EVERY_SECONDS, _REST_SECONDS = 2e-4, 1e-5


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
            end = self._spent + max(self._allowance(), RUN_SECONDS - self._spent, END_SECONDS)
            batch = self._last[0].batch
            rows = max(1, min(_LAST_ROWS, _LAST_FEATURES * len(batch) // max(1, len(batch.slots))))
            for _ in range(0, len(batch), rows):
                if self._spent < end:
                    self._visit(*self._last, end - self._spent, rows, known=0)
            sharing = min(END_SECONDS, _SHARING_SECONDS)
            self._visit(*self._last, max(self._allowance(), sharing), _SHARING_ROWS, known=_SHARING_ROWS)
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
        first = self._turn % max(1, len(step.batch) - most + 1)
        self._turn += most
        part = step.batch.rows(first, min(len(step.batch), first + most))
        slots, places = _first_places(part.slots)
        sizes = np.abs(self._learner.weights_at(slots))
        learned = sizes > self.store.floor
        only = set(slots[learned].tolist())
        wanted = np.flatnonzero(learned & ~self.store.named(slots))
        wanted = wanted[np.argsort(-sizes[wanted], kind="stable")]
        rows = np.searchsorted(part.indptr, places[wanted], side="right") - 1
        records = step.records[first : first + len(part)]
        filled = records[np.flatnonzero(np.diff(part.indptr))].tolist()
        near = (places[wanted] - part.indptr[rows]).tolist()
        unnamed = zip(slots[wanted].tolist(), records[rows].tolist(), near, strict=True)
        rested = time.thread_time()
        for names in self._names_of(codec, step.block, unnamed, filled, known, only):
            for slot, name in names:
                self._changed |= self.store.add(slot, name)
            now = time.thread_time()
            if now >= until:
                return
            if self._finishing and now >= rested + _REST_EVERY_SECONDS:
                time.sleep(_REST_SECONDS)
                rested = now

    def _names_of(
        self,
        codec: Codec,
        block: Block,
        unnamed: Iterable[tuple[int, int, int]],
        records: list[int],
        known: int,
        only: set[int],
    ) -> Iterator[list[tuple[int, str]]]:
        """What each look at a record finds: first the names of its (slot, record, place) without one.

        Then those of other whole records, ``known`` of them, which show that a slot is shared.
        """
        places: dict[int, list[tuple[int, int]]] = {}
        for slot, record, place in unnamed:
            places.setdefault(record, []).append((slot, place))

        def all_of(record: int) -> list[tuple[int, str]]:
            return [(feature.slot, feature.name) for feature in codec.features(block, record, only)]

        for record, wanted in places.items():
            wanted = [one for one in wanted if one[0] not in self.store]
            if wanted:
                names = codec.names_near(block, record, wanted)
                yield all_of(record) if names is None else names
        yield from map(all_of, islice((record for record in records if record not in places), known))


def _first_places(slots: Slots) -> tuple[Slots, NDArray[np.int64]]:
    """The different slots, rising, and where each of them stands first."""
    # numpy.unique sorts indirectly, which takes three times as long.
    keys = slots.astype(np.uint64)
    keys <<= 32
    keys |= np.arange(len(slots), dtype=np.uint64)
    keys.sort()
    sorted_slots = (keys >> 32).astype(np.uint32)
    first = np.flatnonzero(np.diff(sorted_slots, prepend=~sorted_slots[:1]))
    return sorted_slots[first], (keys[first] & 0xFFFFFFFF).astype(np.int64)
