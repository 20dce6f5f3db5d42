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

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.counted_values import add_counted_value
from ftrl_engine.intrinsics import at, put_at
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.losses import sigmoid
from ftrl_engine.plan import CROSSED, KIND, SKIP, UNKNOWN, Plan
from ftrl_engine.sink import (
    MAX_ROW_FEATURES,
    OK,
    SLOW,
    TOO_MANY_FEATURES,
    Sink,
    begin,
    fail,
    set_cells,
    status,
)
from ftrl_engine.values import DECIMAL_FORM, kind_of
from serving.request_arrays import (
    CONTEXT,
    CONTEXT_FEATURES,
    CONTEXT_HEAD,
    CONTEXT_LINKED,
    CONTEXT_PRESENT,
    FEATURES,
    GIVEN_IN,
    HIDDEN_IN,
    HIDES,
    KEY_ENTRY,
    KEY_FIELD,
    KEY_WAY,
    KEYS,
    LINKED,
    MISSING,
    MISSING_FIELDS,
    NAMED,
    NONE,
    NOTES,
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
    is_token_kind,
    recall,
)
from serving.request_context import add_context, look_up_keys, note_entry, sum_missing
from serving.request_crosses import sum_crosses, weight_of
from serving.score_counts import FIRST_RESULT

# Features computed for one request; it bounds the time that other requests wait.
MAX_REQUEST_FEATURES = 1 << 22
# Reasons beside those of ftrl_engine.sink.
NOT_FINITE, TOO_MUCH_WORK = 100, 101


@inlined
def _add_cells(plan: Plan, sink: Sink, values: Values, work: Work, i: int, cells: int) -> int:
    """Add the cells of value i to the ``cells`` of the row at hand; returns their number then."""
    form, key = at(values.forms, i), at(values.keys, i)
    if form == MISSING:
        return cells
    field, way = at(work.notes, NOTES * key + KEY_FIELD), at(work.notes, NOTES * key + KEY_WAY)
    if form == RAW_DECIMAL:
        form = DECIMAL_FORM
        if is_token_kind(kind_of(plan, field)):
            fail(sink, SLOW)
    return add_counted_value(
        plan, sink, cells, way, field, at(values.salts, key), form,
        values.data, at(values.starts, i), at(values.ends, i),
    )  # fmt: skip


@inlined
def _note_named(plan: Plan, sink: Sink, work: Work, row: int, field: int, before: int, cells: int) -> None:
    """Note the cells from ``before`` to ``cells`` as a field of the schema; link them for the crosses."""
    if cells > before and work.fields[field, PRESENT_IN] != row:
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
    for k in range(before, cells):
        linked = work.state[LINKED]
        work.hashes[linked] = sink.hashes[k]
        work.amounts[linked] = sink.amounts[k]
        work.following[linked] = work.fields[field, side]
        work.fields[field, side] = linked
        work.state[LINKED] = linked + 1


@inlined
def _make_cells(plan: Plan, sink: Sink, values: Values, work: Work, first: int, end: int, mask: int) -> None:
    """Add the cells of a row's values; the row's status says whether all of them have a meaning."""
    state = work.state
    cells = 0
    begin(sink)
    for i in range(first, end):
        key = at(values.keys, i)
        if key >= state[KEYS]:
            look_up_keys(plan, values, work, key, mask)
        cells = _add_cells(plan, sink, values, work, i, cells)
        put_at(work.ends, i, cells)
        if status(sink) != OK or state[FEATURES] > MAX_REQUEST_FEATURES:
            state[VALUE] = i
            break
    set_cells(sink, cells)
    state[ROW_FEATURES] = cells
    state[FEATURES] += end - first + cells


@inlined
def _sum_values(
    plan: Plan, sink: Sink, values: Values, work: Work, weights: Weights,
    row: int, first: int, end: int, mask: int,
) -> float:  # fmt: skip
    """The margin of the row's own values, whose cells are made."""
    state, keys = work.state, values.keys
    total, lo = 0.0, 0
    unnamed, known = False, False  # of the field at hand, which may have several values
    for i in range(first, end):
        key, cells = at(keys, i), at(work.ends, i)
        field, entry = at(work.notes, NOTES * key + KEY_FIELD), at(work.notes, NOTES * key + KEY_ENTRY)
        if i > first and key != at(keys, i - 1):
            state[UNKNOWN_FIELDS] += 1 if unnamed and not known else 0
            unnamed, known = False, False
        margin = 0.0
        for k in range(lo, cells):
            weight = weight_of(weights, np.uint32(at(sink.hashes, k) >> plan.shift))
            margin += weight * at(sink.amounts, k)
            known = known or weight != 0.0
        total += margin
        unnamed = unnamed or (field == UNKNOWN and at(values.forms, i) != MISSING)
        if field != UNKNOWN:
            _note_named(plan, sink, work, row, field, lo, cells)
        if row == CONTEXT:
            note_entry(values, work, mask, key, margin, cells - lo)
        elif entry != NONE:
            work.entries[entry, HIDDEN_IN] = row
            state[HIDES] = 1
        lo = cells
    state[UNKNOWN_FIELDS] += 1 if unnamed and not known else 0
    return total


@kernel
def begin_request(words: NDArray[np.uint64]) -> int:
    """Empty the scratch; returns the mask of the table of entries."""
    plan, _, values, _, _, work, _, _ = recall(words)
    size = 16
    while size < 2 * values.bounds[0]:
        size *= 2
    for cell in range(size):
        work.table[cell] = NONE
    for cell in range(len(work.state)):
        work.state[cell] = 0
    for field in range(len(work.fields)):
        work.fields[field, CONTEXT_HEAD] = NONE
        work.fields[field, GIVEN_IN] = CONTEXT - 1
        work.fields[field, PRESENT_IN] = CONTEXT - 1
        work.state[NAMED] += 1 if plan.fields[field, KIND] != SKIP else 0
    return size - 1


@inlined
def begin_row(work: Work, row: int) -> None:
    """Start a row, the context first."""
    state = work.state
    state[ROW], state[PRESENT], state[HIDES], state[LINKED] = row, 0, 0, state[CONTEXT_LINKED]


@inlined
def finish_row(
    plan: Plan, work: Work, weights: Weights, results: NDArray[np.float64], row: int, margin: float, mask: int
) -> int:
    """Add to the margin of a row's own values what else it has, and write its probability; OK or why not."""
    state = work.state
    if row == CONTEXT:
        work.shared[0] = margin
        state[CONTEXT_PRESENT], state[CONTEXT_FEATURES] = state[PRESENT], state[ROW_FEATURES]
        state[CONTEXT_LINKED] = state[LINKED]
    else:
        margin = add_context(work, row, margin)
    margin += sum_crosses(plan, work, weights, row)
    state[VALUE] = NONE
    if state[FEATURES] > MAX_REQUEST_FEATURES:
        return TOO_MUCH_WORK
    if state[ROW_FEATURES] > MAX_ROW_FEATURES:
        return TOO_MANY_FEATURES
    if row != CONTEXT:
        margin += sum_missing(plan, work, weights, row, mask)
        if not math.isfinite(margin + weights.intercept):
            return NOT_FINITE
        state[MISSING_FIELDS] += state[NAMED] - state[PRESENT]
        results[FIRST_RESULT + row] = sigmoid(margin + weights.intercept)
    return OK


@inlined
def end_request(work: Work, results: NDArray[np.float64]) -> None:
    """Write what was counted over all rows."""
    results[0], results[1] = work.state[UNKNOWN_FIELDS], work.state[MISSING_FIELDS]


@kernel
def score_row(words: NDArray[np.uint64], row: int, first: int, end: int, mask: int) -> int:
    """Write the probability of a row with the values from ``first`` to ``end``; OK or why not.

    The row CONTEXT comes first and has none.
    """
    plan, sink, values, _, _, work, weights, answer = recall(words)
    begin_row(work, row)
    _make_cells(plan, sink, values, work, first, end, mask)
    if status(sink) != OK:
        return status(sink)
    if work.state[FEATURES] > MAX_REQUEST_FEATURES:
        return TOO_MUCH_WORK
    margin = _sum_values(plan, sink, values, work, weights, row, first, end, mask)
    return finish_row(plan, work, weights, answer.results, row, margin, mask)


@kernel
def score_request(words: NDArray[np.uint64], rows: int) -> int:
    """Write the probabilities of all rows to the results; OK, or why the request is refused.

    ``words`` are those of :data:`serving.request_arrays.KEPT`. ``Work.state`` tells the value and the
    row at fault.
    """
    _, _, values, _, _, work, _, answer = recall(words)
    mask = begin_request(words)
    first = 0
    for row in range(CONTEXT, rows):
        end = values.bounds[row + 1]
        reason = score_row(words, row, first, end, mask)
        if reason != OK:
            return reason
        first = end
    end_request(work, answer.results)
    return OK
