"""The scores of a request in one compiled call: the context once, each candidate on top.

A row is the context with the candidate's fields in place of its own (a field of the candidate
hides the context's field of that name). A margin is a sum over features, so::

    margin = intercept + sum of w x over the context's features that are not hidden
             + sum of w x over the candidate's features + sum of w x over the crosses

The context's sum is taken once, and a cross is taken again only where the candidate gives one
of its fields. The hashes are those of :mod:`ftrl_engine.rows`, and so are the limits of a row.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.jit import inlined, kernel
from ftrl_engine.losses import sigmoid
from ftrl_engine.plan import CROSSED, KIND, SKIP, TOKEN, TOKENS, UNKNOWN, Plan, find_field
from ftrl_engine.sink import (
    MAX_ROW_FEATURES,
    OK,
    SLOW,
    TOO_MANY_FEATURES,
    Sink,
    begin,
    cell_count,
    fail,
    status,
)
from ftrl_engine.values import DECIMAL_FORM, add_value, kind_of
from serving.request_arrays import (
    CONTEXT,
    CONTEXT_HEAD,
    COUNT,
    ENTRIES,
    FEATURES,
    FIELD,
    FIRST_RESULT,
    GIVEN_IN,
    HIDDEN_IN,
    HIDES,
    LINKED,
    MISSING,
    MISSING_FIELDS,
    NONE,
    PRESENT,
    PRESENT_IN,
    RAW_DECIMAL,
    ROW,
    ROW_FEATURES,
    ROW_HEAD,
    UNKNOWN_FIELDS,
    VALUE,
    Values,
    Weights,
    Work,
    recall,
)
from serving.request_crosses import sum_crosses, weight_of
from serving.request_json import SLOW_REQUEST, scan_request

# Features computed for one request; it bounds the time that other requests wait.
MAX_REQUEST_FEATURES = 1 << 22
# Reasons beside those of ftrl_engine.sink.
NOT_FINITE, TOO_MUCH_WORK = 100, 101


@inlined
def _add_cells(plan: Plan, sink: Sink, values: Values, i: int, field: int) -> None:
    """Add the cells of value i to the row at hand."""
    form = values.forms[i]
    if form == RAW_DECIMAL:
        form = DECIMAL_FORM
        kind = kind_of(plan, field)
        if kind == TOKEN or kind == TOKENS:
            fail(sink, SLOW)
    if form != MISSING:
        add_value(plan, sink, field, values.salts[i], form, values.data, values.starts[i], values.ends[i])


@inlined
def _sum_cells(plan: Plan, sink: Sink, weights: Weights, before: int) -> tuple[float, bool]:
    """Margin of the row's cells from ``before`` on, and whether one of them has a weight."""
    margin = 0.0
    known = False
    for k in range(before, cell_count(sink)):
        weight = weight_of(weights, np.uint32(sink.hashes[k] >> plan.shift))
        margin += weight * sink.amounts[k]
        known = known or weight != 0.0
    return margin, known


@inlined
def _note_named(plan: Plan, sink: Sink, work: Work, row: int, field: int, before: int) -> None:
    """Note the cells from ``before`` on as those of a field of the schema; link them for the crosses."""
    if cell_count(sink) > before and work.fields[field, PRESENT_IN] != row:
        work.fields[field, PRESENT_IN] = row
        work.state[PRESENT] += 1
    if plan.fields[field, CROSSED] == 0:
        return
    side = CONTEXT_HEAD
    if row != CONTEXT:
        side = ROW_HEAD
        if work.fields[field, GIVEN_IN] != row:
            work.fields[field, GIVEN_IN] = row
            work.fields[field, ROW_HEAD] = NONE
    for k in range(before, cell_count(sink)):
        linked = work.state[LINKED]
        work.hashes[linked] = sink.hashes[k]
        work.amounts[linked] = sink.amounts[k]
        work.following[linked] = work.fields[field, side]
        work.fields[field, side] = linked
        work.state[LINKED] = linked + 1


@inlined
def _find_entry(work: Work, mask: int, salt: np.uint64) -> int:
    """The table's cell of a context field: its own, or the free one where it would stand."""
    cell: Any = np.int64(salt & np.uint64(mask))
    while work.table[cell] != NONE and work.entry_salt[work.table[cell]] != salt:
        cell = (cell + 1) & mask
        work.state[FEATURES] += 1  # made-up names may collide, so looking is work too
    found: int = cell
    return found


@inlined
def _note_entry(work: Work, cell: int, salt: np.uint64, field: int, margin: float, added: int) -> None:
    """Add a value to the context's entry of its field."""
    if work.table[cell] == NONE:
        entry = work.state[ENTRIES]
        work.state[ENTRIES] = entry + 1
        work.table[cell] = entry
        work.entry_salt[entry] = salt
        work.entry_margin[entry] = 0.0
        work.entries[entry, FIELD] = field
        work.entries[entry, COUNT] = 0
        work.entries[entry, HIDDEN_IN] = CONTEXT
    entry = work.table[cell]
    work.entry_margin[entry] += margin
    work.entries[entry, COUNT] += added


@inlined
def _read_values(
    plan: Plan, sink: Sink, values: Values, work: Work, weights: Weights, row: int, mask: int
) -> float:
    """The margin of the row's own values; the row's status says whether all of them have a meaning."""
    state = work.state
    total = 0.0
    unnamed, known = False, False  # of the field at hand, which may have several values
    begin(sink)
    first = 0 if row == CONTEXT else values.bounds[row]
    for i in range(first, values.bounds[row + 1]):
        state[VALUE] = i
        salt = values.salts[i]
        field = find_field(plan, salt)
        before = cell_count(sink)
        _add_cells(plan, sink, values, i, field)
        if status(sink) != OK or state[FEATURES] > MAX_REQUEST_FEATURES:
            break
        margin, has_weight = _sum_cells(plan, sink, weights, before)
        total += margin
        state[FEATURES] += 1 + cell_count(sink) - before
        if i > first and salt != values.salts[i - 1]:
            state[UNKNOWN_FIELDS] += 1 if unnamed and not known else 0
            unnamed, known = False, False
        unnamed = unnamed or (field == UNKNOWN and values.forms[i] != MISSING)
        known = known or has_weight
        if field != UNKNOWN:
            _note_named(plan, sink, work, row, field, before)
        cell = _find_entry(work, mask, salt)
        if row == CONTEXT:
            _note_entry(work, cell, salt, field, margin, cell_count(sink) - before)
        elif work.table[cell] != NONE:
            work.entries[work.table[cell], HIDDEN_IN] = row
            state[HIDES] = 1
    state[UNKNOWN_FIELDS] += 1 if unnamed and not known else 0
    state[ROW_FEATURES] = cell_count(sink)
    return total


@inlined
def _sum_visible(work: Work, row: int) -> float:
    """Margin of the context's fields that the row does not hide; adds to the row's counts."""
    margin = 0.0
    for entry in range(work.state[ENTRIES]):
        features = work.entries[entry, COUNT]
        if features > 0 and work.entries[entry, HIDDEN_IN] != row:
            margin += work.entry_margin[entry]
            work.state[ROW_FEATURES] += features
            work.state[PRESENT] += 1 if work.entries[entry, FIELD] != UNKNOWN else 0
    work.state[FEATURES] += work.state[ENTRIES]
    return margin


@inlined
def _sum_missing(plan: Plan, work: Work, weights: Weights, row: int, mask: int) -> float:
    """Margin of the features that say which fields have no value in the row."""
    margin = 0.0
    for i in range(len(plan.missing_fields)):
        field = plan.missing_fields[i]
        entry = work.table[_find_entry(work, mask, plan.salts[field])]
        shared = entry != NONE and work.entries[entry, COUNT] > 0 and work.entries[entry, HIDDEN_IN] != row
        if work.fields[field, PRESENT_IN] != row and not shared:
            margin += weight_of(weights, np.uint32(plan.missing_hashes[i] >> plan.shift))
    return margin


@inlined
def _clear(values: Values, work: Work) -> int:
    """Empty the scratch; returns the mask of the table of entries."""
    size = 16
    while size < 2 * values.bounds[0]:
        size *= 2
    for cell in range(size):
        work.table[cell] = NONE
    for field in range(len(work.fields)):
        work.fields[field, CONTEXT_HEAD] = NONE
        work.fields[field, GIVEN_IN] = CONTEXT - 1
        work.fields[field, PRESENT_IN] = CONTEXT - 1
    for cell in range(len(work.state)):
        work.state[cell] = 0
    return size - 1


@kernel
def score_request(words: NDArray[np.uint64], rows: int) -> int:
    """Write the probabilities of all rows to the results; OK, or why the request is refused.

    ``words`` are those of :data:`serving.request_arrays.KEPT`. ``Work.state`` tells the value and the
    row at fault.
    """
    plan, sink, values, work, weights, answer = recall(words)
    results = answer.results
    mask = _clear(values, work)
    state = work.state
    named = 0
    for field in range(len(plan.fields)):
        named += 1 if plan.fields[field, KIND] != SKIP else 0
    shared, present, features, linked = 0.0, 0, 0, 0
    for row in range(CONTEXT, rows):
        state[ROW], state[PRESENT], state[HIDES], state[LINKED] = row, 0, 0, linked
        margin = _read_values(plan, sink, values, work, weights, row, mask)
        if status(sink) != OK:
            return status(sink)
        if row == CONTEXT:
            shared, present, features, linked = margin, state[PRESENT], state[ROW_FEATURES], state[LINKED]
        elif state[HIDES] == 1:
            margin += _sum_visible(work, row)
        else:
            margin += shared
            state[PRESENT] += present
            state[ROW_FEATURES] += features
        margin += sum_crosses(plan, work, weights, row)
        if state[FEATURES] > MAX_REQUEST_FEATURES:
            return TOO_MUCH_WORK
        state[VALUE] = NONE
        if state[ROW_FEATURES] > MAX_ROW_FEATURES:
            return TOO_MANY_FEATURES
        if row != CONTEXT:
            margin += _sum_missing(plan, work, weights, row, mask)
            if not math.isfinite(margin + weights.intercept):
                return NOT_FINITE
            state[MISSING_FIELDS] += named - state[PRESENT]
            results[FIRST_RESULT + row] = sigmoid(margin + weights.intercept)
    results[0], results[1] = state[UNKNOWN_FIELDS], state[MISSING_FIELDS]
    return OK


@kernel
def answer_request(words: NDArray[np.uint64], size: int, max_fields: int) -> int:
    """Scan and score the request in ``data[:size]``; its number of rows, or SLOW_REQUEST.

    More than ``max_fields`` values are left to the careful way, because an object may have too many.
    """
    rows = scan_request(words, size)
    if rows < 0 or recall(words)[2].bounds[rows] > max_fields:
        return SLOW_REQUEST
    if score_request(words, rows) != OK:
        return SLOW_REQUEST
    return rows
