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
from ftrl_engine.jit import kernel
from ftrl_engine.learners.base import Learner
from ftrl_engine.metrics import Progressive

KIND = "checkpoint"
_METRICS = "metrics."
# Slots looked at at a time: what is found stays in the cache.
_PART = 1 << 16


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
    """Write the checkpoint; returns its size in bytes."""
    count, width = count_touched(learner), learner.state.shape[1]
    arrays: dict[str, NDArray[Any] | container.Parts] = {
        "slots": container.Parts(np.dtype(np.uint32), (count,), lambda: _touched_slots(learner)),
        "state": container.Parts(np.dtype(np.float64), (count, width), lambda: _touched_rows(learner)),
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
    return container.write(path, KIND, arrays, metadata)


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


def count_touched(learner: Learner) -> int:
    """How many slots have a state that is not all zero."""
    return sum(len(slots) for slots in _touched_slots(learner))


def _touched_slots(learner: Learner) -> Iterator[NDArray[np.uint32]]:
    """These slots, rising, a part of the table after the other."""
    for start in range(0, learner.n_slots, _PART):
        found = np.empty(_PART, dtype=np.uint32)
        yield found[: list_touched(learner.state[start : start + _PART], start, found)]


def _touched_rows(learner: Learner) -> Iterator[NDArray[np.float64]]:
    for slots in _touched_slots(learner):
        yield learner.state[slots]


@kernel
def list_touched(state: NDArray[np.float64], first: int, found: NDArray[np.uint32]) -> int:
    """Write the slots of a part of the table, whose first is ``first``; returns how many they are."""
    count = 0
    for slot in range(len(state)):
        touched = False
        for column in range(state.shape[1]):
            touched |= state[slot, column] != 0.0
        # Written again and again until it is one that is touched, which cannot be foreseen.
        found[count] = first + slot
        count += touched
    return count
