"""The context's fields: found by their keys, hidden by a row's own, summed once.

A table of salts leads from a field to its entry, which has the margin of its values, how many features
they are, and the last row that hides them.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ftrl_engine.counted_values import way_of
from ftrl_engine.jit import inlined
from ftrl_engine.plan import CROSSED, UNKNOWN, Plan, find_field
from serving.request_arrays import (
    CONTEXT,
    CONTEXT_FEATURES,
    CONTEXT_PRESENT,
    COUNT,
    ENTRIES,
    FEATURES,
    FIELD,
    HIDDEN_IN,
    HIDES,
    KEY_ENTRY,
    KEY_FIELD,
    KEY_PLAIN,
    KEY_WAY,
    KEYS,
    NONE,
    NOTES,
    PRESENT,
    PRESENT_IN,
    ROW_FEATURES,
    Values,
    Weights,
    Work,
)
from serving.request_crosses import weight_of


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
def look_up_keys(plan: Plan, values: Values, work: Work, last: int, mask: int) -> None:
    """Note what the keys up to number ``last`` mean, as far as that is not done."""
    for key in range(work.state[KEYS], last + 1):
        salt = values.salts[key]
        field = find_field(plan, salt)
        entry = work.table[_find_entry(work, mask, salt)]
        crossed = field != UNKNOWN and plan.fields[field, CROSSED] != 0
        note = NOTES * key
        work.notes[note + KEY_FIELD], work.notes[note + KEY_WAY] = field, way_of(plan, field)
        work.notes[note + KEY_ENTRY] = entry
        work.notes[note + KEY_PLAIN] = entry == NONE and not crossed
    work.state[KEYS] = max(work.state[KEYS], last + 1)


@inlined
def note_entry(values: Values, work: Work, mask: int, key: int, margin: float, added: int) -> None:
    """Add a value to the context's entry of its field."""
    entry = work.notes[NOTES * key + KEY_ENTRY]
    if entry == NONE:
        entry = work.state[ENTRIES]
        work.state[ENTRIES] = entry + 1
        work.notes[NOTES * key + KEY_ENTRY] = entry
        work.notes[NOTES * key + KEY_PLAIN] = 0
        work.table[_find_entry(work, mask, values.salts[key])] = entry
        work.entry_salt[entry] = values.salts[key]
        work.entry_margin[entry] = 0.0
        work.entries[entry, FIELD] = work.notes[NOTES * key + KEY_FIELD]
        work.entries[entry, COUNT] = 0
        work.entries[entry, HIDDEN_IN] = CONTEXT
    work.entry_margin[entry] += margin
    work.entries[entry, COUNT] += added


@inlined
def _sum_visible(work: Work, row: int) -> float:
    """Margin of the context's fields where the row hides some; adds to the row's counts."""
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
def add_context(work: Work, row: int, margin: float) -> float:
    """The margin of a row with that of the context's fields that it does not hide; adds to its counts."""
    state = work.state
    if state[HIDES] == 1:
        return margin + _sum_visible(work, row)
    state[PRESENT] += state[CONTEXT_PRESENT]
    state[ROW_FEATURES] += state[CONTEXT_FEATURES]
    return margin + float(work.shared[0])


@inlined
def sum_missing(plan: Plan, work: Work, weights: Weights, row: int, mask: int) -> float:
    """Margin of the features that say which fields have no value in the row."""
    margin = 0.0
    for i in range(len(plan.missing_fields)):
        field = plan.missing_fields[i]
        entry = work.table[_find_entry(work, mask, plan.salts[field])]
        shared = entry != NONE and work.entries[entry, COUNT] > 0 and work.entries[entry, HIDDEN_IN] != row
        if work.fields[field, PRESENT_IN] != row and not shared:
            margin += weight_of(weights, np.uint32(plan.missing_hashes[i] >> plan.shift))
    return margin
