"""Building rows: values of fields in, slots out. Every format and every frame ends here.

A codec calls, for each record, :func:`begin`, then :func:`add_text` for each value, then
:func:`finish`. Between them the row is a list of cells (hash, value, field); ``finish`` adds
the crosses, turns hashes into slots and keeps or refuses the row. A row never holds a slot
twice: a repeat or a collision is summed into one feature (law 5), so no learner has to look
for it.
"""

from __future__ import annotations

import math
from typing import NamedTuple, cast

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.hashing import xxh64, xxh64_word
from ftrl_engine.jit import at, inlined, kernel, put_at
from ftrl_engine.numbers import (
    DECIMAL,
    bin_of,
    bucket_of_whole,
    log_bucket,
    parse_number,
    read_number,
    scan_number,
    short_whole,
    signed_log1p,
)
from ftrl_engine.plan import (
    AUTO,
    BINS,
    EDGE_HI,
    EDGE_LO,
    KIND,
    LABEL,
    LOG1P,
    LOG_BUCKET,
    MAX_PLANNED_FIELDS,
    NUMBER,
    SEPARATOR,
    SKIP,
    TOKEN,
    TOKENS,
    TRANSFORM,
    UNKNOWN,
    WEIGHT,
    Plan,
)
from ftrl_engine.schema import MAX_CROSS_FIELDS

MAX_ROW_FEATURES = 1 << 16
# Larger values and importances are refused: their squares, summed, would leave float64.
MAX_VALUE = 1e50

# Numpy integers, because numba compiles a function again for every literal it is called with.
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
) = cast(list[int], list(np.arange(13)))

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

# Cells of Sink.state.
_CELLS, _STATUS, FEATURES, ROWS, REFUSED, _STAMP = range(6)
# The table that notices a slot seen before in the row: a short row stays in the first-level cache.
_SEEN_BITS, _SEEN_BITS_SHORT, _SHORT_ROW = 17, 11, 512
_DIGIT_9 = 57  # no number starts with a byte above it
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


class Sink(NamedTuple):
    """Where rows are written: room for R rows and N features.

    indptr int64[R+1], slots uint32[N], values float64[N] (set only in rows with ``valued``),
    valued uint8[R], labels float64[R] (NaN: none), importance float64[R], records int64[R] the
    record each row came from; refused int64[R, 2] records and reasons;
    hashes, amounts, owners: the cells of the row at hand; event float64[2] its label and importance;
    seen uint32[2**17]: a hash table of the row's slots, 1 + where they stand in ``slots``;
    state int64[8]: where the work stands; present int64[fields] the stamp of the last row with a value;
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
    state: NDArray[np.int64]
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
        amounts=np.empty(MAX_ROW_FEATURES, dtype=np.float64),
        owners=np.empty(MAX_ROW_FEATURES, dtype=np.int64),
        event=np.empty(2, dtype=np.float64),
        seen=np.zeros(1 << _SEEN_BITS, dtype=np.uint32),
        state=np.zeros(8, dtype=np.int64),
        present=np.zeros(MAX_PLANNED_FIELDS, dtype=np.int64),
        members=np.empty(MAX_ROW_FEATURES, dtype=np.int64),
        bounds=np.zeros(MAX_CROSS_FIELDS + 1, dtype=np.int64),
        path=np.empty(MAX_CROSS_FIELDS, dtype=np.int64),
        path_hashes=np.empty(MAX_CROSS_FIELDS + 1, dtype=np.uint64),
        path_values=np.empty(MAX_CROSS_FIELDS + 1, dtype=np.float64),
    )


def reset(sink: Sink) -> None:
    """Empty a sink whose rows are not needed any more."""
    sink.state[:] = 0
    sink.present[:] = 0
    sink.seen[:] = 0


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


@inlined
def begin(sink: Sink) -> None:
    """Start a row."""
    sink.state[_CELLS] = 0
    sink.state[_STATUS] = OK
    sink.state[_STAMP] += 1
    sink.event[0] = np.nan
    sink.event[1] = 1.0


@inlined
def fail(sink: Sink, reason: int) -> None:
    """Refuse the row at hand; the first reason stands."""
    if sink.state[_STATUS] == OK:
        sink.state[_STATUS] = reason


@inlined
def status(sink: Sink) -> int:
    """OK, or why the row at hand is refused."""
    return int(sink.state[_STATUS])


@inlined
def add_cell(sink: Sink, field: int, h: np.uint64, value: float) -> None:
    """Add the feature with hash ``h``."""
    k = sink.state[_CELLS]
    if k < MAX_ROW_FEATURES:
        sink.hashes[k] = h
        sink.amounts[k] = value
        sink.owners[k] = field
        sink.state[_CELLS] = k + 1
    else:
        fail(sink, TOO_MANY_FEATURES)


@inlined
def _add_number(plan: Plan, sink: Sink, field: int, salt: np.uint64, x: float) -> None:
    transform, value = LOG_BUCKET, 1.0
    if field != UNKNOWN and plan.fields[field, KIND] == NUMBER:
        transform = plan.fields[field, TRANSFORM]
    if transform == LOG_BUCKET:
        h = xxh64_word(np.uint64(log_bucket(x)), salt)
    elif transform == BINS:
        bucket = bin_of(x, plan.edges, plan.fields[field, EDGE_LO], plan.fields[field, EDGE_HI])
        h = xxh64_word(np.uint64(bucket), salt)
    else:
        h = xxh64_word(np.uint64(0), salt)
        value = signed_log1p(x) if transform == LOG1P else x
    add_cell(sink, field, h, value)


@inlined
def set_label(plan: Plan, sink: Sink, x: float) -> None:
    """The label: 0 or 1, or what the schema's threshold makes of a finite number."""
    if not math.isnan(sink.event[0]):
        fail(sink, TWO_LABELS)
    elif math.isfinite(x) and not math.isnan(plan.label_at_least):
        sink.event[0] = 1.0 if x >= plan.label_at_least else 0.0
    elif x == 0.0 or x == 1.0:
        sink.event[0] = x
    else:
        fail(sink, BAD_LABEL)


@inlined
def set_importance(sink: Sink, x: float) -> None:
    """The importance: finite and not negative."""
    if 0.0 <= x <= MAX_VALUE:
        sink.event[1] = x
    else:
        fail(sink, BAD_WEIGHT)


@kernel
def _add_tokens(
    sink: Sink, field: int, salt: np.uint64, separator: int, data: NDArray[np.uint8], lo: int, hi: int
) -> None:
    """The tokens between separators; empty ones are missing values."""
    start = lo
    for i in range(lo, hi + 1):
        if i == hi or data[i] == separator:
            if start < i:
                add_cell(sink, field, xxh64(data, start, i, salt), 1.0)
            start = i + 1


@inlined
def kind_of(plan: Plan, field: int) -> int:
    """The kind of a field; UNKNOWN has the kind of the others."""
    return plan.others if field == UNKNOWN else plan.fields[field, KIND]


@inlined
def add_number(plan: Plan, sink: Sink, field: int, salt: np.uint64, kind: int, x: float) -> None:
    """Add the number ``x`` to a field of kind NUMBER, AUTO, LABEL or WEIGHT."""
    if kind == LABEL:
        set_label(plan, sink, x)
    elif kind == WEIGHT:
        set_importance(sink, x)
    elif math.isfinite(x):
        _add_number(plan, sink, field, salt, x)
    else:
        fail(sink, BAD_NUMBER)


@inlined
def add_text(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, data: NDArray[np.uint8], lo: int, hi: int
) -> None:
    """Add the text ``data[lo:hi]`` as a value of ``field``; an empty text is a missing value."""
    kind = kind_of(plan, field)
    if lo == hi or kind == SKIP:
        return
    if kind == TOKEN or (kind == AUTO and scan_number(data, lo, hi) != DECIMAL):
        add_cell(sink, field, xxh64(data, lo, hi, salt), 1.0)
    elif kind == TOKENS:
        _add_tokens(sink, field, salt, plan.fields[field, SEPARATOR], data, lo, hi)
    else:
        add_number(plan, sink, field, salt, kind, parse_number(data, lo, hi))


@kernel
def _add_text_after(
    plan: Plan, sink: Sink, cells: int, field: int, salt: np.uint64, data: NDArray[np.uint8], lo: int, hi: int
) -> int:
    sink.state[_CELLS] = cells
    add_text(plan, sink, field, salt, data, lo, hi)
    return int(sink.state[_CELLS])


# What add_counted_text does itself with a text; ANY_TEXT is left to add_text.
SKIP_TEXT, HASH_TEXT, AUTO_TEXT, BUCKET_TEXT, LABEL_TEXT, ANY_TEXT = range(6)


@inlined
def way_of(plan: Plan, field: int) -> int:
    """The way in which :func:`add_counted_text` takes texts of a field."""
    kind = kind_of(plan, field)
    if kind == SKIP:
        return SKIP_TEXT
    if kind == TOKEN:
        return HASH_TEXT
    if kind == AUTO:
        return AUTO_TEXT
    if kind == LABEL:
        return LABEL_TEXT
    return BUCKET_TEXT if kind == NUMBER and plan.fields[field, TRANSFORM] == LOG_BUCKET else ANY_TEXT


@inlined
def add_counted_text(
    plan: Plan, sink: Sink, cells: int, way: int, field: int, salt: np.uint64,
    data: NDArray[np.uint8], lo: int, hi: int,
) -> int:  # fmt: skip
    """As :func:`add_text`, for a loop over many values that keeps the number of cells itself.

    The count comes in and the new one goes out, which spares every value a detour through
    memory; :func:`set_cells` hands it over before anything else is done with the row. What
    occurs most is merged into the loop, the rest is a call. Reads eight bytes from ``lo`` on.
    """
    if lo == hi or way == SKIP_TEXT:
        return cells
    if way != ANY_TEXT and cells < MAX_ROW_FEATURES:
        whole = -1 if way == HASH_TEXT else short_whole(data, lo, hi)
        if way == HASH_TEXT or (
            way == AUTO_TEXT
            and (whole >= 0 or at(data, lo) > _DIGIT_9 or scan_number(data, lo, hi) != DECIMAL)
        ):
            return _put_cell(sink, cells, field, xxh64(data, lo, hi, salt))
        if way == BUCKET_TEXT and whole >= 0:
            return _put_cell(sink, cells, field, xxh64_word(np.uint64(bucket_of_whole(whole)), salt))
        if way == LABEL_TEXT and whole >= 0:
            set_label(plan, sink, float(whole))
            return cells
        x = read_number(data, lo, hi)
        if way != LABEL_TEXT and math.isfinite(x):
            return _put_cell(sink, cells, field, xxh64_word(np.uint64(log_bucket(x)), salt))
    return _add_text_after(plan, sink, cells, field, salt, data, lo, hi)


@inlined
def _put_cell(sink: Sink, cells: int, field: int, h: np.uint64) -> int:
    put_at(sink.hashes, cells, h)
    put_at(sink.amounts, cells, 1.0)
    put_at(sink.owners, cells, field)
    return cells + 1


@inlined
def cell_count(sink: Sink) -> int:
    """How many cells the row at hand has so far, crosses apart."""
    return int(sink.state[_CELLS])


@inlined
def set_cells(sink: Sink, cells: int) -> None:
    """Hand over the number of cells of the row at hand."""
    sink.state[_CELLS] = cells


# Forms of a typed value: what JSON or Python says it is.
TEXT, WORD, INTEGER_FORM, DECIMAL_FORM, TRUE_FORM, FALSE_FORM = range(6)


@inlined
def add_value(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, form: int, data: NDArray[np.uint8], lo: int, hi: int
) -> None:
    """Add a typed value whose text is ``data[lo:hi]``.

    TEXT is read by the field's kind; WORD is one value of a list; numbers and truth values are
    tokens of their text in token fields, and a decimal is a number in an auto field.
    """
    kind = kind_of(plan, field)
    if kind == SKIP:
        return
    if form == TEXT:
        add_text(plan, sink, field, salt, data, lo, hi)
    elif kind == LABEL or kind == WEIGHT or kind == NUMBER or (kind == AUTO and form == DECIMAL_FORM):
        x = np.nan
        if form == INTEGER_FORM or form == DECIMAL_FORM:
            x = parse_number(data, lo, hi)
        elif kind == LABEL and form == TRUE_FORM:
            x = 1.0
        elif kind == LABEL and form == FALSE_FORM:
            x = 0.0
        add_number(plan, sink, field, salt, kind, x)
    elif lo < hi:
        add_cell(sink, field, xxh64(data, lo, hi, salt), 1.0)


@kernel
def _add_value_after(
    plan: Plan, sink: Sink, cells: int, field: int, salt: np.uint64, form: int,
    data: NDArray[np.uint8], lo: int, hi: int,
) -> int:  # fmt: skip
    sink.state[_CELLS] = cells
    add_value(plan, sink, field, salt, form, data, lo, hi)
    return int(sink.state[_CELLS])


@inlined
def add_counted_value(
    plan: Plan, sink: Sink, cells: int, way: int, field: int, salt: np.uint64, form: int,
    data: NDArray[np.uint8], lo: int, hi: int,
) -> int:  # fmt: skip
    """As :func:`add_value`, for a loop that keeps the number of cells: see :func:`add_counted_text`."""
    if way != ANY_TEXT and (form == TEXT or form == INTEGER_FORM):
        # An integer in an auto field is a token, as its text would be.
        return add_counted_text(plan, sink, cells, way, field, salt, data, lo, hi)
    return _add_value_after(plan, sink, cells, field, salt, form, data, lo, hi)


@kernel
def _find_members(plan: Plan, sink: Sink, cross: int) -> int:
    """List the cells of each of the cross's fields; returns how many combinations they have.

    The cells of its field d are ``members[bounds[d]:bounds[d + 1]]``. Counts above
    MAX_ROW_FEATURES are cut to one more than it.
    """
    lo = plan.cross_ptr[cross]
    combinations = 1
    count = 0
    for d in range(plan.cross_ptr[cross + 1] - lo):
        sink.bounds[d] = count
        for k in range(sink.state[_CELLS]):
            if sink.owners[k] == plan.cross_fields[lo + d]:
                sink.members[count] = k
                count += 1
        combinations = min(combinations * (count - sink.bounds[d]), MAX_ROW_FEATURES + 1)
        sink.bounds[d + 1] = count
    return combinations


@kernel
def _add_combinations(sink: Sink, salt: np.uint64, width: int) -> None:
    """Add every combination of the members of a cross, the last field's changing fastest."""
    path, bounds, hashes, values = sink.path, sink.bounds, sink.path_hashes, sink.path_values
    hashes[0], values[0] = salt, 1.0
    path[0] = bounds[0]
    depth = 0
    while depth >= 0:
        if path[depth] == bounds[depth + 1]:
            depth -= 1
            continue
        k = sink.members[path[depth]]
        path[depth] += 1
        hashes[depth + 1] = xxh64_word(sink.hashes[k], hashes[depth])
        values[depth + 1] = values[depth] * sink.amounts[k]
        if depth + 1 < width:
            depth += 1
            path[depth] = bounds[depth]
        else:
            add_cell(sink, UNKNOWN, hashes[width], values[width])


@kernel
def _add_crosses(plan: Plan, sink: Sink) -> None:
    """For each cross every combination of its fields' cells, in the order of the fields."""
    for cross in range(len(plan.cross_salts)):
        # Counting first bounds the work: a field without a value ends a cross at once.
        combinations = _find_members(plan, sink, cross)
        if sink.state[_CELLS] + combinations > MAX_ROW_FEATURES:
            fail(sink, TOO_MANY_FEATURES)
            return
        if combinations > 0:
            width = plan.cross_ptr[cross + 1] - plan.cross_ptr[cross]
            _add_combinations(sink, plan.cross_salts[cross], width)


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
    cells = sink.state[_CELLS]
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
    for cell in range(done, sink.state[_CELLS]):
        if sink.amounts[cell] != 0.0:
            k = _place(sink, start, k, bits, np.uint32(sink.hashes[cell] >> plan.shift), sink.amounts[cell])
    if _all_in_range(sink.values, start, k):
        sink.state[FEATURES] = k
    else:
        # Sums and products of finite values may overflow.
        fail(sink, BAD_NUMBER)
        sink.seen[:] = 0  # the next row starts at the same place


@inlined
def _write_row(plan: Plan, sink: Sink) -> int:
    """Cells to slots and values; returns whether some value is not 1."""
    state = sink.state
    start = state[FEATURES]
    bits = _SEEN_BITS_SHORT if state[_CELLS] <= _SHORT_ROW else _SEEN_BITS
    done = _place_ones(plan, sink, start, bits)
    if done == state[_CELLS]:
        state[FEATURES] = start + done
        return 0
    _place_rest(plan, sink, start, done, bits)
    return 1


@kernel
def _add_missing(plan: Plan, sink: Sink) -> None:
    """The features of fields that have none but whose absence counts."""
    stamp = sink.state[_STAMP]
    for cell in range(sink.state[_CELLS]):
        if sink.owners[cell] != UNKNOWN:
            sink.present[sink.owners[cell]] = stamp
    for i in range(len(plan.missing_fields)):
        field = plan.missing_fields[i]
        if sink.present[field] != stamp:
            add_cell(sink, field, plan.missing_hashes[i], 1.0)


@inlined
def finish(plan: Plan, sink: Sink, record: int, need_label: bool) -> None:
    """End the row of ``record``: keep it, or note why it is refused."""
    if len(plan.cross_salts) > 0 and sink.state[_STATUS] == OK:
        _add_crosses(plan, sink)
    if len(plan.missing_fields) > 0:
        _add_missing(plan, sink)
    if need_label and math.isnan(sink.event[0]):
        fail(sink, NO_LABEL)
    row = sink.state[ROWS]
    if sink.state[_STATUS] == OK:
        sink.valued[row] = _write_row(plan, sink)
    if sink.state[_STATUS] == OK:
        sink.labels[row] = sink.event[0]
        sink.importance[row] = sink.event[1]
        sink.records[row] = record
        sink.indptr[row + 1] = sink.state[FEATURES]
        sink.state[ROWS] = row + 1
    else:
        refuse(sink, record, sink.state[_STATUS])


@inlined
def refuse(sink: Sink, record: int, reason: int) -> None:
    """Note a record that is refused."""
    k = sink.state[REFUSED]
    sink.refused[k, 0] = record
    sink.refused[k, 1] = reason
    sink.state[REFUSED] = k + 1
