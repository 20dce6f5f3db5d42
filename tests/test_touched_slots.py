"""Which slots a checkpoint holds: those whose state is not all zero, of any table."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.jit import COMPILED
from streams.checkpoint import Touched

cells = st.sampled_from([1.0, -2.5, 1e-310, -0.0, 0.0, float("nan"), float("inf")])


@given(
    st.integers(1, 300),
    st.integers(1, 3),
    st.lists(st.tuples(st.integers(0, 299), st.integers(0, 2), cells), max_size=40),
)
def test_touched_slots_are_those_of_any_table(
    n_slots: int, width: int, put: list[tuple[int, int, float]]
) -> None:
    state = np.zeros((n_slots, width))
    for slot, column, value in put:
        state[slot % n_slots, column % width] = value
    check(state)


@pytest.mark.skipif(not COMPILED, reason="a million steps take too long as plain Python")
@pytest.mark.parametrize("share", [0.0, 1e-5, 0.01, 0.5, 1.0])
def test_a_large_table(share: float) -> None:
    state = np.zeros((1 << 18, 2))
    state[np.random.default_rng(3).random(len(state)) < share, 1] = 1.0
    check(state)


def check(state: np.ndarray[tuple[int, int], np.dtype[np.float64]]) -> None:
    expected = np.flatnonzero((state != 0.0).any(axis=1))
    touched = Touched(state)
    assert touched.count == len(expected)
    for _ in range(2):
        parts = [part.copy() for part in touched.slots()]
        assert {part.dtype for part in parts} == {np.dtype(np.uint32)}
        np.testing.assert_array_equal(np.concatenate(parts), expected)
        rows = [part.copy() for part in touched.rows()]
        np.testing.assert_array_equal(np.concatenate(rows), state[expected])
