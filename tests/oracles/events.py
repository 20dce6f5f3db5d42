"""Events as plain Python values, for oracles and for the tests that compare learners with them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
from hypothesis import strategies as st

from ftrl_engine import Batch

N_SLOTS = 16

# An event: its features as (slot, value), repeats allowed; its label; its importance.
Event = tuple[list[tuple[int, float]], float, float]

_slots = st.integers(0, N_SLOTS - 1)
# Quarters sum exactly, so that a repeat of a slot has the value of the sum to the byte.
_quarters = st.integers(-8, 8).map(lambda count: count / 4)
_tokens = st.lists(_slots.map(lambda slot: (slot, 1.0)), max_size=9)
_valued = st.lists(st.tuples(_slots, _quarters), max_size=9)

labels = st.sampled_from([0.0, 1.0])
importances = st.sampled_from([1.0, 1.0, 0.0, 0.5, 3.0])
events = st.lists(st.tuples(_tokens | _valued, labels, importances), max_size=24)


def pack(rows: Sequence[Event], n_slots: int = N_SLOTS) -> Batch:
    """The events as they are, repeats included."""
    features = [feature for row, _, _ in rows for feature in row]
    return Batch(
        np.cumsum([0, *(len(row) for row, _, _ in rows)]),
        np.array([slot for slot, _ in features], dtype=np.int64),
        [value for _, value in features],
        [label for _, label, _ in rows],
        [importance for _, _, importance in rows],
        n_slots=n_slots,
    )


def summed(features: Sequence[tuple[int, float]]) -> dict[int, float]:
    """Each slot once, with the sum of its values; a value of 0 is no feature."""
    x: dict[int, float] = defaultdict(float)
    for slot, value in features:
        if value != 0.0:
            x[slot] += value
    return dict(x)
