"""What the row loops of all learners share."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import at, prefetch, put_at, put_four, take_four, take_rest
from ftrl_engine.jit import inlined

# Features whose cells are fetched ahead; two to three rows of forty hide the memory's delay.
AHEAD = 112


@inlined
def total(terms: NDArray[np.float64], count: int) -> float:
    """The sum of ``terms[:count]`` in four interleaved partial sums, the same on every machine."""
    a, b, c, d = 0.0, 0.0, 0.0, 0.0
    quads = count & ~3
    for k in range(0, quads, 4):
        a += terms[k]
        b += terms[k + 1]
        c += terms[k + 2]
        d += terms[k + 3]
    for k in range(quads, count):
        a += terms[k]
    return (a + b) + (c + d)


@inlined
def gather(
    cells: NDArray[np.float64], slots: NDArray[np.uint32], lo: int, count: int,
    first: NDArray[np.float64], second: NDArray[np.float64],
) -> int:  # fmt: skip
    """Copy the two cells of each of ``slots[lo : lo + count]``; those of later rows are fetched meanwhile.

    Zeros follow up to a multiple of four, which is returned: loops up to it have no rest.
    """
    fours, last = count & ~3, len(slots) - 1
    for k in range(0, fours, 4):
        take_four(cells, slots, lo + k, first, second, k)
        for j in range(k, k + 4):
            prefetch(cells, 2 * np.int64(at(slots, min(lo + j + AHEAD, last))))
    if fours == count:
        return count
    take_rest(cells, slots, lo + fours, first, second, fours, count - fours)
    for k in range(fours, count):
        prefetch(cells, 2 * np.int64(at(slots, min(lo + k + AHEAD, last))))
    return fours + 4


@inlined
def scatter(
    cells: NDArray[np.float64], slots: NDArray[np.uint32], lo: int, count: int,
    first: NDArray[np.float64], second: NDArray[np.float64],
) -> None:  # fmt: skip
    """Copy the cells of a row back to where :func:`gather` found them."""
    fours = count & ~3
    for k in range(0, fours, 4):
        put_four(cells, slots, lo + k, first, second, k)
    for k in range(fours, count):
        cell = 2 * np.int64(at(slots, lo + k))
        put_at(cells, cell, at(first, k))
        put_at(cells, cell + 1, at(second, k))
