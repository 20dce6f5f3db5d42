"""Progressive: how good the predictions are, over all events so far and in bounded memory.

The area under the ROC curve (AUC) needs the order of all margins. It is taken from two
histograms of the margins, of the negatives and of the positives, whose bins have the
width 2**-level. The level starts so fine that a bin is a single score; whenever more
than ``capacity`` bins are occupied it drops by one and neighbours join. So the bins
follow the scores: wherever they cluster and however tightly, between capacity / 2 and
capacity bins lie across a smooth distribution, and a stream of at most ``capacity``
different scores has its exact AUC. The level follows from the set of margins alone, not
from their order or their batches.

Events inside one bin count as ties, half a win each. That moves the AUC by at most::

    auc_error = sum over joined bins of positives_b * negatives_b / (2 * positives * negatives)

and typically by far less, since inside a bin both kinds are spread nearly alike. The
margin 0 keeps a bin of its own at every level: a sparse model gives it to many events.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftrl_engine.errors import ConfigError, DataError
from ftrl_engine.histogram import EMPTY, FINEST, LEVEL, OCCUPIED, add_cells, add_to_histogram
from ftrl_engine.jit import kernel
from ftrl_engine.losses import log_loss, sigmoid

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

CAPACITY = 2**15
LARGEST_CAPACITY = 2**24

ROWS, IMPORTANCE, POSITIVES, PREDICTIONS, LOSS = range(5)  # places in the totals

_EVERY_ROW_ONE = np.empty(0)


@kernel
def _first_refused(margins: Floats, labels: Floats, importance: Floats) -> int:
    """The first row with a value that is not allowed, or -1."""
    for i in range(margins.size):
        if not abs(margins[i]) < np.inf or not (labels[i] == 0.0 or labels[i] == 1.0):
            return i
        if importance.size > 0 and not 0.0 <= importance[i] < np.inf:
            return i
    return -1


@kernel
def _add_to_totals(margins: Floats, labels: Floats, importance: Floats, totals: Floats) -> int:
    """Add the rows one after the other; the first refused row (then nothing was added), or -1.

    Every sum is carried event by event, so the place where a stream is cut into batches
    cannot show in the result. An empty ``importance`` means 1 for each row.
    """
    refused = _first_refused(margins, labels, importance)
    if refused >= 0:
        return refused
    amount = 1.0
    total, positives = totals[IMPORTANCE], totals[POSITIVES]
    predicted, loss = totals[PREDICTIONS], totals[LOSS]
    for i in range(margins.size):
        if importance.size > 0:
            amount = importance[i]
        total += amount
        positives += amount * labels[i]
        predicted += amount * sigmoid(margins[i])
        loss += amount * log_loss(margins[i], labels[i])
    totals[ROWS] += margins.size
    totals[IMPORTANCE] = total
    totals[POSITIVES] = positives
    totals[PREDICTIONS] = predicted
    totals[LOSS] = loss
    return -1


class Progressive:
    """Sums over binary predictions, each made before its event was learned from.

    Updating with a and then with b equals updating with a + b to the byte. A quantity that
    is undefined is None, never NaN. ``capacity``, the number of histogram bins, is a power of
    two; it costs 48 bytes a bin in memory, whatever the number of events.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        if not 4 <= capacity <= LARGEST_CAPACITY or capacity & (capacity - 1):
            rule = f"a power of two from 4 to {LARGEST_CAPACITY}"
            raise ConfigError(f"capacity must be {rule}, got {capacity!r}; use {CAPACITY}")
        self._totals = np.zeros(5)
        self._bins = np.full(2 * capacity, EMPTY)
        self._counts = np.zeros((2 * capacity, 2))
        self._grid = np.array([FINEST, 0], dtype=np.int64)

    @property
    def capacity(self) -> int:
        return self._bins.size // 2

    def update(self, margins: ArrayLike, labels: ArrayLike, importance: ArrayLike | None = None) -> None:
        """Add events: float64[rows] each; margins finite, labels 0 or 1, importance >= 0 (None: all 1).

        Raises DataError, and then adds nothing, if a value breaks these rules.
        """
        rows = _column("margins", margins)
        truth = _column("labels", labels, rows.size)
        amounts = _EVERY_ROW_ONE if importance is None else _column("importance", importance, rows.size)
        refused = _add_to_totals(rows, truth, amounts, self._totals)
        if refused >= 0:
            raise _refusal(refused, rows, truth, amounts)
        row = 0
        while row < rows.size:
            row = add_to_histogram(rows, truth, amounts, row, self._bins, self._counts, self._grid)
            while self._grid[OCCUPIED] > self.capacity:
                self._coarsen()

    def merge(self, other: Progressive) -> None:
        """Add the events of ``other``: commutative to the byte, equal to updating with both up to rounding.

        Raises ConfigError if the capacities differ.
        """
        if other.capacity != self.capacity:
            raise ConfigError(
                f"cannot merge metrics of capacity {self.capacity} and {other.capacity}; use one"
            )
        theirs = other.copy()
        # The final level is found before anything is added: only then no sum depends on who merges whom.
        while self._level != theirs._level or self._needed_with(theirs) > self.capacity:
            finest = max(self._level, theirs._level)
            for side in (self, theirs):
                if side._level == finest:
                    side._coarsen()
        self._totals += theirs._totals
        add_cells(self._bins, self._counts, self._grid, *theirs._occupied(), False)

    def copy(self) -> Progressive:
        return Progressive.from_arrays(self.arrays())

    def arrays(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64]]:
        """Everything, for a checkpoint: at most 24 * capacity bytes, less while few bins are occupied.

        ``totals`` float64[5]: rows, sums of importance, labels, predictions, log loss. ``grid`` int64[2]:
        level, capacity. ``bins`` int64[k], rising. ``counts`` float64[k, 2]: negatives, positives.
        """
        bins, counts = self._occupied()
        grid = np.array([self._level, self.capacity], dtype=np.int64)
        return {"totals": self._totals.copy(), "grid": grid, "bins": bins, "counts": counts}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, NDArray[Any]]) -> Progressive:
        """The inverse of :meth:`arrays`, bit-exact. Raises DataError if the arrays do not belong together."""
        shapes = {name: np.shape(arrays[name]) for name in sorted(arrays)}
        bins = shapes.get("bins", ())
        if shapes != {"bins": bins, "counts": (*bins, 2), "grid": (2,), "totals": (5,)} or len(bins) != 1:
            raise DataError(
                f"metrics need the arrays bins [k], counts [k, 2], grid [2], totals [5], got {shapes}"
            )
        level, capacity = (int(value) for value in arrays["grid"])
        metrics = cls(capacity)
        if bins[0] > capacity:
            raise DataError(f"metrics of capacity {capacity} hold at most as many bins, got {bins[0]}")
        metrics._totals[:] = arrays["totals"]
        metrics._grid[LEVEL] = level
        places, counts = np.array(arrays["bins"], np.int64), np.array(arrays["counts"], np.float64)
        add_cells(metrics._bins, metrics._counts, metrics._grid, places, counts, False)
        return metrics

    @property
    def rows(self) -> int:
        """Events added, whatever their importance."""
        return int(self._totals[ROWS])

    @property
    def importance(self) -> float:
        """Sum of the importance of all events; every other quantity is weighted by it."""
        return float(self._totals[IMPORTANCE])

    @property
    def log_loss(self) -> float | None:
        """Average log loss in nats."""
        return _ratio(self._totals[LOSS], self._totals[IMPORTANCE])

    @property
    def label_mean(self) -> float | None:
        return _ratio(self._totals[POSITIVES], self._totals[IMPORTANCE])

    @property
    def calibration(self) -> float | None:
        """Sum of predictions / sum of labels; None without positives."""
        return _ratio(self._totals[PREDICTIONS], self._totals[POSITIVES])

    @property
    def normalized_entropy(self) -> float | None:
        """Average log loss / entropy of the label mean (He et al. 2014); None if all labels are equal."""
        loss, rate = self.log_loss, self.label_mean
        if loss is None or rate is None or not 0.0 < rate < 1.0:
            return None
        return _ratio(loss, -rate * math.log(rate) - (1.0 - rate) * math.log1p(-rate))

    def auc(self) -> tuple[float, float] | tuple[None, None]:
        """Area under the ROC curve and the most it can be wrong by; None unless both labels occurred."""
        bins, counts = self._occupied()
        total = counts.sum(axis=0)
        if bins.size == 0 or not total.all():
            return None, None
        negatives, positives = (counts / total).T
        below = np.cumsum(negatives) - negatives
        ties = negatives * positives / 2.0
        joined = (bins != 0) & (self._level < FINEST)
        return float(np.sum(positives * below + ties)), float(np.sum(ties[joined]))

    def summary(self) -> dict[str, float | int | None]:
        """What a report shows; plain Python numbers, None where undefined."""
        auc, auc_error = self.auc()
        return {
            "rows": self.rows,
            "log_loss": self.log_loss,
            "auc": auc,
            "auc_error": auc_error,
            "normalized_entropy": self.normalized_entropy,
            "calibration": self.calibration,
            "label_mean": self.label_mean,
        }

    def reliability(self, bins: int = 20) -> list[tuple[float, float, float]]:
        """(mean prediction, observed label rate, importance) in up to ``bins`` groups of rising prediction.

        The groups have nearly equal importance. Predictions are taken at the middle of their histogram
        bin, which is off by less than 2**-(level + 1) of p (1 - p): about 1e-4 of it for common scores.
        """
        if bins < 1:
            raise ConfigError(f"bins must be at least 1, got {bins!r}; use 20")
        places, counts = self._occupied()
        each = counts.sum(axis=1)
        middle = (places - 0.5 * np.sign(places)) * 2.0**-self._level
        decay = np.exp(-np.abs(middle))
        predictions = np.where(middle >= 0.0, 1.0, decay) / (1.0 + decay)
        group = np.floor((np.cumsum(each) - each / 2.0) / each.sum() * bins)
        starts = np.flatnonzero(np.diff(group, prepend=-1.0))
        sums = np.add.reduceat(np.stack((each * predictions, counts[:, 1], each), axis=1), starts)
        return [
            (predicted / total, positives / total, total) for predicted, positives, total in sums.tolist()
        ]

    @property
    def _level(self) -> int:
        return int(self._grid[LEVEL])

    def _coarsen(self) -> None:
        """Drop the level by one. At most two bins meet in one, so the order in the table cannot show."""
        bins, counts = self._bins, self._counts
        self._bins, self._counts = np.full_like(bins, EMPTY), np.zeros_like(counts)
        self._grid[:] = self._level - 1, 0
        add_cells(self._bins, self._counts, self._grid, bins, counts, True)

    def _occupied(self) -> tuple[Integers, Floats]:
        """The occupied bins, rising, and their counts: the same whatever the order in the table."""
        cells = np.flatnonzero(self._bins != EMPTY)
        cells = cells[np.argsort(self._bins[cells])]
        return self._bins[cells], self._counts[cells]

    def _needed_with(self, other: Progressive) -> int:
        return int(np.union1d(self._occupied()[0], other._occupied()[0]).size)


def _ratio(top: float, bottom: float) -> float | None:
    ratio = float(top) / float(bottom) if bottom else math.nan
    return ratio if math.isfinite(ratio) else None


def _column(name: str, values: ArrayLike, rows: int | None = None) -> Floats:
    column = np.require(values, dtype=np.float64, requirements=["C", "A"])
    if column.ndim != 1 or rows not in (None, column.size):
        wanted = "one dimension" if rows is None else f"one value for each of the {rows} margins"
        raise DataError(f"{name} must have {wanted}, got shape {column.shape}")
    return column


def _refusal(row: int, margins: Floats, labels: Floats, importance: Floats) -> DataError:
    if not math.isfinite(margins[row]):
        return DataError(
            f"margins must be finite, got {margins[row]} in row {row}; check features and weights"
        )
    if labels[row] not in (0.0, 1.0):
        return DataError(f"labels must be 0 or 1, got {labels[row]} in row {row}; map the labels to 0 and 1")
    return DataError(
        f"importance must be finite and >= 0, got {importance[row]} in row {row}; correct the event"
    )
