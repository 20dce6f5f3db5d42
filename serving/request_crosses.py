"""The crosses of a row: every combination of the cells of their fields, looked up and summed.

The hash of a combination is that of :mod:`ftrl_engine.hashing`: the cells' hashes folded, from
the cross's salt on, in the order of its fields.
"""

from __future__ import annotations

import numpy as np

from ftrl_engine.hashing import xxh64_word
from ftrl_engine.jit import inlined
from ftrl_engine.plan import Plan
from ftrl_engine.sink import MAX_ROW_FEATURES
from ftrl_engine.weight_table import find_weight
from serving.request_arrays import (
    CONTEXT,
    CONTEXT_HEAD,
    FEATURES,
    GIVEN_IN,
    NONE,
    ROW_FEATURES,
    ROW_HEAD,
    Weights,
    Work,
)


@inlined
def weight_of(weights: Weights, slot: np.uint32) -> float:
    """The slot's weight; exactly 0 where the snapshot has none."""
    return find_weight(weights.cells, slot)


@inlined
def _first_cell(work: Work, row: int, field: int) -> int:
    """The first cell of a crossed field: the row's own where it gives the field, else the context's."""
    side = ROW_HEAD if work.fields[field, GIVEN_IN] == row else CONTEXT_HEAD
    cell: int = work.fields[field, side]
    return cell


@inlined
def _combine(plan: Plan, work: Work, weights: Weights, row: int, cross: int) -> tuple[float, int]:
    """Margin and number of the combinations of a cross in ``row``; stops above a row's limit."""
    lo, hi = plan.cross_ptr[cross], plan.cross_ptr[cross + 1]
    path, hashes, values = work.path, work.path_hashes, work.path_values
    hashes[0], values[0] = plan.cross_salts[cross], 1.0
    depth = 0
    for part in range(lo, hi):
        if _first_cell(work, row, plan.cross_fields[part]) == NONE:
            depth = -1  # a field without a value ends a cross at once
    margin, count = 0.0, 0
    path[0] = _first_cell(work, row, plan.cross_fields[lo])
    while depth >= 0 and count <= MAX_ROW_FEATURES:
        k = path[depth]
        if k == NONE:
            depth -= 1
            continue
        path[depth] = work.following[k]
        h = xxh64_word(work.hashes[k], hashes[depth])
        value = values[depth] * work.amounts[k]
        if lo + depth + 1 < hi:
            depth += 1
            hashes[depth], values[depth] = h, value
            path[depth] = _first_cell(work, row, plan.cross_fields[lo + depth])
        else:
            margin += weight_of(weights, np.uint32(h >> plan.shift)) * value
            count += 1
    work.state[FEATURES] += count
    return margin, count


@inlined
def sum_crosses(plan: Plan, work: Work, weights: Weights, row: int) -> float:
    """Margin of the row's crosses; those that the row gives no field of are the context's."""
    total = 0.0
    for cross in range(len(plan.cross_salts)):
        again = row == CONTEXT
        for part in range(plan.cross_ptr[cross], plan.cross_ptr[cross + 1]):
            again = again or work.fields[plan.cross_fields[part], GIVEN_IN] == row
        margin, count = work.cross_margin[cross], work.cross_count[cross]
        if again:
            margin, count = _combine(plan, work, weights, row, cross)
        if row == CONTEXT:
            work.cross_margin[cross], work.cross_count[cross] = margin, count
        total += margin
        work.state[ROW_FEATURES] += count
    return total
