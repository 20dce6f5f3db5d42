"""SharedSnapshot: a snapshot in memory that all workers of a server map, one copy for all of them.

The memory holds the table that scoring reads as well, so a worker builds nothing::

    uint64 n | header: n bytes of JSON with the texts and where each array stands | the arrays
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import CorruptFileError
from ftrl_engine.snapshot import Snapshot
from ftrl_engine.weight_table import WeightTable, make_table, table_cells
from serving.shared_memory import map_memory, map_sealed, new_memory, seal

_ALIGNED = 64
_LENGTH_BYTES = 8
_TABLE = "table"


class _Place(msgspec.Struct):
    """Where an array stands: bytes from the end of the header."""

    dtype: str
    shape: list[int]
    start: int


class _Header(msgspec.Struct):
    texts: dict[str, str]
    places: dict[str, _Place]


@dataclass(frozen=True, eq=False)
class SharedSnapshot(Snapshot):
    """A snapshot whose arrays stand in the ``size`` bytes of memory behind ``descriptor``."""

    descriptor: int = -1
    size: int = 0

    @classmethod
    def copy_of(cls, snapshot: Snapshot) -> SharedSnapshot:
        """The same snapshot in new memory, which nobody can change any more; OSError without room."""
        arrays, texts = snapshot.parts()
        shapes = {name: (array.dtype, array.shape) for name, array in arrays.items()}
        shapes[_TABLE] = (np.dtype(np.uint32), (table_cells(len(snapshot.slots)),))
        header, size = _lay_out(shapes, texts)
        descriptor = new_memory(size)
        try:
            _fill(descriptor, size, header, arrays)
            seal(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return cls.map(descriptor, size)

    @classmethod
    def map(cls, descriptor: int, size: int) -> SharedSnapshot:
        """The snapshot behind a descriptor, which belongs to it from now on."""
        try:
            memory = map_sealed(descriptor, size)
            found, texts = _views(memoryview(memory))
            table = WeightTable(found.pop(_TABLE))
            plain = Snapshot.from_parts(found, texts)
        except (KeyError, TypeError, ValueError, msgspec.MsgspecError) as error:
            os.close(descriptor)
            raise CorruptFileError(f"shared memory: not a complete snapshot: {error!r}") from error
        values = {name: getattr(plain, name) for name in Snapshot.__dataclass_fields__}
        snapshot = cls(**values, descriptor=descriptor, size=size)
        vars(snapshot)["table"] = table
        weakref.finalize(snapshot, os.close, descriptor)
        return snapshot


def load_shared(path: Path) -> Snapshot:
    """Read and verify a snapshot, and put it into memory that can be shared."""
    return SharedSnapshot.copy_of(Snapshot.load(path))


def _lay_out(
    shapes: Mapping[str, tuple[np.dtype[Any], tuple[int, ...]]], texts: dict[str, str]
) -> tuple[bytes, int]:
    """The length and the header, and the size of the whole."""
    places, end = {}, 0
    for name, (dtype, shape) in shapes.items():
        places[name] = _Place(dtype.str, list(shape), end)
        end += -(-int(np.prod(shape)) * dtype.itemsize // _ALIGNED) * _ALIGNED
    text = msgspec.json.encode(_Header(texts, places))
    text += b" " * (-(_LENGTH_BYTES + len(text)) % _ALIGNED)
    header = len(text).to_bytes(_LENGTH_BYTES, "little") + text
    return header, len(header) + end


def _fill(descriptor: int, size: int, header: bytes, arrays: Mapping[str, NDArray[Any]]) -> None:
    with map_memory(descriptor, size) as memory:
        memory[: len(header)] = header
        found, _ = _views(memoryview(memory))
        for name, array in arrays.items():
            found[name][...] = array
        table = WeightTable(found[_TABLE])
        make_table(arrays["slots"], arrays["weights"], table)
        del found, table  # nothing may look at the memory when it is closed


def _views(memory: memoryview) -> tuple[dict[str, NDArray[Any]], dict[str, str]]:
    """(arrays by name, texts) of memory that begins with a header."""
    first = _LENGTH_BYTES + int.from_bytes(memory[:_LENGTH_BYTES], "little")
    header = msgspec.json.decode(memory[_LENGTH_BYTES:first], type=_Header)
    arrays = {
        name: np.frombuffer(
            memory, dtype=place.dtype, count=int(np.prod(place.shape)), offset=first + place.start
        ).reshape(place.shape)
        for name, place in header.places.items()
    }
    return arrays, header.texts
