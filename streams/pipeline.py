"""Reading and encoding beside the learner, on all cores.

A reader polls the source, and the caller learns. Blocks are encoded by whoever has nothing
better to do: by the caller while the next block is not encoded, by the reader while there is
no room for the one it has read, and with more than two processors by helpers. Codecs' kernels
release the interpreter's lock. Results do not depend on it: steps come out in the order of the
source. There are never more blocks than those below and two, the reader's and the caller's.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from streams.codecs.base import Codec
from streams.source import Block, Refusal, Source

# Encoding takes no more than a few times as long as learning; more helpers than that would only wait.
MAX_HELPERS = 3
# Blocks between the reader and the caller, beside one for each helper.
SPARE_BLOCKS = 3
# A thread that is stuck, in a source or since an interrupt struck while a lock was taken, is left behind.
_LEAVE_SECONDS = 10.0
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


@dataclass(slots=True)
class _Work:
    """A block that was read; its steps, or what its codec raised, once it is encoded."""

    block: Block
    steps: list[Step]
    error: BaseException | None = None
    done: bool = False


class Pipeline:
    """Iterate over steps; None means that nothing came for a moment.

    helpers  threads that only encode; None: one for each processor but two, at most MAX_HELPERS
    """

    def __init__(self, source: Source, codec: Codec, helpers: int | None = None) -> None:
        count = max(0, min(_processors() - 2, MAX_HELPERS)) if helpers is None else helpers
        self._source = source
        self._codec = codec
        # One thread at a time encodes with a codec; there are never more than threads.
        self._codecs = deque([codec])
        self._room = count + SPARE_BLOCKS
        self._change = threading.Condition()  # of all below
        self._read_blocks: deque[_Work] = deque()  # in the order of the source, not learned yet
        self._unclaimed: deque[_Work] = deque()  # of these, nobody encodes them yet
        self._error: BaseException | None = None  # of the source
        self._ended = False
        self._stopped = False
        self._threads = [threading.Thread(target=self._read, name="ftrl-reader", daemon=True)]
        for _ in range(count):
            self._threads.append(threading.Thread(target=self._help, name="ftrl-encoder", daemon=True))

    def __enter__(self) -> Pipeline:
        try:
            for thread in self._threads:
                thread.start()
        except BaseException:
            self._leave()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._leave()

    def _leave(self) -> None:
        with self._change:
            self._stopped = True
            self._change.notify_all()
        for thread in self._threads:
            if thread.is_alive():
                thread.join(_LEAVE_SECONDS)

    def steps(self, wait: float = _POLL_SECONDS) -> Iterator[Step | None]:
        """Every step in order; None after ``wait`` seconds with nothing to do.

        Raises what the source or a codec has raised, in its place.
        """
        while True:
            if not self._encode_until(self._is_learnable, wait):
                yield None
                continue
            with self._change:
                work = self._read_blocks.popleft() if self._read_blocks else None
                self._change.notify_all()
            error = self._error if work is None else work.error
            if error is not None:
                raise error
            if work is None:
                return
            yield from work.steps

    def _is_learnable(self) -> bool:
        return self._read_blocks[0].done if self._read_blocks else self._ended

    def _has_room(self) -> bool:
        return len(self._read_blocks) < self._room or self._stopped

    def _is_stopped(self) -> bool:
        return self._stopped

    def _read(self) -> None:
        try:
            while not self._stopped and not self._source.finished:
                block = self._source.poll(_POLL_SECONDS)
                if block is not None:
                    self._encode_until(self._has_room)
                    self._add(_Work(block, []))
        except BaseException as error:
            self._error = error
        with self._change:
            self._ended = True
            self._change.notify_all()

    def _help(self) -> None:
        self._encode_until(self._is_stopped)

    def _add(self, work: _Work) -> None:
        with self._change:
            self._read_blocks.append(work)
            self._unclaimed.append(work)
            self._change.notify_all()

    def _encode_until(self, ready: Callable[[], bool], wait: float | None = None) -> bool:
        """Encode what nobody encodes until ``ready()``; False after ``wait`` seconds with nothing to do."""
        while True:
            with self._change:
                self._change.wait_for(lambda: ready() or self._unclaimed, wait)
                if ready():
                    return True
                if not self._unclaimed:
                    return False
                work = self._unclaimed.popleft()
            self._encode(work)

    def _encode(self, work: _Work) -> None:
        try:
            codec = self._spare_codec()
            work.steps = list(steps_of(codec, work.block))
            self._codecs.append(codec)  # one that raised is not used again
        except BaseException as error:
            work.error = error
            if not isinstance(error, Exception):
                raise  # an interrupt of the caller is no matter of the block
        finally:
            with self._change:
                work.done = True
                self._change.notify_all()

    def _spare_codec(self) -> Codec:
        try:
            return self._codecs.pop()
        except IndexError:
            return self._codec.twin()


def _processors() -> int:
    """How many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
