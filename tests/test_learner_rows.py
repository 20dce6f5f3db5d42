"""Cells of a row copied out of the table and back, whatever the number of its features."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from ftrl_engine.intrinsics import flat
from ftrl_engine.jit import kernel
from ftrl_engine.learners.rows import gather, scatter

SLOTS = 50


@kernel
def there_and_back(
    state: NDArray[np.float64], slots: NDArray[np.uint32], lo: int, count: int,
    first: NDArray[np.float64], second: NDArray[np.float64], back: NDArray[np.float64],
) -> int:  # fmt: skip
    """Gather from one table, scatter into another."""
    filled = gather(flat(state), slots, lo, count, first, second)
    scatter(flat(back), slots, lo, count, first, second)
    return filled


@pytest.mark.parametrize("count", range(14))
@pytest.mark.parametrize("behind", [0, 1, 5, 30])
def test_a_row_is_copied_and_filled_up_with_zeros(count: int, behind: int) -> None:
    """``behind`` slots follow the row, and then what leads far beyond the table if it is read as one."""
    draws = np.random.default_rng(count)
    state = draws.normal(size=(SLOTS, 2))
    lo = 3
    memory = np.full(SLOTS + 8, 0xFFFFFFFF, dtype=np.uint32)
    slots = memory[: lo + count + behind]
    slots[:] = draws.permutation(SLOTS)[: len(slots)]
    row = slots[lo : lo + count]
    first, second = np.full(24, np.nan), np.full(24, np.nan)
    back = np.zeros_like(state)
    filled = there_and_back(state, slots, lo, count, first, second, back)
    assert filled == -(-count // 4) * 4
    for column, cells in enumerate((first, second)):
        np.testing.assert_array_equal(cells[:count], state[row, column])
        assert not cells[count:filled].any()
        assert np.isnan(cells[filled:]).all()
    expected = np.zeros_like(state)
    expected[row] = state[row]
    np.testing.assert_array_equal(back, expected)
