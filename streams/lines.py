"""Bytes to blocks of records: the reader of every line-oriented source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from ftrl_engine.errors import ConfigError, SourceError
from streams.line_ends import NEWLINE, Bytes, split_lines
from streams.memory import keep_freed_memory
from streams.source import BLOCK_BYTES, MAX_RECORD_BYTES, PADDING, Block, Refusal

# What is kept of a record that is too long to read.
REFUSED_BYTES = 64 << 10


def block_from_lines(
    partition: str,
    data: Bytes,
    n: int,
    base: int,
    final: bool,
    header: bytes | None = None,
    limit: int = MAX_RECORD_BYTES,
) -> tuple[Block, int]:
    """A Block of the records of ``data[:n]`` whose byte 0 stands at position ``base``.

    Returns (block, consumed bytes). Records over ``limit`` bytes are in ``block.refused``.
    ``block.next`` is the position after the last record: blank lines after it are consumed
    but not counted, so positions never depend on where blocks are cut.
    """
    starts, ends, after, consumed = split_lines(data, n, final)
    following = base + int(after[-1]) if len(after) else base
    refused: list[Refusal] = []
    if n > limit and (too_long := ends - starts > limit).any():
        for start in starts[too_long].tolist():
            beginning = data[start : start + min(limit, REFUSED_BYTES)].tobytes()
            refused.append(refuse_long(partition, base + start, beginning, limit))
        starts, ends, after = starts[~too_long], ends[~too_long], after[~too_long]
    block = Block(partition, data, starts, ends, after + base, base, following, header, tuple(refused))
    return block, consumed


def refuse_long(partition: str, position: int, beginning: bytes, limit: int) -> Refusal:
    """The refusal of a record that is longer than ``limit`` bytes."""
    return Refusal(partition, position, f"the record is longer than the limit of {limit} bytes", beginning)


class LineReader:
    """Blocks of whole lines from a function that fills a buffer.

    readinto     fills a part of the given view and returns the count of bytes; 0 or None when
                 nothing is there now (the end of a file, an empty pipe). It must not wait.
    partition    the name in the blocks
    position     the position of the first byte that ``readinto`` will give
    block_bytes  the aimed size of a block; memory is at most about twice the larger of it
                 and ``limit``, whatever the input
    header       is put on every block
    limit        a longer record is refused, its bytes are skipped up to the next newline

    The unfinished line at the end of what was read is kept for the next :meth:`read`. Every
    block owns its bytes, and each begins at the position where the one before it ended.
    """

    def __init__(
        self,
        readinto: Callable[[memoryview], int | None],
        partition: str,
        position: int = 0,
        *,
        block_bytes: int = BLOCK_BYTES,
        header: bytes | None = None,
        limit: int = MAX_RECORD_BYTES,
    ) -> None:
        if block_bytes < 1:
            raise ConfigError(f"block_bytes must be at least 1; got {block_bytes}")
        keep_freed_memory()
        self.header = header
        self.busy = False  # the last read gave nothing but goes on without waiting
        self._readinto = readinto
        self._partition = partition
        self._limit = limit
        self._size = block_bytes
        self._buffer = np.empty(block_bytes + PADDING, np.uint8)
        self._filled = 0  # bytes in the buffer
        self._base = position  # the position of byte 0 of the buffer
        self._returned = position  # the position after everything returned
        self._long: Refusal | None = None  # a record over the limit whose end is being looked for

    @property
    def position(self) -> int:
        """The position after everything that was returned."""
        return self._returned

    def read(self, most: int | None = None) -> Block | None:
        """The next block, or None when ``readinto`` has nothing now that completes a record.

        After ``most`` bytes or more without the end of a record it gives None too, and :attr:`busy` is True:
        the caller may look at its clock and read on.
        """
        first, self.busy = self._base + self._filled, False
        while not self.busy:
            starved = self._fill()
            block = self._take(final=False)
            if block is not None or starved:
                return block
            self.busy = most is not None and self._base + self._filled - first >= most
        return None

    def finish(self) -> Block | None:
        """When :meth:`read` gave None at the very end: the rest without a newline, if any."""
        return self._take(final=True)

    def rewind(self) -> int:
        """Forget the unfinished rest; returns the position that ``readinto`` must go on from.

        For sources whose unfinished last record may still be replaced by another one.
        """
        self._filled, self._long, self._base = 0, None, self._returned
        return self._returned

    def take_header(self) -> bytes | None:
        """Consume the first line that is not blank as ``header``; None while there is none.

        A header without a newline has no records after it and is not taken.
        """
        while True:
            starved = self._fill()
            starts, ends, after, _ = split_lines(self._padded(), self._filled, final=False)
            if len(starts):
                self.header = self._buffer[starts[0] : ends[0]].tobytes()
                self._drop(int(after[0]))
                self._returned = self._base
                return self.header
            if starved:
                return None
            self._make_room()
            if self._long is not None:
                raise SourceError(f"{self._partition}: the header line is longer than {self._limit} bytes")

    def skip_to(self, position: int) -> bool:
        """Read and drop the bytes before ``position``; False when the input ends before it."""
        while self._base + self._filled < position:
            self._drop(self._filled)
            if not self._read_some(position - self._base):
                return False
        self._drop(max(0, position - self._base))
        self._returned = self._base
        return True

    def _fill(self) -> bool:
        """Read until the buffer is full; True when ``readinto`` ran dry first."""
        while self._filled < len(self._buffer) - PADDING:
            if not self._read_some(len(self._buffer)):
                return True
        return False

    def _read_some(self, most: int) -> int:
        stop = min(len(self._buffer) - PADDING, self._filled + most)
        count = self._readinto(self._buffer[self._filled : stop].data) or 0
        self._filled += count
        return count

    def _padded(self) -> Bytes:
        self._buffer[self._filled : self._filled + PADDING] = 0
        return self._buffer

    def _take(self, final: bool) -> Block | None:
        """A block of the whole lines in the buffer; None when they hold no record."""
        skipped = self._end_of_long(final)
        if self._long is not None:
            return None
        block, consumed = block_from_lines(
            self._partition, self._padded(), self._filled, self._base, final, self.header, self._limit
        )
        refused = skipped + block.refused
        data = self._hand_over(consumed) if len(block) else block.data[:PADDING].copy()
        if not len(block):
            self._drop(consumed)
            if consumed == 0:
                self._make_room()
        if not len(block) and not refused:
            return None
        first, self._returned = self._returned, block.next
        return replace(block, data=data, first=first, refused=refused)

    def _end_of_long(self, final: bool) -> tuple[Refusal, ...]:
        """Drop bytes of a record over the limit; its refusal as soon as its end is found."""
        if self._long is None:
            return ()
        newlines = np.flatnonzero(self._buffer[: self._filled] == NEWLINE)
        self._drop(int(newlines[0]) + 1 if len(newlines) else self._filled)
        if not len(newlines) and not final:
            return ()
        refusal, self._long = self._long, None
        return (refusal,)

    def _make_room(self) -> None:
        """The buffer holds no line end: read on in a larger one, or give the record up."""
        if self._filled > self._limit + 1:  # + 1: the last byte may be a carriage return
            beginning = self._buffer[: min(self._limit, REFUSED_BYTES)].tobytes()
            self._long = refuse_long(self._partition, self._base, beginning, self._limit)
            self._drop(self._filled)
        elif self._filled == len(self._buffer) - PADDING:
            size = min(2 * self._filled, max(self._size, self._limit + 2))
            self._renew(0, size)

    def _hand_over(self, consumed: int) -> Bytes:
        """The first ``consumed`` bytes as an array that the caller owns; the rest stays."""
        if 2 * consumed < self._size:
            # Small blocks are copied: in a slow stream each would hold a whole buffer otherwise.
            data = self._buffer[: consumed + PADDING].copy()
            self._drop(consumed)
            return data
        return self._renew(consumed, self._size)[: consumed + PADDING]

    def _renew(self, count: int, size: int) -> Bytes:
        """Go on in a new buffer of at least ``size`` without the first ``count`` bytes."""
        old, rest = self._buffer, self._filled - count
        self._buffer = np.empty(max(size, rest) + PADDING, np.uint8)
        self._buffer[:rest] = old[count : self._filled]
        self._filled, self._base = rest, self._base + count
        return old

    def _drop(self, count: int) -> None:
        rest = self._filled - count
        if count and rest:
            self._buffer[:rest] = self._buffer[count : self._filled].copy()
        self._filled, self._base = rest, self._base + count
