"""Standing: where one contender stands after its search, with the uncertainty of every figure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from bench.comparison.frontier import frontier, needed
from bench.comparison.outcome import Outcome
from bench.comparison.resamples import Resamples, interval
from bench.comparison.search import TOLERANCE
from bench.comparison.tally import Blocks

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Standing:
    """Figures of every configuration of one contender; index i is that of ``outcomes``.

    losses, aucs        float64[configurations]; infinity and 0 where it failed
    loss_draws          float64[configurations, replicates]: in each mixture of blocks
    auc_draws           the same
    best, chosen        the lowest log loss; the sparsest within the tolerance of it
    tolerance           the share of its lowest log loss that a contender gives for sparsity
    """

    outcomes: Sequence[Outcome]
    nonzeros: Floats
    losses: Floats
    aucs: Floats
    loss_draws: Floats
    auc_draws: Floats
    best: int
    chosen: int
    tolerance: float

    @classmethod
    def of(
        cls, outcomes: Sequence[Outcome], resamples: Resamples, tolerance: float = TOLERANCE
    ) -> Standing | None:
        """None where no configuration has a result."""
        replicates = len(resamples.counts)
        losses = np.array([outcome.log_loss for outcome in outcomes])
        if not np.isfinite(losses).any():
            return None
        aucs = np.zeros(len(outcomes))
        loss_draws = np.full((len(outcomes), replicates), math.inf)
        auc_draws = np.zeros((len(outcomes), replicates))
        for i, outcome in enumerate(outcomes):
            if outcome.blocks is not None:
                aucs[i] = outcome.blocks.auc or 0.0
                loss_draws[i] = resamples.log_loss(outcome.blocks)
                auc_draws[i] = resamples.auc(outcome.blocks)
        nonzeros = np.array([outcome.nonzeros for outcome in outcomes])
        best = int(np.argmin(losses))
        near = np.flatnonzero(losses <= losses[best] * (1.0 + tolerance))
        chosen = min(near.tolist(), key=lambda i: (nonzeros[i], losses[i]))
        return cls(outcomes, nonzeros, losses, aucs, loss_draws, auc_draws, best, chosen, tolerance)

    @property
    def outcome(self) -> Outcome:
        """The chosen one."""
        return self.outcomes[self.chosen]

    @property
    def blocks(self) -> Blocks:
        """Of the chosen one."""
        blocks = self.outcome.blocks
        assert blocks is not None, "a configuration without a result is never chosen"
        return blocks

    @property
    def level(self) -> float:
        """The log loss it is compared at: the lowest one and the tolerance."""
        return float(self.losses[self.best]) * (1.0 + self.tolerance)

    def by_loss(self) -> NDArray[np.int64]:
        """The frontier of log loss."""
        return frontier(self.nonzeros, self.losses)

    def by_auc(self) -> NDArray[np.int64]:
        """The frontier of the area under the ROC curve."""
        return frontier(self.nonzeros, np.where(np.isfinite(self.losses), -self.aucs, np.inf))

    def needed(self, level: float) -> float:
        """The non-zeros that log loss ``level`` takes."""
        return needed(self.nonzeros, self.losses, level)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Non-zeros of a contender / those of the reference at one level.

    ratio  None where the contender never reaches the level; then gap is what it stays short by
    interval  95 % of the mixtures of blocks; an end is None where it is infinite
    """

    level: float
    ratio: float | None
    interval: tuple[float | None, float | None] | None
    gap: float | None = None
    gap_interval: tuple[float | None, float | None] | None = None


def at_equal_loss(contender: Standing, reference: Standing) -> Ratio:
    """At the reference's lowest log loss and the tolerance.

    In every mixture of blocks both frontiers are drawn anew, and the level keeps its distance to the
    configuration that is the best by all blocks.
    """
    level = reference.level
    levels = reference.loss_draws[reference.best] + (level - reference.losses[reference.best])
    return _ratio(
        contender, reference, level, levels,
        contender.losses, reference.losses, contender.loss_draws, reference.loss_draws,
    )  # fmt: skip


def at_own_loss(contender: Standing, reference: Standing) -> Ratio:
    """At the contender's own lowest log loss and the tolerance."""
    level = contender.level
    levels = contender.loss_draws[contender.best] + (level - contender.losses[contender.best])
    return _ratio(
        contender, reference, level, levels,
        contender.losses, reference.losses, contender.loss_draws, reference.loss_draws,
    )  # fmt: skip


def at_equal_auc(contender: Standing, reference: Standing) -> Ratio:
    """The same with 1 - AUC, the probability of ordering a pair wrongly, as the loss.

    The tolerance is doubled: that loss differs about twice as much between the same settings.
    """
    losses, draws = _auc_losses(reference)
    best = int(np.argmin(losses))
    level = float(losses[best]) * (1.0 + 2.0 * reference.tolerance)
    levels = draws[best] + (level - losses[best])
    mine, my_draws = _auc_losses(contender)
    return _ratio(contender, reference, level, levels, mine, losses, my_draws, draws)


def _auc_losses(standing: Standing) -> tuple[Floats, Floats]:
    """1 - AUC of every configuration, and in every mixture; infinity where it failed."""
    failed = ~np.isfinite(standing.losses)
    losses, draws = 1.0 - standing.aucs, 1.0 - standing.auc_draws
    losses[failed] = draws[failed] = math.inf
    return losses, draws


def _ratio(
    contender: Standing, reference: Standing, level: float, levels: Floats,
    losses: Floats, reference_losses: Floats, draws: Floats, reference_draws: Floats,
) -> Ratio:  # fmt: skip
    count = len(levels)
    mine = needed(contender.nonzeros, losses, level)
    theirs = needed(reference.nonzeros, reference_losses, level)
    ratios = np.full(count, np.nan)
    for r in range(count):
        below = needed(reference.nonzeros, reference_draws[:, r], levels[r])
        above = needed(contender.nonzeros, draws[:, r], levels[r])
        if math.isfinite(below):
            ratios[r] = above / below
    if math.isfinite(mine) and math.isfinite(theirs):
        return Ratio(level, mine / theirs, interval(ratios))
    gaps = draws.min(axis=0) - levels
    return Ratio(level, None, None, float(losses.min() - level), interval(gaps))
