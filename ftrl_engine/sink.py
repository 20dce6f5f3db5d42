"""Sink: where rows are written, and the row at hand.

A row is begun, gets cells (hash, value, field) and is finished; see :mod:`ftrl_engine.rows`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import put_at
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.plan import MAX_PLANNED_FIELDS
from ftrl_engine.schema import MAX_CROSS_FIELDS

MAX_ROW_FEATURES = 1 << 16
# Larger values and importances are refused: their squares, summed, would leave float64.
MAX_VALUE = 1e50

# What becomes of a record: SLOW leaves it to the codec's careful path, the others refuse it.
(
    OK,
    NO_LABEL,
    BAD_LABEL,
    BAD_WEIGHT,
    BAD_NUMBER,
    TOO_MANY_FEATURES,
    WRONG_COLUMNS,
    BAD_UTF8,
    NUL_BYTE,
    BAD_QUOTES,
    BAD_SYNTAX,
    TWO_LABELS,
    SLOW,
) = range(13)

REASONS = {
    NO_LABEL: "no label",
    BAD_LABEL: "the label must be 0 or 1",
    BAD_WEIGHT: f"the importance must be a number from 0 to {MAX_VALUE:g}",
    BAD_NUMBER: f"a number must be finite and at most {MAX_VALUE:g} in size",
    TOO_MANY_FEATURES: f"more than {MAX_ROW_FEATURES} features",
    WRONG_COLUMNS: "wrong number of columns",
    BAD_UTF8: "not valid UTF-8",
    NUL_BYTE: "holds a NUL byte",
    BAD_QUOTES: "a quote is not closed or not followed by a separator (a record is one line)",
    BAD_SYNTAX: "not in the format",
    TWO_LABELS: "more than one label; name the label's field in a schema",
}

# Cells of Sink.state; the stamp counts rows and is never set back; up to where ``seen`` was written, and
# whether some of ``amounts`` up to CELLS are not 1.
CELLS, STATUS, FEATURES, ROWS, REFUSED, SEEN, VALUED, STAMP = range(8)
# Bits of the larger table that notices a slot seen before in the row, and of the table of marks.
SEEN_BITS, MARK_BITS = 17, 14
# Marks are told apart by the lowest bits of the stamp, so they are forgotten when these begin anew.
MARK_ROWS, NO_MARK = 128, 255


class Sink(NamedTuple):
    """Where rows are written: room for R rows and N features.

    indptr int64[R+1], slots uint32[N], values float64[N] (set only in rows with ``valued``),
    valued uint8[R], labels float64[R] (NaN: none), importance float64[R], records int64[R] the
    record each row came from; refused int64[R, 2] records and reasons;
    hashes, amounts, owners: the cells of the row at hand, all amounts beyond them being 1, and no owners
    where neither crosses nor absent fields need them; event float64[2] its label and importance;
    seen uint32[2**17]: a hash table of the row's slots, 1 + where they stand in ``slots``;
    marks uint8[2**14]: by the lowest bits of a slot, of the stamp of the last row that had such a one;
    state int64[8]: where the work stands; met uint8[fields] 1 for a crossed field that some row had a value
    of, which stays when the sink is reset; present int64[fields] the stamp of the last row with a value;
    members, bounds, path, path_hashes, path_values: the cells that the cross at hand joins.
    """

    indptr: NDArray[np.int64]
    slots: NDArray[np.uint32]
    values: NDArray[np.float64]
    valued: NDArray[np.uint8]
    labels: NDArray[np.float64]
    importance: NDArray[np.float64]
    records: NDArray[np.int64]
    refused: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    amounts: NDArray[np.float64]
    owners: NDArray[np.int64]
    event: NDArray[np.float64]
    seen: NDArray[np.uint32]
    marks: NDArray[np.uint8]
    state: NDArray[np.int64]
    met: NDArray[np.uint8]
    present: NDArray[np.int64]
    members: NDArray[np.int64]
    bounds: NDArray[np.int64]
    path: NDArray[np.int64]
    path_hashes: NDArray[np.uint64]
    path_values: NDArray[np.float64]


def make_sink(rows: int, features: int) -> Sink:
    """An empty sink with room for ``rows`` rows and at least ``features`` features."""
    room = features + MAX_ROW_FEATURES
    return Sink(
        indptr=np.zeros(rows + 1, dtype=np.int64),
        slots=np.empty(room, dtype=np.uint32),
        values=np.empty(room, dtype=np.float64),
        valued=np.empty(rows, dtype=np.uint8),
        labels=np.empty(rows, dtype=np.float64),
        importance=np.empty(rows, dtype=np.float64),
        records=np.empty(rows, dtype=np.int64),
        refused=np.empty((rows, 2), dtype=np.int64),
        hashes=np.empty(MAX_ROW_FEATURES, dtype=np.uint64),
        amounts=np.ones(MAX_ROW_FEATURES, dtype=np.float64),
        owners=np.empty(MAX_ROW_FEATURES, dtype=np.int64),
        event=np.empty(2, dtype=np.float64),
        seen=np.zeros(1 << SEEN_BITS, dtype=np.uint32),
        marks=np.full(1 << MARK_BITS, NO_MARK, dtype=np.uint8),
        state=np.zeros(8, dtype=np.int64),
        met=np.zeros(MAX_PLANNED_FIELDS, dtype=np.uint8),
        present=np.zeros(MAX_PLANNED_FIELDS, dtype=np.int64),
        members=np.empty(MAX_ROW_FEATURES, dtype=np.int64),
        bounds=np.zeros(MAX_CROSS_FIELDS + 1, dtype=np.int64),
        path=np.empty(MAX_CROSS_FIELDS, dtype=np.int64),
        path_hashes=np.empty(MAX_CROSS_FIELDS + 1, dtype=np.uint64),
        path_values=np.empty(MAX_CROSS_FIELDS + 1, dtype=np.float64),
    )


def reset(sink: Sink) -> None:
    """Empty a sink whose rows are not needed any more."""
    written = sink.state[SEEN]
    if written:
        sink.seen[:written] = 0
    if sink.state[VALUED]:
        sink.amounts[: sink.state[CELLS]] = 1.0
    sink.state[:STAMP] = 0


def with_room(sink: Sink) -> Sink:
    """The sink itself, or the same rows in twice the room where a widest row might not fit."""
    if int(sink.state[FEATURES]) + MAX_ROW_FEATURES <= len(sink.slots):
        return sink
    more = len(sink.slots)
    slots = np.concatenate([sink.slots, np.empty(more, dtype=np.uint32)])
    return sink._replace(slots=slots, values=np.concatenate([sink.values, np.empty(more)]))


@inlined
def has_room(sink: Sink) -> bool:
    """Whether one more record certainly fits."""
    state = sink.state
    return bool(
        state[ROWS] < len(sink.records)
        and state[REFUSED] < len(sink.refused)
        and state[FEATURES] + MAX_ROW_FEATURES <= len(sink.slots)
    )


@kernel
def _forget_amounts(sink: Sink) -> None:
    sink.amounts[: sink.state[CELLS]] = 1.0
    sink.state[VALUED] = 0


@kernel
def _forget_marks(sink: Sink) -> None:
    sink.marks[:] = NO_MARK


@inlined
def begin(sink: Sink) -> None:
    """Start a row."""
    if sink.state[VALUED]:
        _forget_amounts(sink)
    sink.state[CELLS] = 0
    sink.state[STATUS] = OK
    sink.state[STAMP] += 1
    if sink.state[STAMP] & (MARK_ROWS - 1) == 0:
        _forget_marks(sink)
    sink.event[0] = np.nan
    sink.event[1] = 1.0


@inlined
def fail(sink: Sink, reason: int) -> None:
    """Refuse the row at hand; the first reason stands."""
    if sink.state[STATUS] == OK:
        sink.state[STATUS] = reason


@inlined
def status(sink: Sink) -> int:
    """OK, or why the row at hand is refused."""
    return int(sink.state[STATUS])


@inlined
def add_cell(sink: Sink, field: int, h: np.uint64, value: float) -> None:
    """Add the feature with hash ``h``."""
    k = sink.state[CELLS]
    if k < MAX_ROW_FEATURES:
        sink.hashes[k] = h
        sink.owners[k] = field
        if value != 1.0:
            sink.amounts[k] = value
            sink.state[VALUED] = 1
        sink.state[CELLS] = k + 1
    else:
        fail(sink, TOO_MANY_FEATURES)


@inlined
def put_cell(sink: Sink, cells: int, field: int, h: np.uint64) -> int:
    """Add the feature with hash ``h`` and value 1 to ``cells`` others; returns the new number."""
    put_at(sink.hashes, cells, h)
    put_at(sink.owners, cells, field)
    return cells + 1


@inlined
def cell_count(sink: Sink) -> int:
    """How many cells the row at hand has so far, crosses apart."""
    return int(sink.state[CELLS])


@inlined
def set_cells(sink: Sink, cells: int) -> None:
    """Hand over the number of cells of the row at hand."""
    sink.state[CELLS] = cells


@inlined
def refuse(sink: Sink, record: int, reason: int) -> None:
    """Note a record that is refused."""
    k = sink.state[REFUSED]
    sink.refused[k, 0] = record
    sink.refused[k, 1] = reason
    sink.state[REFUSED] = k + 1
