"""WeightTable: from a slot to its weight, as snapshots are scored."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import as_float32, at, equal_eight, prefetch_read, taken_of_eight
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.losses import sigmoid

# No slot has this number, so it marks a free place.
FREE = np.uint32(0xFFFFFFFF)
# Slots in a line, and cells of one: 64 bytes, which the memory hands over at once.
LANES, LINE = 8, 16
_LINE_BYTES = 64
_AHEAD = 16  # features whose lines are asked for before they are needed


class WeightTable(NamedTuple):
    """A hash table of lines, at most half full.

    cells  uint32[LINE * lines], lines a power of two: in each line eight slots, the free places last, and
           the bits of their float32 weights

    The low bits of a slot say in which line it is; what a full line has no room for is in the next one.
    Slots are parts of hashes, so they are spread well, and few lines are full.
    """

    cells: NDArray[np.uint32]


def table_cells(count: int) -> int:
    """The number of cells for ``count`` weights."""
    lines = 2
    while LANES * lines < 2 * count:
        lines *= 2
    return LINE * lines


def make_table(
    slots: NDArray[np.uint32], weights: NDArray[np.float32], into: WeightTable | None = None
) -> WeightTable:
    """The table of different ``slots`` and their weights; written ``into`` one of the right size if given."""
    table = into or WeightTable(_whole_lines(table_cells(len(slots))))
    table.cells.fill(FREE)
    fill_table(slots, np.ascontiguousarray(weights).view(np.uint32), table.cells)
    return table


def _whole_lines(cells: int) -> NDArray[np.uint32]:
    """Memory that begins where a line of the memory does."""
    memory = np.empty(cells + LINE, dtype=np.uint32)
    first = -memory.ctypes.data % _LINE_BYTES // memory.itemsize
    return memory[first : first + cells]


@kernel
def fill_table(slots: NDArray[np.uint32], bits: NDArray[np.uint32], cells: NDArray[np.uint32]) -> None:
    """Put weights, given as their bits, into a table whose places are free."""
    last = len(slots) - 1
    for i in range(len(slots)):
        ask_for(cells, slots[min(i + _AHEAD, last)])
        first = _first_cell(cells, slots[i])
        lane = 0
        while cells[first + lane] != FREE:
            lane += 1
            if lane == LANES:
                lane = 0
                first = _next_line(cells, first)
        cells[first + lane] = slots[i]
        cells[first + LANES + lane] = bits[i]


@inlined
def _first_cell(cells: NDArray[np.uint32], slot: np.uint32) -> int:
    """The first cell of the line in which the search for a slot begins."""
    return int((np.int64(slot) * LINE) & (len(cells) - 1))


@inlined
def _next_line(cells: NDArray[np.uint32], first: int) -> int:
    return (first + LINE) & (len(cells) - 1)


@inlined
def ask_for(cells: NDArray[np.uint32], slot: np.uint32) -> None:
    """Have the memory fetch the line of a slot whose weight is looked up soon."""
    prefetch_read(cells, _first_cell(cells, slot))


@inlined
def find_weight(cells: NDArray[np.uint32], slot: np.uint32) -> float:
    """The slot's weight; exactly 0 where the table has none."""
    first = _first_cell(cells, slot)
    # No branch but this one, which is nearly never taken: whether there is a weight cannot be foreseen.
    while (at(cells, first + LANES - 1) != FREE) & (equal_eight(cells, first, slot) == np.uint32(0)):
        first = _next_line(cells, first)
    return np.float64(as_float32(taken_of_eight(cells, first, slot, first + LANES)))


@kernel
def score_rows(
    indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64],
    valued: NDArray[np.uint8], cells: NDArray[np.uint32],
    intercept: float, scores: NDArray[np.float64], squash: bool,
) -> None:  # fmt: skip
    """The margins of the rows of a CSR batch; with ``squash`` their probabilities."""
    last = len(slots) - 1
    for r in range(len(indptr) - 1):
        margin = 0.0
        for k in range(indptr[r], indptr[r + 1]):
            ask_for(cells, slots[min(k + _AHEAD, last)])
            weight = find_weight(cells, slots[k])
            margin += weight * (values[k] if valued[r] else 1.0)
        scores[r] = sigmoid(margin + intercept) if squash else margin + intercept
