"""NameStore: the names of learned slots as a learner collects them, bounded in number and bytes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError
from streams.names import Names, shorten

DEFAULT_LIMIT = 200_000
MAX_LIMIT = 10_000_000
# Of one slot; which features share it is known well enough then.
NAMES_A_SLOT = 4
# Bytes of text for each name that may be kept, on average.
_BYTES_A_NAME = 64
_KEPT_SHARE = 0.9

Slots = NDArray[np.uint32]


class NameStore:
    """Names by slot: at most ``limit`` in all, 64 bytes each on average.

    floor  when the store had to let names go, the largest |weight| among them: slots with no more
           than that are not worth a name
    """

    def __init__(self, n_slots: int, limit: int = DEFAULT_LIMIT) -> None:
        if not 1 <= limit <= MAX_LIMIT:
            raise ConfigError(f"names must be between 1 and {MAX_LIMIT} to be kept, got {limit}")
        self.floor = 0.0
        self._limit, self._max_bytes = limit, limit * _BYTES_A_NAME
        self._names: dict[int, list[str]] = {}
        self._count = self._bytes = 0
        # One bit for each slot that has a name.
        self._bits = np.zeros((n_slots + 7) // 8, dtype=np.uint8)

    def __len__(self) -> int:
        return self._count

    def __contains__(self, slot: int) -> bool:
        return slot in self._names

    @property
    def full(self) -> bool:
        """Whether names must go before more can come."""
        return self._count >= self._limit or self._bytes >= self._max_bytes

    def named(self, slots: Slots) -> NDArray[np.bool_]:
        """bool[len(slots)], whether each slot has a name."""
        found: NDArray[np.bool_] = ((self._bits[slots >> 3] >> (slots & 7).astype(np.uint8)) & 1).astype(bool)
        return found

    def add(self, slot: int, name: str) -> bool:
        """Keep a name of a slot; False where it is known, or one too many."""
        name = shorten(name)
        known = self._names.get(slot)
        if self.full or (known is not None and (name in known or len(known) >= NAMES_A_SLOT)):
            return False
        if known is None:
            self._names[slot] = [name]
            self._bits[slot >> 3] |= 1 << (slot & 7)
        else:
            known.append(name)
        self._count += 1
        self._bytes += len(name)
        return True

    def make_room(self, weights_at: Callable[[Slots], NDArray[np.float64]]) -> None:
        """Let go of the names of slots whose weight is 0, then of the smallest weights, if it is full."""
        if not self.full:
            return
        slots = np.fromiter(self._names, dtype=np.uint32, count=len(self._names))
        sizes = np.abs(weights_at(slots))
        order = np.argsort(-sizes, kind="stable")
        kept = self._count_kept(slots[order].tolist(), int(np.count_nonzero(sizes)))
        dropped = order[kept:]
        self.floor = float(sizes[dropped].max(initial=self.floor))
        for slot in slots[dropped].tolist():
            self._forget(slot)

    def names(self) -> Names:
        """All of them, as they are written."""
        return Names.of(self._names)

    def take(self, names: Names) -> None:
        """Add what was written before."""
        for slot, name in names.items():
            if slot < 8 * len(self._bits):
                self.add(slot, name)

    def _count_kept(self, slots: list[int], nonzero: int) -> int:
        """How many of the slots, from the largest weight on, fit into nine tenths of the room."""
        names = size = 0
        for kept, slot in enumerate(slots[:nonzero]):
            names += len(self._names[slot])
            size += sum(map(len, self._names[slot]))
            if names > _KEPT_SHARE * self._limit or size > _KEPT_SHARE * self._max_bytes:
                return kept
        return nonzero

    def _forget(self, slot: int) -> None:
        gone = self._names.pop(slot)
        self._count -= len(gone)
        self._bytes -= sum(map(len, gone))
        self._bits[slot >> 3] &= 0xFF ^ (1 << (slot & 7))
