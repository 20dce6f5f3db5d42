"""The block bootstrap: the same random mixtures of blocks for every contender, so that they pair."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from bench.comparison.tally import IMPORTANCE, LOSS, Blocks, product

Floats = NDArray[np.float64]
REPLICATES = 1000
_LEVEL = 95.0


class Resamples:
    """How often each of ``blocks`` blocks is drawn in each of the replicates: float64[replicates, blocks]."""

    def __init__(self, blocks: int, seed: int, replicates: int = REPLICATES) -> None:
        rng = np.random.default_rng([seed, blocks])
        self.counts = rng.multinomial(blocks, np.full(blocks, 1.0 / blocks), replicates).astype(np.float64)

    def log_loss(self, blocks: Blocks) -> Floats:
        """float64[replicates]."""
        found: Floats = self.counts @ blocks.sums[:, LOSS] / (self.counts @ blocks.sums[:, IMPORTANCE])
        return found

    def auc(self, blocks: Blocks) -> Floats:
        """float64[replicates]; not a number where one label is missing."""
        positives, negatives = blocks.sides
        pairs = (self.counts @ positives) * (self.counts @ negatives)
        won = (product(self.counts, blocks.wins) * self.counts).sum(axis=1)
        found: Floats = np.divide(won, pairs, out=np.full(len(pairs), np.nan), where=pairs > 0)
        return found


def interval(values: Floats) -> tuple[float | None, float | None]:
    """The middle 95 % of the values; None in place of infinity and of what is not a number."""
    tail = (100.0 - _LEVEL) / 2.0
    known = values[~np.isnan(values)]
    if not len(known):
        return None, None
    # Order statistics: between a number and infinity nothing can be interpolated.
    ends = np.percentile(known, [tail, 100.0 - tail], method="nearest").tolist()
    low, high = (float(end) if np.isfinite(end) else None for end in ends)
    return low, high
