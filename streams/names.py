"""Names: what learned slots stand for, as the learner has last written it; MODEL/names.safetensors.

Advisory: nothing that is learned or served depends on it. A slot with several names is shared by
several features.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ftrl_engine import container
from ftrl_engine.errors import CorruptFileError
from ftrl_engine.schema import Schema

KIND = "names"
FILE = "names.safetensors"
# Longer names are cut; so are those they are compared with.
LONGEST_NAME = 200


@dataclass(frozen=True, eq=False)
class Names:
    """Names by slot.

    slots  uint32[k], not falling; a slot stands as often as it has names
    ends   int64[k], where each name ends in ``text``, uint8 of UTF-8
    """

    slots: NDArray[np.uint32]
    ends: NDArray[np.int64]
    text: NDArray[np.uint8]

    @classmethod
    def of(cls, names: Mapping[int, Sequence[str]]) -> Names:
        """The names of a mapping from slot to names."""
        listed = [(slot, name.encode("utf-8", "replace")) for slot in sorted(names) for name in names[slot]]
        lengths = np.array([len(name) for _, name in listed], dtype=np.int64)
        return cls(
            np.array([slot for slot, _ in listed], dtype=np.uint32),
            np.cumsum(lengths, dtype=np.int64),
            np.frombuffer(b"".join(name for _, name in listed), dtype=np.uint8),
        )

    def __len__(self) -> int:
        return len(self.slots)

    def __getitem__(self, slot: int) -> tuple[str, ...]:
        """The names of a slot; none where it has none."""
        lo, hi = np.searchsorted(self.slots, np.array([slot, slot + 1], dtype=np.int64)).tolist()
        return tuple(self._name(k) for k in range(lo, hi))

    def items(self) -> Iterator[tuple[int, str]]:
        """(slot, name) of every name."""
        for k, slot in enumerate(self.slots.tolist()):
            yield slot, self._name(k)

    def save(self, path: Path, schema: Schema, bits: int) -> int:
        """Write one atomic, verified file; returns its size in bytes."""
        arrays: dict[str, NDArray[Any]] = {"slots": self.slots, "ends": self.ends, "text": self.text}
        return container.write(path, KIND, arrays, _owner(schema, bits))

    @classmethod
    def load(cls, path: Path, schema: Schema, bits: int) -> Names:
        """Read and verify a file of :meth:`save`.

        CorruptFileError where it is damaged or of another model, FileNotFoundError where there is none.
        """
        arrays, owner = container.read(path, KIND)
        if owner != _owner(schema, bits):
            raise CorruptFileError(f"{path}: names the features of another model; remove it")
        try:
            names = cls(arrays["slots"], arrays["ends"], arrays["text"])
            names._check()
        except (KeyError, ValueError) as error:
            raise CorruptFileError(f"{path}: not a complete file of names: {error!r}") from error
        return names

    def _name(self, k: int) -> str:
        lo = int(self.ends[k - 1]) if k else 0
        return self.text[lo : int(self.ends[k])].tobytes().decode("utf-8", "replace")

    def _check(self) -> None:
        kinds = [(array.dtype.name, array.ndim) for array in (self.slots, self.ends, self.text)]
        if kinds != [("uint32", 1), ("int64", 1), ("uint8", 1)] or len(self.slots) != len(self.ends):
            raise ValueError(f"arrays are {kinds}")
        limits = np.concatenate([[0], self.ends, [len(self.text)]])
        if bool((np.diff(limits) < 0).any()) or bool((self.slots[1:] < self.slots[:-1]).any()):
            raise ValueError("slots or ends fall")


def shorten(name: str) -> str:
    """The name as it is kept."""
    return name if len(name) <= LONGEST_NAME else name[: LONGEST_NAME - 3] + "..."


def _owner(schema: Schema, bits: int) -> dict[str, str]:
    return {"bits": str(bits), "schema": json.dumps(schema.to_dict(), sort_keys=True)}
