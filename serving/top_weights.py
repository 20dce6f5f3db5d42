"""Top weights: the largest weights of the served model, of each sign, by the names of their features."""

from __future__ import annotations

import threading
from collections.abc import Callable

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftrl_engine.snapshot import Snapshot
from serving.name_reader import NameReader
from serving.store import Served
from streams.names import Names

LARGEST = 20
# A model may change every second and have millions of weights; nobody reads so fast.
_FRESH_SECONDS = 5.0


class Weight(msgspec.Struct):
    """A slot, its weight and its names: none where they are not known, several where it is shared."""

    slot: int
    weight: float
    names: tuple[str, ...]


class TopWeights(msgspec.Struct):
    """At most LARGEST weights above 0 and below 0, the largest first."""

    version: str
    positive: list[Weight]
    negative: list[Weight]

    @classmethod
    def of(cls, served: Served, names: Names | None) -> TopWeights:
        """Those of the served snapshot."""
        snapshot = served.snapshot
        weights = snapshot.weights
        return cls(served.version, _largest(snapshot, weights, names), _largest(snapshot, -weights, names))


class Desk:
    """Keeps the last answer, as JSON, for a few seconds."""

    def __init__(self, names: NameReader, timer: Callable[[], float]) -> None:
        self._names, self._timer = names, timer
        self._lock = threading.Lock()
        self._answer: tuple[float, bytes] | None = None

    def at_hand(self) -> bytes | None:
        """The answer, where it is new enough."""
        if self._answer is None or self._timer() - self._answer[0] > _FRESH_SECONDS:
            return None
        return self._answer[1]

    def find(self, served: Served) -> bytes:
        """The answer; takes milliseconds for each million of weights, so not for the event loop."""
        with self._lock:
            found = self.at_hand()
            if found is None:
                found = msgspec.json.encode(TopWeights.of(served, self._names.names(served.snapshot)))
                self._answer = self._timer(), found
            return found


def _largest(snapshot: Snapshot, sizes: NDArray[np.float32], names: Names | None) -> list[Weight]:
    """The entries of the largest positive sizes."""
    some = np.arange(len(sizes))
    if len(sizes) > LARGEST:
        some = np.argpartition(-sizes, LARGEST)[:LARGEST]
    some = some[np.argsort(-sizes[some], kind="stable")]
    found = []
    for at in some[sizes[some] > 0].tolist():
        slot = int(snapshot.slots[at])
        found.append(Weight(slot, float(snapshot.weights[at]), names[slot] if names is not None else ()))
    return found
