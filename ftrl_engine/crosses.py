"""Crosses: every combination of the cells of several fields is a feature."""

from __future__ import annotations

import numpy as np

from ftrl_engine.hashing import xxh64_word
from ftrl_engine.jit import kernel
from ftrl_engine.plan import UNKNOWN, Plan
from ftrl_engine.sink import CELLS, MAX_ROW_FEATURES, TOO_MANY_FEATURES, Sink, add_cell, fail


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
        field = plan.cross_fields[lo + d]
        sink.bounds[d] = count
        for k in range(sink.state[CELLS]):
            if sink.owners[k] == field:
                sink.members[count] = k
                count += 1
        # Read first: threads may share it.
        if count > sink.bounds[d] and not sink.met[field]:
            sink.met[field] = 1
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
def add_crosses(plan: Plan, sink: Sink) -> None:
    """For each cross every combination of its fields' cells, in the order of the fields."""
    for cross in range(len(plan.cross_salts)):
        # Counting first bounds the work: a field without a value ends a cross at once.
        combinations = _find_members(plan, sink, cross)
        if sink.state[CELLS] + combinations > MAX_ROW_FEATURES:
            fail(sink, TOO_MANY_FEATURES)
            return
        if combinations > 0:
            width = plan.cross_ptr[cross + 1] - plan.cross_ptr[cross]
            _add_combinations(sink, plan.cross_salts[cross], width)
