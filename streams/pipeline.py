"""Reading and encoding in threads of their own, beside the learner.

One thread polls the source, some encode its blocks with codecs whose kernels release the
interpreter's lock, and the caller learns, so all cores work at once. Results do not depend
on it: steps come out in the order of the source, through a queue of bounded length.
"""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Iterator
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from streams.codecs.base import Codec
from streams.source import Block, Refusal, Source

# Encoding takes a few times as long as learning; with more threads than that they would only wait.
MAX_THREADS = 4
# Blocks that wait for the learner, beside those being encoded.
SPARE_BLOCKS = 1
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
    """Iterate over steps; None means that nothing came for a moment.

    threads  how many encode; None: one for each processor but the learner's, at most MAX_THREADS
    """

    def __init__(self, source: Source, codec: Codec, threads: int | None = None) -> None:
        count = max(1, min(_processors() - 1, MAX_THREADS)) if threads is None else threads
        self._source = source
        self._codec = codec
        # A codec at a time is used by one thread; there are never more than threads.
        self._codecs: queue.SimpleQueue[Codec] = queue.SimpleQueue()
        self._codecs.put(codec)
        self._encoders = ThreadPoolExecutor(count, "ftrl-encoder")
        self._queue: queue.Queue[Future[list[Step]] | BaseException | None] = queue.Queue(
            count + SPARE_BLOCKS
        )
        self._stop = threading.Event()
        self._reader = threading.Thread(target=self._read, name="ftrl-reader", daemon=True)

    def __enter__(self) -> Pipeline:
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stop.set()
        while self._reader.is_alive():
            # The reader may be waiting for room.
            self._drain()
            self._reader.join(0.01)
        self._encoders.shutdown(cancel_futures=True)

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
            while not futures.wait([item], wait).done:
                yield None
            yield from item.result()

    def _put(self, item: Future[list[Step]] | BaseException | None) -> None:
        while not self._stop.is_set():
            try:
                self._queue.put(item, timeout=_POLL_SECONDS)
                return
            except queue.Full:
                continue

    def _read(self) -> None:
        try:
            while not self._stop.is_set() and not self._source.finished:
                block = self._source.poll(_POLL_SECONDS)
                if block is not None:
                    self._put(self._encoders.submit(self._encode, block))
            self._put(None)
        except BaseException as error:
            self._put(error)

    def _encode(self, block: Block) -> list[Step]:
        try:
            codec = self._codecs.get_nowait()
        except queue.Empty:
            codec = self._codec.twin()
        try:
            return list(steps_of(codec, block))
        finally:
            self._codecs.put(codec)


def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
