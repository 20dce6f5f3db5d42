"""The frontier: the least log loss for any number of non-zero weights, and what a log loss takes."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def frontier(nonzeros: Floats, losses: Floats) -> NDArray[np.int64]:
    """The indices of the lower convex hull over the logarithm of the non-zeros, in their rising order.

    Along it the loss falls, ever more slowly. A setting between two others lies near the line between
    them, so a point above that line only shows that its settings were badly chosen. Losses that are not
    finite are left out; of equal points the first is taken. No count is below 1.
    """
    logs = np.log(np.maximum(nonzeros, 1.0))
    order = np.lexsort((np.arange(len(losses)), losses, logs))
    order = order[np.isfinite(losses[order])]
    if not len(order):
        return order
    best_before = np.concatenate([[np.inf], np.minimum.accumulate(losses[order])[:-1]])
    hull: list[int] = []
    for i in order[losses[order] < best_before].tolist():
        while len(hull) > 1 and _above(logs, losses, hull[-2], hull[-1], i):
            hull.pop()
        hull.append(i)
    return np.array(hull, dtype=np.int64)


def _above(x: Floats, y: Floats, a: int, b: int, c: int) -> bool:
    """Whether b lies on or above the line from a to c."""
    found: bool = (y[b] - y[a]) * (x[c] - x[a]) >= (y[c] - y[a]) * (x[b] - x[a])
    return found


def needed(nonzeros: Floats, losses: Floats, level: float) -> float:
    """The non-zeros that log loss ``level`` takes; infinity where no point reaches it.

    Between two points of the frontier the logarithm of the non-zeros is interpolated. A level above all
    points takes no more than the sparsest of them.
    """
    kept = frontier(nonzeros, losses)
    if not len(kept) or level < losses[kept[-1]]:
        return math.inf
    logs = np.log(np.maximum(nonzeros[kept], 1.0))
    # np.interp wants rising places: losses fall along the frontier.
    return float(np.exp(np.interp(level, losses[kept][::-1], logs[::-1])))
