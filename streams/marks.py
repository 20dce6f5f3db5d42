"""Marks: what stands before a position in a file, by which another file of the same name is known.

A mark is the offset of a few kilobytes of content and their digest: those just before the position,
or, of a compressed file, whose middle cannot be read again at once, the first ones. A parquet file
does not grow: its mark is that of its end, where the statistics of all its rows stand.
"""

from __future__ import annotations

import hashlib
import os
from io import FileIO
from typing import NamedTuple

from ftrl_engine.errors import SourceError
from streams.content import Content

WINDOW = 4096
_DIGEST_BYTES = 8


class Mark(NamedTuple):
    """``start:digest``, of up to WINDOW bytes from ``start`` on that stand before a position."""

    start: int
    digest: str

    def __str__(self) -> str:
        return f"{self.start}:{self.digest}"

    @classmethod
    def of(cls, text: str) -> Mark:
        """What :meth:`__str__` has written."""
        start, _, digest = text.partition(":")
        return cls(int(start), digest)

    def size(self, position: int) -> int:
        """The bytes it is the digest of, where it belongs to ``position``."""
        return min(WINDOW, position - self.start)


def mark_before(path: str, position: int) -> Mark | None:
    """The mark of a position in a regular file; None where nothing stands before it that can be read."""
    if position <= 0 or not os.path.isfile(path):
        return None
    try:
        with FileIO(path) as raw:
            content = Content(raw, path)
            start = max(0, position - WINDOW) if content.any_place else 0
            content.skip(start)
            seen = content.peek(min(WINDOW, position - start))
    except (OSError, SourceError):
        return None
    mark = Mark(start, digest_of(seen))
    return mark if len(seen) == mark.size(position) else None


def mark_of_end(path: str) -> Mark | None:
    """The mark of the last bytes of a file as it is stored, for one that never grows; None: unreadable."""
    try:
        with FileIO(path) as raw:
            start = max(0, os.fstat(raw.fileno()).st_size - WINDOW)
            raw.seek(start)
            return Mark(start, digest_of(raw.read()))
    except OSError:
        return None


def digest_of(data: bytes) -> str:
    """16 hexadecimal digits."""
    return hashlib.blake2b(data, digest_size=_DIGEST_BYTES).hexdigest()
