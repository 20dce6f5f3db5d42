"""Tally: what predictions are worth, block by block.

The rows are cut into K blocks of consecutive events. Each block keeps the sums that any mixture of
blocks can be measured by: resampling blocks gives intervals that respect that neighbouring events are
alike (the block bootstrap). Losses add up. The area under the ROC curve does not, but the number of
won pairs does, pair of blocks by pair of blocks:

    AUC(m) = sum_bc m_b m_c W_bc / (sum_b m_b P_b  sum_c m_c N_c)

for blocks taken m_b times, with W_bc the positives of block b above the negatives of block c (ties
count half), and P, N the positives and negatives of a block. W is counted with margins in bins of
1/128, which moves an AUC by about 1e-5.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.jit import kernel
from ftrl_engine.losses import log_loss, sigmoid

BLOCKS = 50
BINS, BINS_A_UNIT = 4096, 128.0
GROUPS = 1024  # of neighbouring bins, for the calibration curve
IMPORTANCE, LOSS, PREDICTIONS, POSITIVES = range(4)  # columns of the sums

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Blocks:
    """The sums of a finished run.

    sums       float64[K, 4]: importance, loss, predictions, positives
    wins       float64[K, K]: W
    histogram  float64[2, GROUPS]: importance of negatives and of positives by margin
    """

    sums: Floats
    wins: Floats
    histogram: Floats

    @classmethod
    def mean(cls, runs: Sequence[Blocks]) -> Blocks:
        """The mean of runs over the same rows, each in an order of its own."""
        parts = [(run.sums, run.wins, run.histogram) for run in runs]
        return cls(*(np.mean(arrays, axis=0) for arrays in zip(*parts, strict=True)))

    def late(self) -> Blocks:
        """The second half of the blocks; the histogram stays that of all."""
        half = len(self.sums) // 2
        return Blocks(self.sums[half:], self.wins[half:, half:], self.histogram)

    @property
    def log_loss(self) -> float:
        return float(self.sums[:, LOSS].sum() / self.sums[:, IMPORTANCE].sum())

    @property
    def calibration(self) -> float | None:
        """Sum of predictions / sum of labels; None without positives."""
        positives = float(self.sums[:, POSITIVES].sum())
        return float(self.sums[:, PREDICTIONS].sum()) / positives if positives else None

    @property
    def auc(self) -> float | None:
        """None unless both labels occurred."""
        positives, negatives = self.sides
        pairs = float(positives.sum() * negatives.sum())
        return float(self.wins.sum()) / pairs if pairs else None

    def reliability(self, groups: int = 20) -> list[tuple[float, float, float]]:
        """(mean prediction, observed label rate, importance) in up to ``groups`` of rising prediction."""
        each = self.histogram.sum(axis=0)
        occupied = np.flatnonzero(each)
        middle = (occupied + 0.5 - GROUPS / 2) / (BINS_A_UNIT * GROUPS / BINS)
        each, positives = each[occupied], self.histogram[1, occupied]
        group = np.floor((np.cumsum(each) - each / 2.0) / each.sum() * groups)
        starts = np.flatnonzero(np.diff(group, prepend=-1.0))
        table = np.stack([each / (1.0 + np.exp(-middle)), positives, each], axis=1)
        found: list[list[float]] = np.add.reduceat(table, starts).tolist()
        return [(predicted / total, observed / total, total) for predicted, observed, total in found]

    @property
    def sides(self) -> tuple[Floats, Floats]:
        """Positives and negatives of each block."""
        return self.sums[:, POSITIVES], self.sums[:, IMPORTANCE] - self.sums[:, POSITIVES]


class Tally:
    """Adds up margins as they come; ``diverged`` once a margin was not finite."""

    def __init__(self, blocks: int) -> None:
        self._sums = np.zeros((blocks, 4))
        self._histogram = np.zeros((blocks, 2, BINS))
        self.diverged = False

    def add(self, margins: Floats, labels: Floats, importance: Floats, blocks: NDArray[np.int64]) -> None:
        """Rows with the block each belongs to; labels 0 or 1."""
        if not self.diverged:
            self.diverged = not add_rows(margins, labels, importance, blocks, self._sums, self._histogram)

    @property
    def log_loss(self) -> float:
        """Of everything so far."""
        return float(self._sums[:, LOSS].sum() / self._sums[:, IMPORTANCE].sum())

    def blocks(self) -> Blocks:
        """What was added so far."""
        negatives, positives = self._histogram[:, 0], self._histogram[:, 1]
        below = np.cumsum(negatives, axis=1) - negatives / 2.0
        groups = self._histogram.sum(axis=0).reshape(2, GROUPS, -1).sum(axis=2)
        return Blocks(self._sums.copy(), product(positives, below.T), groups)


@kernel
def add_rows(
    margins: Floats, labels: Floats, importance: Floats, blocks: NDArray[np.int64],
    sums: Floats, histogram: Floats,
) -> bool:  # fmt: skip
    """False, with the rows before it added, at the first margin that is not finite."""
    for i in range(len(margins)):
        margin, amount, block = margins[i], importance[i], blocks[i]
        if not abs(margin) < np.inf:
            return False
        sums[block, 0] += amount
        sums[block, 1] += amount * log_loss(margin, labels[i])
        sums[block, 2] += amount * sigmoid(margin)
        sums[block, 3] += amount * labels[i]
        place = int(min(max(margin * BINS_A_UNIT + BINS / 2, 0.0), BINS - 1.0))
        histogram[block, int(labels[i]), place] += amount
    return True


def product(left: Floats, right: Floats) -> Floats:
    """The matrix product, without the threads of a linear algebra library beside ours."""
    out = np.zeros((left.shape[0], right.shape[1]))
    add_product(np.ascontiguousarray(left), np.ascontiguousarray(right), out)
    return out


@kernel
def add_product(left: Floats, right: Floats, out: Floats) -> None:
    """out += left right."""
    for i in range(left.shape[0]):
        for k in range(left.shape[1]):
            factor = left[i, k]
            for j in range(right.shape[1]):
                out[i, j] += factor * right[k, j]


def blocks_of(rows: NDArray[np.int64], total: int, blocks: int) -> NDArray[np.int64]:
    """int64[rows], the block of each row number when ``total`` rows are cut into ``blocks``."""
    return rows * blocks // total
