"""Where the lines of a piece of text begin and end.

A record ends at ``\\n``; a ``\\r`` before it is not part of the record. Blank lines are not
records: their bytes belong to the record that follows them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError
from ftrl_engine.intrinsics import byte_mask, trailing_zeros
from ftrl_engine.jit import kernel
from streams.source import PADDING

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]

NEWLINE = 10
_RETURN = 13
_ONE = np.uint64(1)
_NONE = np.uint64(0)
_CHUNK = 64
_TYPICAL_RECORD = 64


@kernel
def scan(
    data: Bytes, begin: int, n: int, rows: int, starts: Offsets, ends: Offsets, after: Offsets
) -> tuple[int, int]:
    """Write the whole lines of ``data[begin:n]`` from row ``rows`` on, while there is room.

    Returns (rows, next): ``next`` is the start of the first line that was not taken.
    Reads up to 63 bytes past ``n``.
    """
    start = begin
    room = len(starts)
    for chunk in range(begin, n, _CHUNK):
        found = byte_mask(data, chunk, NEWLINE)
        while found != _NONE:
            stop = chunk + trailing_zeros(found)
            if stop >= n or rows == room:
                return rows, start
            end = stop - (stop > start and data[stop - 1] == _RETURN)
            starts[rows], ends[rows], after[rows] = start, end, stop + 1
            # A blank line is overwritten by the next; adding a truth value costs no branch.
            rows += end > start
            start = stop + 1
            found &= found - _ONE
    return rows, start


def split_lines(data: Bytes, n: int, final: bool) -> tuple[Offsets, Offsets, Offsets, int]:
    """The records of ``data[:n]``: (starts, ends, after, consumed).

    data   uint8[>= n + PADDING], C-contiguous and writable (one compiled form for all callers)
    final  the rest without a newline is a record too
    after  int64[rows], the offset just after each record's line end
    consumed  the offset after the last whole line; ``n`` when ``final``
    """
    if len(data) < n + PADDING:
        raise ConfigError(f"split_lines: data needs {PADDING} bytes after n={n}; it has {len(data)} in all")
    room = n // _TYPICAL_RECORD + 16
    starts, ends, after = (np.empty(room, np.int64) for _ in range(3))
    rows, start = scan(data, 0, n, 0, starts, ends, after)
    while rows == room:
        # Short lines: make room for the rest as if it went on like the part already split.
        room += int(rows * (n - start) / start * 1.05) + 16
        starts, ends, after = (_grown(column, room) for column in (starts, ends, after))
        rows, start = scan(data, start, n, rows, starts, ends, after)
    if final:
        end = n - int(n > start and data[n - 1] == _RETURN)
        if end > start:
            if rows == room:
                starts, ends, after = (_grown(column, room + 1) for column in (starts, ends, after))
            starts[rows], ends[rows], after[rows] = start, end, n
            rows += 1
        start = n
    return starts[:rows], ends[:rows], after[:rows], int(start)


def split(data: Bytes, n: int, final: bool) -> tuple[Offsets, Offsets, int]:
    """The records of ``data[:n]`` as (starts, ends, consumed); see :func:`split_lines`."""
    starts, ends, _, consumed = split_lines(data, n, final)
    return starts, ends, consumed


def _grown(column: Offsets, room: int) -> Offsets:
    larger = np.empty(room, np.int64)
    larger[: len(column)] = column
    return larger
