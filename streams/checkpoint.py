"""Checkpoint: everything learning needs to go on, in one file.

Equal histories give equal bytes: nothing in the file depends on time, place or the way
the stream was cut into batches.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftrl_engine import container
from ftrl_engine.errors import CorruptFileError
from ftrl_engine.intrinsics import count_ones, flat, trailing_zeros
from ftrl_engine.jit import kernel
from ftrl_engine.learners.base import Learner
from ftrl_engine.metrics import Progressive

KIND = "checkpoint"
_METRICS = "metrics."
# Slots listed at a time: what is found stays in the cache; and bits of a word.
_PART, _WORD = 1 << 17, 64


@dataclass(frozen=True, slots=True)
class Totals:
    """What has happened to the model so far.

    rows       events learned; rejected: events refused
    positions  the next record of every partition seen
    rejects    bytes of rejected.jsonl that belong to this history
    marks      what the source says of the records before the positions, where it says anything
    """

    rows: int = 0
    rejected: int = 0
    rejects: int = 0
    positions: tuple[tuple[str, int], ...] = ()
    marks: tuple[tuple[str, str], ...] = ()


def save(path: Path, learner: Learner, metrics: Progressive, totals: Totals) -> int:
    """Write the checkpoint; returns how many slots have a state that is not all zero."""
    touched, width = Touched(learner.state), learner.state.shape[1]
    arrays: dict[str, NDArray[Any] | container.Parts] = {
        "slots": container.Parts(np.dtype(np.uint32), (touched.count,), touched.slots),
        "state": container.Parts(np.dtype(np.float64), (touched.count, width), touched.rows),
        "scalars": learner.scalars,
    }
    for name, array in metrics.arrays().items():
        arrays[_METRICS + name] = array
    metadata = {
        "learner": learner.name,
        "n_slots": str(learner.n_slots),
        "settings": json.dumps(learner.settings, sort_keys=True),
        "rows": str(totals.rows),
        "rejected": str(totals.rejected),
        "rejects": str(totals.rejects),
        "positions": json.dumps(dict(totals.positions), sort_keys=True),
        "marks": json.dumps(dict(totals.marks), sort_keys=True),
    }
    container.write(path, KIND, arrays, metadata)
    return touched.count


def restore(path: Path, learner: Learner) -> tuple[Progressive, Totals]:
    """Put the saved state into a new learner made with the same settings."""
    arrays, metadata = container.read(path, KIND)
    try:
        _check_same(path, learner, metadata)
        learner.state[arrays["slots"]] = arrays["state"]
        learner.scalars[:] = arrays["scalars"]
        own = {name.removeprefix(_METRICS): a for name, a in arrays.items() if name.startswith(_METRICS)}
        positions = json.loads(metadata["positions"])
        marks = json.loads(metadata.get("marks", "{}"))  # there are none in files of version 0.1.0
        totals = Totals(
            int(metadata["rows"]),
            int(metadata["rejected"]),
            int(metadata["rejects"]),
            tuple(sorted((str(name), int(at)) for name, at in positions.items())),
            tuple(sorted((str(name), str(mark)) for name, mark in marks.items())),
        )
        return Progressive.from_arrays(own), totals
    except (KeyError, ValueError, IndexError) as error:
        raise CorruptFileError(f"{path}: not a complete checkpoint: {error!r}") from error


def _check_same(path: Path, learner: Learner, metadata: dict[str, str]) -> None:
    mine = {
        "learner": learner.name,
        "n_slots": str(learner.n_slots),
        "settings": json.dumps(learner.settings, sort_keys=True),
    }
    for key, value in mine.items():
        if metadata.get(key) != value:
            raise CorruptFileError(
                f"{path}: was made with {key} {metadata.get(key)}, the model says {value}; "
                "model.toml and the checkpoints do not belong together"
            )


class Touched:
    """Which slots of a state have one that is not all zero, by one look at the whole; it must not change.

    count  how many they are
    """

    def __init__(self, state: NDArray[np.float64]) -> None:
        self._state = state
        # One bit for each slot, from the lowest on: a hundredth of the state is read again to list them.
        self._bits = np.empty(-(-len(state) // _WORD), dtype=np.uint64)
        self.count: int = mark_touched(state, state.view(np.uint64), self._bits)

    def slots(self) -> Iterator[NDArray[np.uint32]]:
        """They, rising, in parts, each of which holds until the next one is asked for."""
        found = np.empty(_PART, dtype=np.uint32)
        for start in range(0, len(self._bits), _PART // _WORD):
            bits = self._bits[start : start + _PART // _WORD]
            yield found[: list_marked(bits, _WORD * start, found)]

    def rows(self) -> Iterator[NDArray[np.float64]]:
        """Their states, in the same parts, which hold as long."""
        found = np.empty((_PART, self._state.shape[1]))
        for start in range(0, len(self._bits), _PART // _WORD):
            bits = self._bits[start : start + _PART // _WORD]
            yield found[: copy_marked(bits, self._state[_WORD * start :], found)]


@kernel
def mark_touched(state: NDArray[np.float64], words: NDArray[np.uint64], bits: NDArray[np.uint64]) -> int:
    """Set the bits of the slots that are touched, clear the others; returns how many are set.

    ``words`` are the state's.
    """
    count, width = 0, state.shape[1]
    cells = flat(words)
    for word in range(len(bits)):
        first = _WORD * word
        some = marked = np.uint64(0)
        # Most tables are mostly empty.
        for cell in range(width * first, width * min(first + _WORD, len(state))):
            some |= cells[cell]
        for k in range(min(_WORD, len(state) - first) if some != np.uint64(0) else 0):
            touched = False
            for column in range(width):
                touched |= state[first + k, column] != 0.0
            marked |= np.uint64(touched) << np.uint64(k)
        bits[word] = marked
        count += count_ones(marked)
    return count


@kernel
def copy_marked(bits: NDArray[np.uint64], state: NDArray[np.float64], found: NDArray[np.float64]) -> int:
    """Write the states of the slots whose bits are set, ``state[0]`` being that of the first.

    Returns how many they are.
    """
    count, width = 0, state.shape[1]
    for word in range(len(bits)):
        marked = bits[word]
        while marked != np.uint64(0):
            slot = _WORD * word + trailing_zeros(marked)
            for column in range(width):
                found[count, column] = state[slot, column]
            count += 1
            marked &= marked - np.uint64(1)
    return count


@kernel
def list_marked(bits: NDArray[np.uint64], first: int, found: NDArray[np.uint32]) -> int:
    """Write the slots whose bits are set, ``first`` being that of the first one; returns how many."""
    count = 0
    for word in range(len(bits)):
        marked = bits[word]
        while marked != np.uint64(0):
            found[count] = first + _WORD * word + trailing_zeros(marked)
            count += 1
            marked &= marked - np.uint64(1)
    return count
