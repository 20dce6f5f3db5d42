"""Delimited text to rows: columns found, quotes undone, values added."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.column_runs import Columns, add_columns
from ftrl_engine.intrinsics import byte_mask, count_ones, put_at, trailing_zeros
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.plan import Plan
from ftrl_engine.rows import finish_given, needs_owners, settle_owners
from ftrl_engine.sink import BAD_QUOTES, OK, WRONG_COLUMNS, Sink, begin, fail, has_room, refuse
from ftrl_engine.text import text_problem
from ftrl_engine.values import add_text

NO_QUOTE = 256  # no byte equals it
_AT_A_TIME = 8
BOUNDS_ROOM = _AT_A_TIME


@inlined
def split_columns(
    data: NDArray[np.uint8], lo: int, hi: int, separator: int, bounds: NDArray[np.int64]
) -> int:
    """Write where each column of ``data[lo:hi]`` ends to ``bounds``; returns how many columns there are.

    Of the room of ``bounds``, BOUNDS_ROOM cells are for its own use; columns beyond the rest are counted
    and not written. Reads up to 63 bytes past ``hi``.
    """
    room = len(bounds) - BOUNDS_ROOM
    count = 0
    for start in range(lo, hi, 64):
        found = byte_mask(data, start, separator)
        if hi - start < 64:
            found &= (np.uint64(1) << np.uint64(hi - start)) - np.uint64(1)
        last = count + count_ones(found)
        # Eight at a time, wanted or not: how many there are cannot be foreseen.
        while count < last and count <= room:
            for k in range(_AT_A_TIME):
                put_at(bounds, count + k, start + trailing_zeros(found))
                found &= found - np.uint64(1)
            count += _AT_A_TIME
        count = last
    if count <= room:
        put_at(bounds, count, hi)
    return count + 1


@inlined
def holds_byte(data: NDArray[np.uint8], lo: int, hi: int, byte: int) -> bool:
    """Whether ``data[lo:hi]`` holds the byte, which may be NO_QUOTE. Reads up to 63 bytes past ``hi``."""
    if byte == NO_QUOTE:
        return False
    for start in range(lo, hi, 64):
        found = byte_mask(data, start, byte)
        if found != np.uint64(0) and start + trailing_zeros(found) < hi:
            return True
    return False


@kernel
def closing_quote(data: NDArray[np.uint8], i: int, hi: int, quote: int) -> int:
    """The index of the quote that closes a field whose text starts at ``i``, or hi."""
    while i < hi:
        if data[i] == quote:
            if i + 1 < hi and data[i + 1] == quote:
                i += 1
            else:
                return i
        i += 1
    return hi


@kernel
def add_unescaped(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, data: NDArray[np.uint8], lo: int, hi: int,
    quote: int, text: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Add the text ``data[lo:hi]`` with doubled quotes read as one; ``text`` is scratch."""
    count = 0
    i = lo
    while i < hi:
        text[count] = data[i]
        count += 1
        i += 2 if data[i] == quote else 1
    add_column(plan, sink, field, salt, text, 0, count)


@kernel
def add_column(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, data: NDArray[np.uint8], lo: int, hi: int
) -> None:
    """As :func:`ftrl_engine.values.add_text`, compiled once for all callers here."""
    add_text(plan, sink, field, salt, data, lo, hi)


@inlined
def _encode_plain(
    plan: Plan, sink: Sink, data: NDArray[np.uint8], lo: int, hi: int, columns: Columns, separator: int,
    bounds: NDArray[np.int64],
) -> np.uint64:  # fmt: skip
    """Add the columns of a record without quotes; returns which fields have a value."""
    if split_columns(data, lo, hi, separator, bounds) != len(columns.fields):
        fail(sink, WRONG_COLUMNS)
        return np.uint64(0)
    return add_columns(plan, sink, columns, data, lo, bounds)


@kernel
def _encode_quoted(
    plan: Plan, sink: Sink, data: NDArray[np.uint8], lo: int, hi: int, columns: Columns, separator: int,
    quote: int, text: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Add the columns of a record, any of which may stand in quotes; ``text`` is scratch."""
    fields, salts = columns.fields, columns.salts
    column = 0
    while True:
        if column == len(fields):
            fail(sink, WRONG_COLUMNS)
            return
        if lo < hi and data[lo] == quote:
            lo += 1
            stop = closing_quote(data, lo, hi, quote)
            end = stop + 1
            if stop == hi or (end < hi and data[end] != separator):
                fail(sink, BAD_QUOTES)
                return
            add_unescaped(plan, sink, fields[column], salts[column], data, lo, stop, quote, text)
        else:
            end = lo
            while end < hi and data[end] != separator:
                end += 1
            add_column(plan, sink, fields[column], salts[column], data, lo, end)
        column += 1
        if end == hi:
            break
        lo = end + 1
    if column != len(fields):
        fail(sink, WRONG_COLUMNS)


@kernel
def encode_delimited(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], first: int, last: int,
    columns: Columns, separator: int, quote: int, bounds: NDArray[np.int64], text: NDArray[np.uint8],
    check: bool, need_label: bool, plan: Plan, sink: Sink,
) -> int:  # fmt: skip
    """Encode records ``first <= r < last``; returns the first that found no room."""
    owned = needs_owners(plan)
    for r in range(first, last):
        if not has_room(sink):
            return r
        lo, hi = starts[r], ends[r]
        problem = text_problem(data, lo, hi) if check else OK
        if problem != OK:
            refuse(sink, r, problem)
            continue
        begin(sink)
        given = np.uint64(0)
        quoted = holds_byte(data, lo, hi, quote)
        if quoted:
            _encode_quoted(plan, sink, data, lo, hi, columns, separator, quote, text)
        else:
            given = _encode_plain(plan, sink, data, lo, hi, columns, separator, bounds)
        if quoted or owned:
            given = settle_owners(plan, sink)
        finish_given(plan, sink, r, need_label, given)
    return last
