"""A histogram of margins that stays within its room: a hash table from bin to counts.

Its bins have the width 2**-level, margin 0 apart, which keeps a bin of its own; see
:mod:`ftrl_engine.metrics`.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import ldexp, prefetch
from ftrl_engine.jit import kernel

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FINEST = 40  # margins less than 2**-40 apart are one score
LIMIT = 1024.0  # margins beyond it are one score; LIMIT * 2**FINEST is exact in float64
LEVEL, OCCUPIED = range(2)  # places in the grid
EMPTY = np.int64(-(2**63))

_AHEAD = 12  # rows
_MIX = np.int64(-7046029254386353131)  # 2**64 / golden ratio, odd
_SHIFT = np.int64(38)


@kernel
def _bin_of(margin: float, scale: float) -> int:
    """0 for margin 0, j for the margins in (j-1, j] / scale, -j for their mirror image."""
    scaled = min(max(margin, -LIMIT), LIMIT) * scale
    if scaled > 0.0:
        return math.ceil(scaled)
    return math.floor(scaled)


@kernel
def _cell_of(bins: Integers, grid: Integers, bin_: int) -> int:
    """Where ``bin_`` stands in the open-addressing table ``bins``; it is entered if it is new."""
    mask = bins.size - 1
    # Neighbours get neighbouring cells, without collisions while the scores form one cluster;
    # after a collision a step of the bin's own (odd, so it reaches every cell) leads out of the crowd.
    cell = bin_ & mask
    step = int((bin_ * _MIX) >> _SHIFT) & mask | 1
    while bins[cell] != bin_ and bins[cell] != EMPTY:
        cell = (cell + step) & mask
    if bins[cell] == EMPTY:
        bins[cell] = bin_
        grid[OCCUPIED] += 1
    return cell


@kernel
def add_cells(
    bins: Integers, counts: Floats, grid: Integers, more_bins: Integers, more: Floats, halve: bool
) -> None:
    """Add the bins that are not EMPTY; with ``halve`` to those of the next level, which are twice as wide."""
    for i in range(more_bins.size):
        bin_ = more_bins[i]
        if bin_ == EMPTY:
            continue
        if halve:
            bin_ = (bin_ + (bin_ > 0)) >> 1  # rounded away from 0: only 0 stays 0
        cell = _cell_of(bins, grid, bin_)
        counts[cell, 0] += more[i, 0]
        counts[cell, 1] += more[i, 1]


@kernel
def add_to_histogram(
    margins: Floats,
    labels: Floats,
    importance: Floats,
    row: int,
    bins: Integers,
    counts: Floats,
    grid: Integers,
) -> int:
    """Add the rows from ``row`` on until too many bins are occupied; the next row to add."""
    mask = bins.size - 1
    capacity = bins.size >> 1
    scale = ldexp(1.0, int(grid[LEVEL]))
    amount = 1.0
    for i in range(row, margins.size):
        # Between two batches the learner's table has taken the caches.
        ahead = np.int64(_bin_of(margins[min(i + _AHEAD, margins.size - 1)], scale) & mask)
        prefetch(bins, ahead)
        prefetch(counts, ahead)
        if importance.size > 0:
            amount = importance[i]
        if amount > 0.0:
            bin_ = _bin_of(margins[i], scale)
            cell = bin_ & mask
            # The common case stays in this loop: a call per row costs more than the rest of it.
            if bins[cell] != bin_:
                cell = _cell_of(bins, grid, bin_)
            counts[cell, int(labels[i])] += amount
            if grid[OCCUPIED] > capacity:
                return i + 1
    return margins.size
