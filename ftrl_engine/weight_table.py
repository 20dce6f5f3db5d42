"""WeightTable: from a slot to its weight, as snapshots are scored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import at
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.losses import sigmoid

# No slot has this number, so it marks a free cell.
FREE = np.uint32(0xFFFFFFFF)


class WeightTable(NamedTuple):
    """An open-addressing hash table with linear probing, at most half full.

    slots    uint32[size], size a power of two; FREE in a free cell
    weights  float32[size], the weight of the slot in the same cell; 0 in a free cell

    The low bits of a slot say where its search begins; slots are parts of hashes, so they are spread well.
    """

    slots: NDArray[np.uint32]
    weights: NDArray[np.float32]


def table_size(count: int) -> int:
    """The number of cells for ``count`` weights."""
    size = 16
    while size < 2 * count:
        size *= 2
    return size


def make_table(
    slots: NDArray[np.uint32], weights: NDArray[np.float32], into: WeightTable | None = None
) -> WeightTable:
    """The table of different ``slots`` and their weights; written ``into`` one of the right size if given."""
    size = table_size(len(slots))
    table = into or WeightTable(np.empty(size, dtype=np.uint32), np.empty(size, dtype=np.float32))
    table.slots[:] = FREE
    table.weights[:] = 0.0
    fill_table(slots, weights, *table)
    return table


@kernel
def fill_table(
    slots: NDArray[np.uint32], weights: NDArray[np.float32],
    table_slots: NDArray[np.uint32], table_weights: NDArray[np.float32],
) -> None:  # fmt: skip
    """Put the weights into a table whose cells are free."""
    mask = len(table_slots) - 1
    for i in range(len(slots)):
        cell = np.int64(slots[i]) & mask
        while table_slots[cell] != FREE:
            cell = (cell + 1) & mask
        table_slots[cell] = slots[i]
        table_weights[cell] = weights[i]


@inlined
def _differs(found: np.uint32, slot: np.uint32) -> bool:
    """Whether a cell is neither the slot's nor free; the product of two numbers below 2**32 is exact."""
    return bool(np.uint64(found ^ slot) * np.uint64(found ^ FREE) != np.uint64(0))


@inlined
def find_weight(
    table_slots: NDArray[np.uint32], table_weights: NDArray[np.float32], slot: np.uint32
) -> float:
    """The slot's weight; exactly 0 where the table has none."""
    mask = len(table_slots) - 1
    cell = np.int64(slot) & mask
    # One branch, which is nearly always the same: whether there is a weight at all cannot be foreseen.
    while _differs(at(table_slots, cell), slot):
        cell = (cell + 1) & mask
    return np.float64(at(table_weights, cell))


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], table_slots: NDArray[np.uint32], table_weights: NDArray[np.float32],
    intercept: float, scores: NDArray[np.float64], squash: bool,
) -> None:  # fmt: skip
    """The margins of the rows of a CSR batch; with ``squash`` their probabilities."""
    for r in range(len(indptr) - 1):
        margin = 0.0
        for k in range(indptr[r], indptr[r + 1]):
            weight = find_weight(table_slots, table_weights, slots[k])
            margin += weight * (values[k] if valued[r] else 1.0)
        scores[r] = sigmoid(margin + intercept) if squash else margin + intercept
