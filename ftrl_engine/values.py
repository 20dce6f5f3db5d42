"""Values of fields to cells of the row at hand, by the kinds and transforms of the schema."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.hashing import xxh64, xxh64_word
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.numbers import DECIMAL, bin_of, log_bucket, parse_number, scan_number, signed_log1p
from ftrl_engine.plan import (
    AUTO,
    BINS,
    EDGE_HI,
    EDGE_LO,
    KIND,
    LABEL,
    LOG1P,
    LOG_BUCKET,
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
from ftrl_engine.sink import BAD_LABEL, BAD_NUMBER, BAD_WEIGHT, MAX_VALUE, TWO_LABELS, Sink, add_cell, fail

# Forms of a typed value: what JSON or Python says it is.
TEXT, WORD, INTEGER_FORM, DECIMAL_FORM, TRUE_FORM, FALSE_FORM = range(6)

_TRUE, _FALSE = (np.frombuffer(word, dtype=np.uint8) for word in (b"true", b"false"))
_SMALL = np.uint8(32)  # the bit that makes a letter small, and nothing else one


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


@kernel
def _truth(data: NDArray[np.uint8], lo: int, hi: int) -> float:
    """1 for the text true, 0 for false, in letters of any size; otherwise NaN."""
    for word, value in ((_TRUE, 1.0), (_FALSE, 0.0)):
        if hi - lo == len(word):
            same = True
            for i in range(len(word)):
                same = same and (data[lo + i] | _SMALL) == word[i]
            if same:
                return value
    return np.nan


@kernel
def _add_label(plan: Plan, sink: Sink, data: NDArray[np.uint8], lo: int, hi: int) -> None:
    """The label from text, as a number or a truth value; a threshold needs a number."""
    x = parse_number(data, lo, hi)
    if math.isnan(x) and math.isnan(plan.label_at_least):
        x = _truth(data, lo, hi)
    set_label(plan, sink, x)


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
    elif kind == LABEL:
        _add_label(plan, sink, data, lo, hi)
    else:
        add_number(plan, sink, field, salt, kind, parse_number(data, lo, hi))


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
