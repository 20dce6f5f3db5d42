"""The content of a file as its first bytes tell it to be read: what all decoders share.

What stands before damage is delivered to the last byte, whatever a library would drop with
its error; memory is bounded whatever the ratio of compression.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from io import FileIO
from typing import ClassVar


class Decoder(ABC):
    """The content of ``raw`` from where it stands, ``head`` before it.

    raw     ``read`` gives None where nothing is there now, b"" at the end
    ended   the last read met the end of ``raw``, which may still grow
    damage  why nothing can be read any more
    """

    kind: ClassVar[str]

    def __init__(self, raw: FileIO, head: bytes, name: str) -> None:
        self.ended = False
        self.damage: str | None = None
        self._raw = raw
        self._name = name
        self._input = head  # compressed bytes that were read but not decompressed
        self._count = len(head)  # compressed bytes that were read

    @abstractmethod
    def readinto(self, view: memoryview) -> int:
        """Fill a part of ``view``; 0 at the end, at damage and where nothing is there now."""

    @property
    @abstractmethod
    def unfinished(self) -> bool:
        """True in the middle of something, where a file must not end."""

    @property
    def busy(self) -> bool:
        """True where :meth:`readinto` gave nothing but goes on without waiting."""
        return False

    def settle(self) -> bool:
        """``raw`` has ended for good; True when there is more to read because of that."""
        return False

    @property
    def cut_short(self) -> str | None:
        """Why the content is not whole, where ``raw`` has ended for good."""
        if self.damage is None and self.unfinished:
            return f"{self.kind} data cut short after {self._count} bytes"
        return self.damage

    def _read(self, size: int) -> bytes:
        piece = self._raw.read(size)
        self.ended = piece == b""
        self._count += len(piece or b"")
        return piece or b""

    def _corrupt(self, error: object) -> None:
        self.damage, self.ended = f"corrupt {self.kind} data: {error}", True


class Plain(Decoder):
    """Content that is not compressed."""

    kind = "plain"

    def readinto(self, view: memoryview) -> int:
        if self._input:
            size = min(len(view), len(self._input))
            view[:size] = self._input[:size]
            self._input = self._input[size:]
            return size
        count = self._raw.readinto(view)
        self.ended = count == 0
        return count or 0

    @property
    def unfinished(self) -> bool:
        return False

    def seek(self, position: int) -> None:
        """Go to ``position`` of a regular file."""
        self._input = b""
        self._raw.seek(position)
