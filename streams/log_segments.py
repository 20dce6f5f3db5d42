"""The files of the embedded event log: JSON-lines segments in a directory.

A segment is named by the logical byte offset of its first byte, 20 digits, and a position
is a logical byte offset across segments. What stands before a newline never changes:
bytes after the last newline are a torn record, which the next writer cuts off before it
goes on in a new segment. So any number of readers need no lock beside the one writer.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import NamedTuple

from ftrl_engine.errors import SourceError

_NAME = re.compile(r"(\d{20})\.jsonl", re.ASCII)
_TAIL_BYTES = 64 << 10


class Segment(NamedTuple):
    """One file of the log: ``start`` is the position of its first byte."""

    start: int
    path: Path


def segment_path(directory: Path, start: int) -> Path:
    """The file of the segment that begins at position ``start``."""
    return directory / f"{start:020d}.jsonl"


def segments(directory: Path) -> list[Segment]:
    """The segments of a log in order; empty when there is no directory yet."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise SourceError(f"log:{directory}: cannot list the directory: {error.strerror}") from error
    matches = filter(None, map(_NAME.fullmatch, names))
    return sorted(Segment(int(match[1]), directory / match[0]) for match in matches)


def whole_size(path: Path) -> int:
    """The bytes of a segment up to and with its last newline: the part that stays."""
    with open(path, "rb") as file:
        stop = file.seek(0, os.SEEK_END)
        while stop > 0:
            start = max(0, stop - _TAIL_BYTES)
            file.seek(start)
            newline = file.read(stop - start).rfind(b"\n")
            if newline >= 0:
                return start + newline + 1
            stop = start
    return 0
