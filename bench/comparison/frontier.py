"""The frontier: the least log loss for any number of non-zero weights, and what a log loss takes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def frontier(nonzeros: Floats, losses: Floats) -> NDArray[np.int64]:
    """The indices that no other point beats in both, in the order of rising non-zeros.

    Losses that are not finite are left out; of equal points the first is taken.
    """
    order = np.lexsort((np.arange(len(losses)), losses, nonzeros))
    order = order[np.isfinite(losses[order])]
    if not len(order):
        return order
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(losses[order])[:-1]])
    kept: NDArray[np.int64] = order[losses[order] < best_before]
    return kept


def needed(nonzeros: Floats, losses: Floats, level: float) -> float:
    """The non-zeros that log loss ``level`` takes; infinity where no point reaches it.

    Between two points of the frontier the logarithm of the non-zeros is interpolated. A level above all
    points takes no more than the sparsest of them. No count is below 1, so that its logarithm exists.
    """
    kept = frontier(nonzeros, losses)
    if not len(kept) or level < losses[kept[-1]]:
        return math.inf
    logs = np.log(np.maximum(nonzeros[kept], 1.0))
    # np.interp wants rising places: losses fall along the frontier.
    return float(np.exp(np.interp(level, losses[kept][::-1], logs[::-1])))
