"""Hashed rows, the input of everything that starts behind the parser.

The rows are those of the simulated Criteo log, where a missing value counts as a value of its
own, so every row has exactly 39 features; or rows of any number of features that fall anywhere in
the table. A row in which two features meet in one slot is left out: no contender then has to sum
them, and all of them learn the same model.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
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
_CLICKS = 0.25  # the share of positive rows where slots mean nothing

# The slots, uint32[rows, features], and labels of some rows.
_Block = tuple[NDArray[np.uint32], NDArray[np.float64]]


@dataclass(frozen=True, slots=True)
class HashedRows:
    """slots uint32[rows, features], different within a row; labels float64[rows] of 0 and 1."""

    slots: NDArray[np.uint32]
    labels: NDArray[np.float64]
    bits: int

    @classmethod
    def simulate(cls, seed: int, rows: int, bits: int) -> HashedRows:
        """``rows`` rows, drawn like those of ``ftrl simulate --format criteo``."""
        return cls._of(_log_blocks(seed, bits), rows, bits, FEATURES)

    @classmethod
    def spread(cls, seed: int, rows: int, bits: int, features: int) -> HashedRows:
        """``rows`` rows of ``features`` slots drawn evenly from the whole table, and labels by chance.

        However many features a row has, each of them finds its cell as far away: no slot is frequent.
        """
        return cls._of(_spread_blocks(seed, bits, features), rows, bits, features)

    @classmethod
    def _of(cls, blocks: Iterator[_Block], rows: int, bits: int, features: int) -> HashedRows:
        """The first ``rows`` rows of the blocks in which every slot is different."""
        slots = np.empty((rows, features), np.uint32)
        labels = np.empty(rows)
        filled = 0
        while filled < rows:
            found, label = next(blocks)
            ordered = np.sort(found, axis=1)
            kept = np.flatnonzero((ordered[:, 1:] != ordered[:, :-1]).all(axis=1))[: rows - filled]
            if not len(kept):
                raise ValueError(f"bits must leave {features} features of a row apart, got {bits}; take more")
            slots[filled : filled + len(kept)] = found[kept]
            labels[filled : filled + len(kept)] = label[kept]
            filled += len(kept)
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

    @property
    def features(self) -> int:
        """Features of each row."""
        return int(self.slots.shape[1])

    def head(self, rows: int) -> HashedRows:
        """The first rows, sharing memory."""
        return HashedRows(self.slots[:rows], self.labels[:rows], self.bits)

    def batch(self) -> Batch:
        """The rows as a Batch."""
        from ftrl_engine.batch import Batch

        indptr = np.arange(len(self) + 1, dtype=np.int64) * self.features
        return Batch(indptr, self.slots.ravel(), labels=self.labels, n_slots=1 << self.bits)

    def log_loss(self, margins: NDArray[np.float64]) -> float:
        """The mean log loss of margins, float64[rows]."""
        losses = np.logaddexp(0.0, margins) - self.labels * margins
        return float(losses.mean())


def _log_blocks(seed: int, bits: int) -> Iterator[_Block]:
    """The simulated Criteo log, without end."""
    from streams.simulate_criteo import CriteoStream

    stream = CriteoStream(seed)
    for index in count():
        block = stream.block(index, _BLOCK_ROWS)
        yield slots_of(block, bits), block.label.astype(np.float64)


def _spread_blocks(seed: int, bits: int, features: int) -> Iterator[_Block]:
    """Slots and labels by chance, without end."""
    random = np.random.default_rng([seed, features])
    while True:
        slots = random.integers(0, 1 << bits, (_BLOCK_ROWS, features), dtype=np.uint32)
        yield slots, (random.random(_BLOCK_ROWS) < _CLICKS).astype(np.float64)


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
