"""Hashed rows of 39 features, the input of everything that starts behind the parser.

The rows are those of the simulated Criteo log, where a missing value counts as a value of its
own, so every row has exactly 39 features. A row in which two features meet in one slot is
left out: no contender then has to sum them, and all of them learn the same model.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from ftrl_engine.batch import Batch
    from streams.simulate_criteo import CriteoRows

FEATURES = 39
_BLOCK_ROWS = 16_384
_MISSING = np.uint64(1 << 40)  # no count or category is as large


@dataclass(frozen=True, slots=True)
class HashedRows:
    """slots uint32[rows, 39], different within a row; labels float64[rows] of 0 and 1."""

    slots: NDArray[np.uint32]
    labels: NDArray[np.float64]
    bits: int

    @classmethod
    def simulate(cls, seed: int, rows: int, bits: int) -> HashedRows:
        """``rows`` rows, drawn like those of ``ftrl simulate --format criteo``."""
        from streams.simulate_criteo import CriteoStream

        stream = CriteoStream(seed)
        slots = np.empty((rows, FEATURES), np.uint32)
        labels = np.empty(rows)
        filled = index = 0
        while filled < rows:
            block = stream.block(index, _BLOCK_ROWS)
            found = slots_of(block, bits)
            ordered = np.sort(found, axis=1)
            kept = np.flatnonzero((ordered[:, 1:] != ordered[:, :-1]).all(axis=1))[: rows - filled]
            slots[filled : filled + len(kept)] = found[kept]
            labels[filled : filled + len(kept)] = block.label[kept]
            filled += len(kept)
            index += 1
        return cls(slots, labels, bits)

    def save(self, path: Path) -> None:
        """Write two arrays into a new directory."""
        path.mkdir()
        np.save(path / "slots.npy", self.slots)
        np.save(path / "labels.npy", self.labels)

    @classmethod
    def load(cls, path: Path | str, bits: int) -> HashedRows:
        """Read what :meth:`save` has written."""
        return cls(np.load(Path(path) / "slots.npy"), np.load(Path(path) / "labels.npy"), bits)

    def __len__(self) -> int:
        return len(self.labels)

    def head(self, rows: int) -> HashedRows:
        """The first rows, sharing memory."""
        return HashedRows(self.slots[:rows], self.labels[:rows], self.bits)

    def batch(self) -> Batch:
        """The rows as a Batch."""
        from ftrl_engine.batch import Batch

        indptr = np.arange(len(self) + 1, dtype=np.int64) * FEATURES
        return Batch(indptr, self.slots.ravel(), labels=self.labels, n_slots=1 << self.bits)

    def log_loss(self, margins: NDArray[np.float64]) -> float:
        """The mean log loss of margins, float64[rows]."""
        losses = np.logaddexp(0.0, margins) - self.labels * margins
        return float(losses.mean())


def slots_of(rows: CriteoRows, bits: int) -> NDArray[np.uint32]:
    """uint32[rows, 39]: every (column, value) mixed to 64 bits, of which the top ones are the slot."""
    counts = np.where(rows.has_count, (rows.counts + 1).astype(np.uint64), _MISSING)
    categories = np.where(rows.has_category, rows.categories.astype(np.uint64), _MISSING)
    words = np.concatenate([counts, categories], axis=1)
    words += np.arange(1, FEATURES + 1, dtype=np.uint64) << np.uint64(44)
    # The finalizer of splitmix64.
    words = (words ^ (words >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    words = (words ^ (words >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    words ^= words >> np.uint64(31)
    slots: NDArray[np.uint32] = (words >> np.uint64(64 - bits)).astype(np.uint32)
    return slots
