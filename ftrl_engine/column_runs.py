"""The columns of a record, taken run by run: columns next to each other that are taken in the same way.

A loop over one kind of column is a fraction of one over all kinds: it keeps what it needs in
registers, and whether a column is empty, which cannot be foreseen, costs it no branch.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.counted_values import (
    ANY_TEXT,
    AUTO_TEXT,
    BUCKET_TEXT,
    HASH_TEXT,
    LABEL_TEXT,
    SKIP_TEXT,
    add_other_number,
    add_text_after,
    is_token,
    way_of,
)
from ftrl_engine.hashing import hash_bytes, salt, xxh64, xxh64_word
from ftrl_engine.intrinsics import at, load64, put_at
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.numbers import BUCKETS_END, SMALL_BUCKETS, log_bucket, short_whole, short_whole_or_empty
from ftrl_engine.plan import UNKNOWN, Plan
from ftrl_engine.rows import needs_owners
from ftrl_engine.sink import MAX_ROW_FEATURES, Sink, set_cells
from ftrl_engine.values import set_label


class Columns(NamedTuple):
    """The columns of a record (C columns in R runs).

    fields  int64[C]: the number of each column's field, or UNKNOWN
    salts   uint64[C]: the hash of each column's name
    runs    int64[3R]: for each run its way (see counted_values.way_of), the column after its last and how
            many columns before it have buckets
    buckets uint64[B * BUCKETS_END]: the hashes of the small buckets of each column that has any
    """

    fields: NDArray[np.int64]
    salts: NDArray[np.uint64]
    runs: NDArray[np.int64]
    buckets: NDArray[np.uint64]


def make_columns(plan: Plan, names: list[str], numbers: dict[str, int]) -> Columns:
    """The columns called ``names``, of which those in ``numbers`` are fields of the plan."""
    fields = [numbers.get(name, UNKNOWN) for name in names]
    salts = [salt(name) for name in names]
    runs: list[int] = []
    buckets: list[list[int]] = []
    for column, field in enumerate(fields):
        way = way_of(plan, field)
        if not runs or way != runs[-3]:
            runs += [way, column, len(buckets)]
        runs[-2] = column + 1
        if way == BUCKET_TEXT:
            buckets.append(_bucket_hashes(salts[column]))
    return Columns(
        fields=np.array(fields, dtype=np.int64),
        salts=np.array(salts, dtype=np.uint64),
        runs=np.array(runs, dtype=np.int64),
        buckets=np.array(buckets, dtype=np.uint64).reshape(-1),
    )


def _bucket_hashes(seed: int) -> list[int]:
    """The hashes of the buckets that occur most: looked up in half the time of computing one."""
    return [hash_bytes(bucket.to_bytes(8, "little"), seed) for bucket in range(BUCKETS_END)]


@inlined
def add_columns(
    plan: Plan, sink: Sink, columns: Columns, data: NDArray[np.uint8], lo: int, bounds: NDArray[np.int64]
) -> np.uint64:
    """Add all columns of the record that begins at ``lo``; column k ends at ``bounds[k]``.

    Returns which fields have a value, as :func:`ftrl_engine.rows.finish_given` takes it. Owners are
    written only where the plan needs them. Reads eight bytes from the start of each column on.
    """
    owned = needs_owners(plan)
    given = np.uint64(0)
    cells, first = 0, 0
    for run in range(0, len(columns.runs), 3):
        way, last = at(columns.runs, run), at(columns.runs, run + 1)
        if cells + last - first > MAX_ROW_FEATURES:
            way = ANY_TEXT
        if way == HASH_TEXT or way == BUCKET_TEXT or way == AUTO_TEXT:
            if owned:
                _own(sink, cells, columns, lo, bounds, first, last)
            if way == HASH_TEXT:
                cells, some = _hash_run(sink, cells, columns, data, lo, bounds, first, last)
            elif way == BUCKET_TEXT:
                before = at(columns.runs, run + 2)
                cells, some = _bucket_run(plan, sink, cells, columns, before, data, lo, bounds, first, last)
            else:
                cells, some = _auto_run(plan, sink, cells, columns, data, lo, bounds, first, last)
            given |= some
        elif way != SKIP_TEXT:
            for k in range(first, last):
                end = at(bounds, k)
                field, before = at(columns.fields, k), cells
                whole = short_whole(data, lo, end) if way == LABEL_TEXT else -1
                if whole >= 0:
                    set_label(plan, sink, float(whole))
                elif end != lo:
                    cells = add_text_after(plan, sink, cells, field, at(columns.salts, k), data, lo, end)
                given |= np.uint64(cells != before) << np.uint64(field & 63)
                lo = end + 1
        lo = at(bounds, last - 1) + 1
        first = last
    set_cells(sink, cells)
    return given


@kernel
def _own(
    sink: Sink, cells: int, columns: Columns, lo: int, bounds: NDArray[np.int64], first: int, last: int
) -> None:
    """Write the owners of the cells that a run will have."""
    for k in range(first, last):
        end = at(bounds, k)
        put_at(sink.owners, cells, at(columns.fields, k))
        cells += end != lo
        lo = end + 1


@inlined
def _hash_run(
    sink: Sink, cells: int, columns: Columns, data: NDArray[np.uint8], lo: int,
    bounds: NDArray[np.int64], first: int, last: int,
) -> tuple[int, np.uint64]:  # fmt: skip
    """Add tokens; returns the new number of cells and which fields have one."""
    given = np.uint64(0)
    for k in range(first, last):
        end = at(bounds, k)
        length = end - lo
        if length & ~8:
            h = xxh64(data, lo, end, at(columns.salts, k))
        else:
            h = xxh64_word(load64(data, lo), at(columns.salts, k))
        put_at(sink.hashes, cells, h)
        cells += length != 0
        given |= np.uint64(length != 0) << np.uint64(at(columns.fields, k) & 63)
        lo = end + 1
    return cells, given


@inlined
def _bucket_run(
    plan: Plan, sink: Sink, cells: int, columns: Columns, before: int, data: NDArray[np.uint8], lo: int,
    bounds: NDArray[np.int64], first: int, last: int,
) -> tuple[int, np.uint64]:  # fmt: skip
    """Add the buckets of numbers; returns the new number of cells and which fields have one."""
    given = np.uint64(0)
    for k in range(first, last):
        end = at(bounds, k)
        # An empty text is read as 0 and not counted: whether it is empty cannot be foreseen.
        some = end != lo
        whole = short_whole_or_empty(data, lo, end)
        if 0 <= whole < len(SMALL_BUCKETS):
            small = (before + k - first) * BUCKETS_END + at(SMALL_BUCKETS, whole)
            put_at(sink.hashes, cells, at(columns.buckets, small))
            cells += some
        elif whole >= 0:
            put_at(sink.hashes, cells, xxh64_word(np.uint64(log_bucket(float(whole))), at(columns.salts, k)))
            cells += 1
        else:
            cells = add_other_number(
                plan, sink, cells, at(columns.fields, k), at(columns.salts, k), data, lo, end
            )
        given |= np.uint64(some) << np.uint64(at(columns.fields, k) & 63)
        lo = end + 1
    return cells, given


@inlined
def _auto_run(
    plan: Plan, sink: Sink, cells: int, columns: Columns, data: NDArray[np.uint8], lo: int,
    bounds: NDArray[np.int64], first: int, last: int,
) -> tuple[int, np.uint64]:  # fmt: skip
    """Add tokens and the buckets of decimals; returns the new number of cells and which fields have one."""
    given = np.uint64(0)
    for k in range(first, last):
        end = at(bounds, k)
        if end != lo:
            if is_token(data, lo, end):
                put_at(sink.hashes, cells, xxh64(data, lo, end, at(columns.salts, k)))
                cells += 1
            else:
                cells = add_other_number(
                    plan, sink, cells, at(columns.fields, k), at(columns.salts, k), data, lo, end
                )
            given |= np.uint64(1) << np.uint64(at(columns.fields, k) & 63)
        lo = end + 1
    return cells, given
