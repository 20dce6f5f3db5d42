"""Rows: cells in, slots out. Every format and every frame ends here.

A codec calls, for each record, ``begin``, then a function of :mod:`ftrl_engine.values` for each
value, then :func:`finish`. Between them the row is a list of cells (hash, value, field);
``finish`` adds the crosses, turns hashes into slots and keeps or refuses the row. A row never
holds a slot twice: a repeat or a collision is summed into one feature (law 5), so no learner has
to look for it.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.crosses import add_crosses
from ftrl_engine.intrinsics import at, put_at, trailing_zeros
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.plan import BIT_FIELDS, UNKNOWN, Plan
from ftrl_engine.sink import (
    BAD_NUMBER,
    CELLS,
    FEATURES,
    MARK_BITS,
    MARK_ROWS,
    MAX_ROW_FEATURES,
    MAX_VALUE,
    NO_LABEL,
    OK,
    ROWS,
    SEEN,
    SEEN_BITS,
    STAMP,
    STATUS,
    VALUED,
    Sink,
    add_cell,
    fail,
    refuse,
)

# The table that notices a slot seen before in the row: a short row stays in the first-level cache.
_SEEN_BITS_SHORT, _SHORT_ROW = 11, 512
_MARK_MASK = np.uint32((1 << MARK_BITS) - 1)
_AT_A_TIME = 8
_ROOM_FOR_MISSING = BIT_FIELDS + _AT_A_TIME
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


@inlined
def _seen_cell(slot: np.uint32, bits: int) -> int:
    return int(np.int64((np.uint64(slot) * _GOLDEN) >> np.uint64(64 - bits)))


@inlined
def _place(sink: Sink, start: int, k: int, bits: int, slot: np.uint32, value: float) -> int:
    """Write one feature of the row at ``k``, or add it to the one with its slot; returns the next k."""
    mask = (1 << bits) - 1
    cell = _seen_cell(slot, bits)
    # Entries up to `start` belong to rows before this one: the cell is free.
    while np.int64(sink.seen[cell]) > start:
        j = np.int64(sink.seen[cell]) - 1
        if sink.slots[j] == slot:
            sink.values[j] += value
            return k
        cell = (cell + 1) & mask
    sink.seen[cell] = k + 1
    sink.slots[k] = slot
    sink.values[k] = value
    return k + 1


@kernel
def _all_in_range(values: NDArray[np.float64], lo: int, hi: int) -> bool:
    for k in range(lo, hi):
        if not abs(values[k]) <= MAX_VALUE:
            return False
    return True


@inlined
def _place_ones(plan: Plan, sink: Sink, start: int, bits: int) -> int:
    """Write the first features whose values are 1 and whose slots differ; returns how many.

    This is the whole row nearly always, and then no value has to be written.
    """
    mask = (1 << bits) - 1
    cells = sink.state[CELLS]
    for done in range(cells):
        slot = np.uint32(at(sink.hashes, done) >> plan.shift)
        cell = _seen_cell(slot, bits)
        while np.int64(at(sink.seen, cell)) > start:
            if at(sink.slots, np.int64(at(sink.seen, cell)) - 1) == slot:
                return int(done)
            cell = (cell + 1) & mask
        if at(sink.amounts, done) != 1.0:
            return int(done)
        put_at(sink.seen, cell, start + done + 1)
        put_at(sink.slots, start + done, slot)
    return int(cells)


@kernel
def _place_rest(plan: Plan, sink: Sink, start: int, done: int, bits: int) -> None:
    """Write the features from cell ``done`` on, with the values of all."""
    for k in range(start, start + done):
        sink.values[k] = 1.0
    k = start + done
    for cell in range(done, sink.state[CELLS]):
        if sink.amounts[cell] != 0.0:
            k = _place(sink, start, k, bits, np.uint32(sink.hashes[cell] >> plan.shift), sink.amounts[cell])
    if _all_in_range(sink.values, start, k):
        sink.state[FEATURES] = k
    else:
        # Sums and products of finite values may overflow.
        fail(sink, BAD_NUMBER)
        sink.seen[:] = 0  # the next row starts at the same place


@inlined
def _write_plain(plan: Plan, sink: Sink) -> bool:
    """Write the slots of a row whose values are all 1; False if two of them share their lowest bits.

    Without a branch in its loops, so it costs a fraction of the way that is always right.
    """
    state = sink.state
    start, cells = state[FEATURES], state[CELLS]
    mark = np.uint8(state[STAMP] & (MARK_ROWS - 1))
    shared = False
    for k in range(cells):
        slot = np.uint32(at(sink.hashes, k) >> plan.shift)
        put_at(sink.slots, start + k, slot)
        cell = np.int64(slot & _MARK_MASK)
        shared |= at(sink.marks, cell) == mark
        put_at(sink.marks, cell, mark)
    return not shared


@inlined
def _write_row(plan: Plan, sink: Sink) -> int:
    """Cells to slots and values; returns whether some value is not 1."""
    state = sink.state
    start = state[FEATURES]
    if state[CELLS] <= _SHORT_ROW and not state[VALUED] and _write_plain(plan, sink):
        state[FEATURES] = start + state[CELLS]
        return 0
    return _write_any(plan, sink)


@kernel
def _write_any(plan: Plan, sink: Sink) -> int:
    """As :func:`_write_row`, for every row."""
    state = sink.state
    start = state[FEATURES]
    bits = _SEEN_BITS_SHORT if state[CELLS] <= _SHORT_ROW else SEEN_BITS
    state[SEEN] = max(state[SEEN], 1 << bits)
    done = _place_ones(plan, sink, start, bits)
    if done == state[CELLS]:
        state[FEATURES] = start + done
        return 0
    _place_rest(plan, sink, start, done, bits)
    return 1


@inlined
def _add_missing(plan: Plan, sink: Sink, given: np.uint64) -> None:
    """The features of fields that are not ``given`` (a bit for each) but whose absence counts."""
    cells = int(sink.state[CELLS])
    absent = plan.missing_bits & ~given
    if cells > MAX_ROW_FEATURES - _ROOM_FOR_MISSING:
        _add_missing_carefully(plan, sink, absent)
        return
    # Eight at a time, wanted or not: how many there are cannot be foreseen.
    while absent != np.uint64(0):
        for _ in range(_AT_A_TIME):
            put_at(sink.hashes, cells, at(plan.missing_by_field, trailing_zeros(absent)))
            cells += absent != np.uint64(0)
            absent &= absent - np.uint64(1)
    sink.state[CELLS] = cells


@kernel
def _add_missing_carefully(plan: Plan, sink: Sink, absent: np.uint64) -> None:
    while absent != np.uint64(0):
        field = trailing_zeros(absent)
        add_cell(sink, field, plan.missing_by_field[field], 1.0)
        absent &= absent - np.uint64(1)


@inlined
def _given_fields(sink: Sink) -> np.uint64:
    """A bit for each field below 63 that has a cell."""
    given = np.uint64(0)
    for cell in range(sink.state[CELLS]):
        given |= np.uint64(1) << np.uint64(at(sink.owners, cell) & 63)  # UNKNOWN is the bit to spare
    return given


@kernel
def _add_missing_of_many(plan: Plan, sink: Sink) -> None:
    stamp = sink.state[STAMP]
    for cell in range(sink.state[CELLS]):
        if sink.owners[cell] != UNKNOWN:
            sink.present[sink.owners[cell]] = stamp
    for i in range(len(plan.missing_fields)):
        field = plan.missing_fields[i]
        if sink.present[field] != stamp:
            add_cell(sink, field, plan.missing_hashes[i], 1.0)


@inlined
def needs_owners(plan: Plan) -> bool:
    """Whether the fields of cells must be known to end a row."""
    return len(plan.cross_salts) > 0 or (len(plan.missing_fields) > 0 and plan.missing_bits == np.uint64(0))


@kernel
def settle_owners(plan: Plan, sink: Sink) -> np.uint64:
    """Add what depends on the fields of cells; returns which fields are given, for :func:`finish_given`."""
    if len(plan.cross_salts) > 0 and sink.state[STATUS] == OK:
        add_crosses(plan, sink)
    if plan.missing_bits != np.uint64(0):
        return _given_fields(sink)
    _add_missing_of_many(plan, sink)
    return np.uint64(0)


@inlined
def finish(plan: Plan, sink: Sink, record: int, need_label: bool) -> None:
    """End the row of ``record``: keep it, or note why it is refused."""
    given = np.uint64(0)
    if len(plan.cross_salts) > 0 or len(plan.missing_fields) > 0:
        given = settle_owners(plan, sink)
    finish_given(plan, sink, record, need_label, given)


@inlined
def finish_given(plan: Plan, sink: Sink, record: int, need_label: bool, given: np.uint64) -> None:
    """As :func:`finish` where owners are settled or not needed: a set bit f tells that field f has a cell."""
    if plan.missing_bits != np.uint64(0):
        _add_missing(plan, sink, given)
    if need_label and math.isnan(sink.event[0]):
        fail(sink, NO_LABEL)
    row = sink.state[ROWS]
    if sink.state[STATUS] == OK:
        sink.valued[row] = _write_row(plan, sink)
    if sink.state[STATUS] == OK:
        sink.labels[row] = sink.event[0]
        sink.importance[row] = sink.event[1]
        sink.records[row] = record
        sink.indptr[row + 1] = sink.state[FEATURES]
        sink.state[ROWS] = row + 1
    else:
        refuse(sink, record, sink.state[STATUS])
