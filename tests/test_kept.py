"""Arguments that stay: a kernel sees the same arrays and numbers as if it were given them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray

from ftrl_engine.jit import COMPILED, kernel
from ftrl_engine.kept import Kept


class One(NamedTuple):
    number: int
    share: float
    bits: np.uint64
    bytes: NDArray[np.uint8]
    table: NDArray[np.int64]


class Other(NamedTuple):
    weights: NDArray[np.float32]


def one(number: int, share: float, bits: int, size: int, shape: tuple[int, int]) -> One:
    return One(
        number,
        share,
        np.uint64(bits),
        np.arange(size, dtype=np.uint8),
        np.arange(shape[0] * shape[1], dtype=np.int64).reshape(shape),
    )


KEPT = Kept(lambda: (one(0, 0.0, 0, 0, (0, 0)), Other(np.empty(0, np.float32))))
recall = KEPT.recall


@kernel
def look(words: Any, out: NDArray[np.float64]) -> int:
    first, second = recall(words)
    out[0], out[1] = first.number, first.share
    out[2] = len(first.bytes)
    rows, columns = first.table.shape
    out[3], out[4] = rows, columns
    out[5] = first.table[rows - 1, columns - 2]
    out[6] = first.bytes[3]
    second.weights[1] = 2.5
    return int(first.bits >> np.uint64(60))


@pytest.mark.parametrize("number", [0, -5, 7, -(1 << 62)])
@pytest.mark.parametrize("share", [0.0, -1.5, math.inf, math.nan])
def test_a_kernel_sees_what_is_kept(number: int, share: float) -> None:
    kept, weights = one(number, share, 0xF << 60, 9, (4, 3)), Other(np.zeros(3, np.float32))
    out = np.empty(7)
    assert look(KEPT.words(kept, weights), out) == 15
    np.testing.assert_array_equal(out, [number, share, 9, 4, 3, 10, 3])
    # The arrays themselves, not copies.
    assert weights.weights.tolist() == [0.0, 2.5, 0.0]


@pytest.mark.skipif(not COMPILED, reason="plain Python keeps the tuples themselves")
def test_only_arrays_in_order_are_kept() -> None:
    with pytest.raises(AssertionError, match="C order"):
        KEPT.words(Other(np.zeros((4, 4), np.float32)[:, 0]))
