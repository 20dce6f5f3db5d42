"""IdWindow: the ids of the last feedback, so that what is sent again is not learned again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from ftrl_engine.errors import SourceError
from serving.feedback_record import key_in
from streams.log_segments import segments

# Of a log, at most so much is read when it is opened.
TAIL_BYTES = 256 << 20
_STEP_BYTES = 1 << 20


class IdWindow:
    """The last ``size`` keys of ids, oldest first out."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._keys: dict[bytes, None] = {}

    def __contains__(self, key: bytes) -> bool:
        return key in self._keys

    def __len__(self) -> int:
        return len(self._keys)

    def add(self, key: bytes) -> None:
        """Remember a key that is not there."""
        self._keys[key] = None
        if len(self._keys) > self._size:
            del self._keys[next(iter(self._keys))]

    @classmethod
    def of_log(cls, directory: Path, size: int) -> IdWindow:
        """The ids of the last records of a log; OSError or SourceError where it cannot be read."""
        newest: dict[bytes, None] = {}
        for line in _lines_backwards(directory):
            key = key_in(line)
            if key is not None:
                newest[key] = None
                if len(newest) >= size:
                    break
        window = cls(size)
        for key in reversed(newest):
            window.add(key)
        return window


def _lines_backwards(directory: Path) -> Iterator[bytes]:
    """The whole records of a log, last one first."""
    left = TAIL_BYTES
    for _, path in reversed(segments(directory)):
        with path.open("rb") as file:
            stop, rest = file.seek(0, os.SEEK_END), b""
            torn = True  # what stands after the last newline of a segment is no record
            while stop > 0 and left > 0:
                start = max(0, stop - _STEP_BYTES)
                file.seek(start)
                data = file.read(stop - start)
                if len(data) < stop - start:
                    raise SourceError(f"log:{directory}: {path.name} is cut while it is read")
                first, *lines = (data + rest).split(b"\n")
                if lines:
                    yield from reversed(lines[:-1] if torn else lines)
                    torn = False
                rest, stop, left = first, start, left - len(data)
            if stop == 0 and not torn:
                yield rest
