"""Reading and encoding in a thread of their own, beside the learner.

The thread polls the source and runs the codec, whose kernels release the interpreter's
lock, so two cores work at once. Results do not depend on it: steps come out in the order
of the source, through a queue of bounded length.
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from streams.codecs.base import Codec
from streams.source import Block, Refusal, Source

QUEUE_STEPS = 4
_POLL_SECONDS = 0.05


@dataclass(frozen=True, slots=True)
class Step:
    """Rows ready to learn, with where they stand.

    block, records  the block and int64[rows], which of its records each row comes from
    ends     int64[rows], the position after each row's record
    refused  the records among and between them that are refused, by position
    first    the position of the first record; next: the position after the step
    bytes    of input
    """

    partition: str
    batch: Batch
    block: Block
    records: NDArray[np.int64]
    ends: NDArray[np.int64]
    refused: tuple[Refusal, ...]
    first: int
    next: int

    def cut(self, rows: int) -> Step:
        """The first ``rows`` rows (at least one) and the refused records before their end."""
        end = int(self.ends[rows - 1])
        refused = tuple(r for r in self.refused if r.position < end)
        batch = self.batch.rows(0, rows)
        return replace(
            self, batch=batch, records=self.records[:rows], ends=self.ends[:rows], refused=refused, next=end
        )

    def rest(self, rows: int) -> Step:
        """What :meth:`cut` leaves."""
        end = int(self.ends[rows - 1])
        refused = tuple(r for r in self.refused if r.position >= end)
        batch = self.batch.rows(rows, len(self.batch))
        return replace(
            self, batch=batch, records=self.records[rows:], ends=self.ends[rows:], refused=refused, first=end
        )


def steps_of(codec: Codec, block: Block) -> Iterator[Step]:
    """The block as steps; the source's own refusals join the step they fall into."""
    refused = list(block.refused)
    first = block.first
    for part in codec.encode(block):
        last = part.stop == len(block)
        end = block.next if last else int(block.positions[part.stop - 1])
        own = [r for r in refused if last or r.position < end]
        refused = [r for r in refused if not last and r.position >= end]
        together = sorted((*part.refused, *own), key=lambda r: r.position)
        ends = block.positions[part.records]
        yield Step(block.partition, part.batch, block, part.records, ends, tuple(together), first, end)
        first = end
    if not len(block):
        empty = Batch([0], np.empty(0, np.uint32), n_slots=1 << codec.bits, labels=[])
        none = np.empty(0, np.int64)
        yield Step(block.partition, empty, block, none, none, tuple(refused), block.first, block.next)


class Pipeline:
    """Iterate over steps; None means that nothing came for a moment."""

    def __init__(self, source: Source, codec: Codec) -> None:
        self._source = source
        self._codec = codec
        self._queue: queue.Queue[Step | BaseException | None] = queue.Queue(QUEUE_STEPS)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="ftrl-reader", daemon=True)

    def __enter__(self) -> Pipeline:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        while self._thread.is_alive():
            # The reader may be waiting for room.
            self._drain()
            self._thread.join(0.01)

    def _drain(self) -> None:
        try:
            while True:
                self._queue.get_nowait()
        except queue.Empty:
            return

    def steps(self, wait: float = _POLL_SECONDS) -> Iterator[Step | None]:
        """Every step in order; None after ``wait`` seconds without one. Raises the reader's errors."""
        while True:
            try:
                item = self._queue.get(timeout=wait)
            except queue.Empty:
                yield None
                continue
            if item is None:
                return
            if isinstance(item, BaseException):
                raise item
            yield item

    def _put(self, item: Step | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def _run(self) -> None:
        try:
            while not self._stop.is_set() and not self._source.finished:
                block = self._source.poll(_POLL_SECONDS)
                if block is not None:
                    for step in steps_of(self._codec, block):
                        self._put(step)
            self._put(None)
        except BaseException as error:
            self._put(error)
