"""Where events come from: blocks of records with positions.

A *record* is one event as bytes. A *block* is consecutive records of one partition in
one byte buffer. A *position* is the next record to read, an integer whose meaning belongs
to the source (a byte offset in a file, an offset in Kafka); 0 is the beginning.

Adding a source is one file ``streams/<scheme>_source.py`` that defines
``open(uri, positions, options) -> Source``.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError

# Kernels read eight bytes at a time and may look this far past the last record.
PADDING = 64
# The aimed size of a block: the learner, what waits for it and what is being encoded hold a few of them.
BLOCK_BYTES = 3 << 18
# A longer record is refused; it bounds the memory of every reader.
MAX_RECORD_BYTES = 16 << 20

Positions = Mapping[str, int]


@dataclass(frozen=True, slots=True)
class Refusal:
    """An event that is not learned: where it stands, why, and its bytes (cut if large)."""

    partition: str
    position: int
    reason: str
    event: bytes

    def __str__(self) -> str:
        place = "" if self.partition == "-" else f" of {self.partition}"
        return f"position {self.position}{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive records of one partition.

    data       uint8[n + PADDING]  the bytes; at least PADDING readable bytes follow the last record
    starts     int64[rows]         record i is ``data[starts[i]:ends[i]]``, its line end excluded
    ends       int64[rows]
    positions  int64[rows]         the position after record i, i.e. of the record that follows it
    first      the position of record 0
    header     the header line of a CSV file this block comes from, if it has one
    refused    records the source itself refuses (too long, cut short); not among the rows
    next       the position after the whole block, refused records included
    """

    partition: str
    data: NDArray[np.uint8]
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]
    positions: NDArray[np.int64]
    first: int
    next: int
    header: bytes | None = None
    refused: tuple[Refusal, ...] = ()

    def __len__(self) -> int:
        return len(self.starts)

    def record(self, index: int) -> bytes:
        """The bytes of one record (a copy)."""
        return self.data[self.starts[index] : self.ends[index]].tobytes()


@dataclass(frozen=True, slots=True)
class SourceOptions:
    """What a user may say about reading a source.

    format  the format's name; None takes it from the name of the file
    default_format  the format where the name does not tell it either
    follow  wait for more events at the end instead of finishing
    can_follow  the command has a flag --follow, which errors may name
    block_bytes  the aimed size of a block
    columns_known  the schema names the columns, so files of tsv and csv have no header line
    extra   options of one kind of source only (Kafka properties and the like)
    marks   what :meth:`Source.marks` has said of the positions it is opened at, by partition
    """

    format: str | None = None
    default_format: str | None = None
    follow: bool = False
    can_follow: bool = False
    block_bytes: int = BLOCK_BYTES
    columns_known: bool = False
    extra: Mapping[str, str] = field(default_factory=dict, repr=False)  # may hold passwords
    marks: Mapping[str, str] = field(default_factory=dict)


class Source(ABC):
    """A stream of blocks that can be opened again at any position it has returned."""

    uri: str
    format: str | None  # the format of the records, where the source knows it

    @abstractmethod
    def poll(self, timeout: float) -> Block | None:
        """The next block, or None when nothing came within ``timeout`` seconds or at the end."""

    @property
    @abstractmethod
    def finished(self) -> bool:
        """True when no block will come any more."""

    @abstractmethod
    def positions(self) -> dict[str, int]:
        """The position after everything :meth:`poll` has returned, per partition."""

    def fraction(self) -> float | None:
        """How much of a bounded source has been read, in [0, 1]; None where that is not known."""
        return None

    def status(self) -> Mapping[str, float | int | str]:
        """What a live source knows of itself: lag, age of the last event and the like; may be empty."""
        return {}

    def marks(self, positions: Positions) -> dict[str, str]:
        """What stands before these positions, of the partitions where that can be told; from any thread.

        Saved with the positions and given back in the options, it lets a source refuse what has taken
        the place of what was read.
        """
        return {}

    def damage(self) -> Mapping[str, str]:
        """Why partitions that were read to their end could not be read whole; may be empty."""
        return {}

    def acknowledge(self, positions: Positions) -> None:  # noqa: B027 - advisory, may do nothing
        """Tell the outside how far learning is saved (lag dashboards); may be lost."""

    @abstractmethod
    def close(self) -> None:
        """Release files and connections."""


def open_source(
    uri: str | Sequence[str], positions: Positions | None = None, options: SourceOptions | None = None
) -> Source:
    """Open ``uri`` at ``positions`` (from the beginning where a partition has none).

    A scheme ``<scheme>:`` is served by ``streams/<scheme>_source.py``; everything else is a
    file name, a glob or ``-`` for standard input. Several file names are read in their order.
    """
    if not isinstance(uri, str):
        if len(uri) != 1:
            return _open_files(uri, positions, options)
        uri = uri[0]
    name = _scheme(uri)
    if not name.isidentifier():
        raise ConfigError(f"source {uri!r}: {name!r} is not a source; use a file, log: or kafka://")
    try:
        module = importlib.import_module(f"streams.{name}_source")
    except ModuleNotFoundError as error:
        if error.name != f"streams.{name}_source":
            raise
        raise ConfigError(
            f"source {uri!r}: unknown scheme {name!r}; use a file name, log:DIR or kafka://..."
        ) from None
    source: Source = module.open(uri, dict(positions or {}), options or SourceOptions())
    return source


def _open_files(names: Sequence[str], positions: Positions | None, options: SourceOptions | None) -> Source:
    for name in names:
        if _scheme(name) != "file":
            raise ConfigError(f"source {name!r}: only files can be read together; read it alone")
    module = importlib.import_module("streams.file_source")
    source: Source = module.open_files(names, dict(positions or {}), options or SourceOptions())
    return source


def _scheme(uri: str) -> str:
    """The scheme of a source; a single letter is a drive, not a scheme."""
    scheme = urlsplit(uri).scheme if ":" in uri else ""
    return scheme if len(scheme) > 1 else "file"
