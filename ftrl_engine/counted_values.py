"""Values to cells for loops over many values of a row, which keep the number of cells themselves.

What occurs most is merged into the loop and what is rare is a call; the cells are the same as
those of :mod:`ftrl_engine.values`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.hashing import xxh64_short, xxh64_word
from ftrl_engine.intrinsics import at
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.numbers import (
    DECIMAL,
    bucket_of_whole,
    log_bucket,
    plain_decimal,
    read_number,
    scan_number,
    short_whole,
)
from ftrl_engine.plan import AUTO, LABEL, LOG_BUCKET, NUMBER, SKIP, TOKEN, TRANSFORM, Plan
from ftrl_engine.sink import CELLS, MAX_ROW_FEATURES, Sink, put_cell
from ftrl_engine.values import INTEGER_FORM, TEXT, add_text, add_value, kind_of, set_label

_DIGIT_9 = 57  # no number starts with a byte above it


@kernel
def add_text_after(
    plan: Plan, sink: Sink, cells: int, field: int, salt: np.uint64, data: NDArray[np.uint8], lo: int, hi: int
) -> int:
    """As :func:`add_text` after ``cells`` others; returns the new number."""
    sink.state[CELLS] = cells
    add_text(plan, sink, field, salt, data, lo, hi)
    return int(sink.state[CELLS])


@inlined
def put_bucket(sink: Sink, cells: int, field: int, salt: np.uint64, x: float) -> int:
    """Add the bucket of a finite number to ``cells`` others; returns the new number."""
    return put_cell(sink, cells, field, xxh64_word(np.uint64(log_bucket(x)), salt))


@kernel
def add_other_number(
    plan: Plan, sink: Sink, cells: int, field: int, salt: np.uint64, data: NDArray[np.uint8], lo: int, hi: int
) -> int:
    """Add a text to a field as the bucket of its number; there must be room for it."""
    end, x = plain_decimal(data, lo, hi)
    if end != hi:
        x = read_number(data, lo, hi)
    if math.isfinite(x):
        return put_bucket(sink, cells, field, salt, x)
    return add_text_after(plan, sink, cells, field, salt, data, lo, hi)


@inlined
def is_token(data: NDArray[np.uint8], lo: int, hi: int) -> bool:
    """Whether a text that is not empty is a token in an auto field; reads eight bytes from ``lo`` on."""
    if at(data, lo) > _DIGIT_9 or short_whole(data, lo, hi) >= 0:
        return True
    end, _ = plain_decimal(data, lo, hi)
    return end != hi and scan_number(data, lo, hi) != DECIMAL


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
        if way == HASH_TEXT or (way == AUTO_TEXT and at(data, lo) > _DIGIT_9):
            return put_cell(sink, cells, field, xxh64_short(data, lo, hi, salt))
        whole = short_whole(data, lo, hi)
        if way == AUTO_TEXT and (whole >= 0 or scan_number(data, lo, hi) != DECIMAL):
            return put_cell(sink, cells, field, xxh64_short(data, lo, hi, salt))
        if way == BUCKET_TEXT and whole >= 0:
            return put_cell(sink, cells, field, xxh64_word(np.uint64(bucket_of_whole(whole)), salt))
        if way == LABEL_TEXT and whole >= 0:
            set_label(plan, sink, float(whole))
            return cells
        x = read_number(data, lo, hi)
        if way != LABEL_TEXT and math.isfinite(x):
            return put_bucket(sink, cells, field, salt, x)
    return add_text_after(plan, sink, cells, field, salt, data, lo, hi)


@kernel
def _add_value_after(
    plan: Plan, sink: Sink, cells: int, field: int, salt: np.uint64, form: int,
    data: NDArray[np.uint8], lo: int, hi: int,
) -> int:  # fmt: skip
    sink.state[CELLS] = cells
    add_value(plan, sink, field, salt, form, data, lo, hi)
    return int(sink.state[CELLS])


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
