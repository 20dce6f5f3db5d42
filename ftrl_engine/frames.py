"""pandas frames to batches, a column at a time, with the slots that every text format gives.

Each column becomes *items*: its distinct values (or its numbers as they are) and the item of
every row. A compiled pass finds the cells of each item, another joins the columns to rows.
Rows are taken in parts, which bounds the memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.errors import DataError
from ftrl_engine.frame_columns import (
    MISSING,
    NO_NUMBERS,
    NUMBER_FORM,
    Column,
    Items,
    list_columns,
    read_column,
)
from ftrl_engine.hashing import as_buffer, salt
from ftrl_engine.jit import kernel
from ftrl_engine.plan import LABEL, TOKENS, WEIGHT, Plan, make_plan
from ftrl_engine.rows import (
    REASONS,
    REFUSED,
    Sink,
    add_cell,
    add_number,
    add_value,
    begin,
    cell_count,
    finish,
    has_room,
    kind_of,
    make_sink,
    status,
    with_room,
)
from ftrl_engine.schema import Schema

if TYPE_CHECKING:
    import pandas as pd

_PART_ROWS = 1 << 16
_NO_HASHES = np.empty(0, dtype=np.uint64)


def encode_frame(schema: Schema, frame: pd.DataFrame, bits: int) -> Batch:
    """The rows of ``frame`` as a Batch with 2**bits slots; features in the order of the columns.

    Labels are None where no column is the label. DataError names the column, the row (counted
    from 0) and the value that cannot be used.
    """
    plan = make_plan(schema, bits)
    columns = list_columns(schema, plan, frame)
    names = [column.name for column in columns if column.kind == LABEL]
    if len(names) > 1:
        raise DataError(f"columns {names[0]!r} and {names[1]!r} are both labels; name one in the schema")
    sink = make_sink(len(frame), len(frame) * len(columns))
    for first in range(0, len(frame), _PART_ROWS):
        sink = _encode_part(plan, columns, frame.iloc[first : first + _PART_ROWS], first, sink)
    batch = Batch.from_sink(sink, 1 << bits)
    batch.labels = batch.labels if names else None
    return batch


def _encode_part(plan: Plan, columns: list[Column], part: pd.DataFrame, first: int, sink: Sink) -> Sink:
    """Add the rows of ``part``, whose first one is row ``first`` of the frame."""
    labels, importance = np.full(len(part), np.nan), np.ones(len(part))
    fields, items = [], []
    pointers, hashes, amounts = [np.zeros(1, dtype=np.int64)], [_NO_HASHES], [NO_NUMBERS]
    known, cells = 0, 0
    for column in columns:
        read = read_column(part.iloc[:, column.place], column, first)
        cell_ptr, found = _find_cells(plan, sink, column, read, part, first, hashes, amounts)
        if column.kind == LABEL:
            labels = _at(read.rows, found, np.nan)
            _refuse_missing_label(column, labels, first)
        elif column.kind == WEIGHT:
            importance = _at(read.rows, found, 1.0)
        else:
            fields.append(column.field)
            items.append(np.where(read.rows == MISSING, MISSING, read.rows + known))
            pointers.append(cell_ptr[1:] + cells)
            known += len(cell_ptr) - 1
        cells = sum(map(len, hashes))
    table = np.array(items, dtype=np.int64).reshape(len(fields), len(part))
    row = 0
    while row < len(part):
        sink = with_room(sink)
        row = join_columns(
            table, np.array(fields, dtype=np.int64), np.concatenate(pointers), np.concatenate(hashes),
            np.concatenate(amounts), labels, importance, first, row, plan, sink,
        )  # fmt: skip
    if sink.state[REFUSED]:
        raise DataError(f"row {int(sink.refused[0, 0])}: {REASONS[int(sink.refused[0, 1])]}")
    return sink


def _at(rows: NDArray[np.int64], values: NDArray[np.float64], default: float) -> NDArray[np.float64]:
    """The value of each row's item, ``default`` where it is missing."""
    result = np.full(len(rows), default)
    given = rows != MISSING
    result[given] = values[rows[given]]
    return result


def _refuse_missing_label(column: Column, labels: NDArray[np.float64], first: int) -> None:
    missing = np.flatnonzero(np.isnan(labels))
    if len(missing):
        raise DataError(
            f"column {column.name!r}, row {first + int(missing[0])}: the label is missing; "
            "drop such rows, or the column to encode without labels"
        )


def _find_cells(
    plan: Plan, sink: Sink, column: Column, read: Items, part: pd.DataFrame, first: int,
    hashes: list[NDArray[np.uint64]], amounts: list[NDArray[np.float64]],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:  # fmt: skip
    """Append the cells of a column; returns int64[u+1] into them and each item's label or importance."""
    count = len(read.ptr) - 1
    bounds = np.zeros(len(read.texts) + 1, dtype=np.int64)
    np.cumsum([len(text) for text in read.texts], out=bounds[1:])
    data = as_buffer(b"".join(read.texts), padding=64)
    room = len(read.forms) + (len(data) // 2 if column.kind == TOKENS else 0)
    cells, values = np.empty(room, dtype=np.uint64), np.empty(room)
    ptr, found, problems = np.zeros(count + 1, np.int64), np.empty(count), np.zeros(count, np.int64)
    encode_items(
        plan, sink, column.field, np.uint64(salt(column.name)), read.ptr, read.forms, read.numbers, bounds,
        data, ptr, cells, values, found, problems,
    )  # fmt: skip
    refused = np.flatnonzero(np.isin(read.rows, np.flatnonzero(problems)))
    if len(refused):
        row = int(refused[0])
        reason = REASONS[int(problems[read.rows[row]])]
        value = part.iloc[row, column.place]
        raise DataError(f"column {column.name!r}, row {first + row}: {reason}, got {value!r}")
    hashes.append(cells[: ptr[-1]])
    amounts.append(values[: ptr[-1]])
    return ptr, found


@kernel
def encode_items(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, ptr: NDArray[np.int64], forms: NDArray[np.int64],
    numbers: NDArray[np.float64], bounds: NDArray[np.int64], data: NDArray[np.uint8],
    cell_ptr: NDArray[np.int64], hashes: NDArray[np.uint64], amounts: NDArray[np.float64],
    found: NDArray[np.float64], problems: NDArray[np.int64],
) -> None:  # fmt: skip
    """The cells of every item; the row at hand of ``sink`` is their workplace."""
    kind = kind_of(plan, field)
    count = 0
    for item in range(len(ptr) - 1):
        begin(sink)
        for p in range(ptr[item], ptr[item + 1]):
            if forms[p] == NUMBER_FORM:
                add_number(plan, sink, field, salt, kind, numbers[p])
            else:
                add_value(plan, sink, field, salt, forms[p], data, bounds[p], bounds[p + 1])
        for cell in range(cell_count(sink)):
            hashes[count], amounts[count] = sink.hashes[cell], sink.amounts[cell]
            count += 1
        cell_ptr[item + 1] = count
        problems[item] = status(sink)
        found[item] = sink.event[1] if kind == WEIGHT else sink.event[0]


@kernel
def join_columns(
    table: NDArray[np.int64], fields: NDArray[np.int64], ptr: NDArray[np.int64], hashes: NDArray[np.uint64],
    amounts: NDArray[np.float64], labels: NDArray[np.float64], importance: NDArray[np.float64],
    first: int, row: int, plan: Plan, sink: Sink,
) -> int:  # fmt: skip
    """Add rows ``row <= r < n`` of int64[C, n] items; returns the first that found no room."""
    for r in range(row, len(labels)):
        if not has_room(sink):
            return r
        begin(sink)
        sink.event[0], sink.event[1] = labels[r], importance[r]
        for c in range(len(fields)):
            if table[c, r] != MISSING:
                for k in range(ptr[table[c, r]], ptr[table[c, r] + 1]):
                    add_cell(sink, fields[c], hashes[k], amounts[k])
        finish(plan, sink, first + r, False)
    return len(labels)
