"""The content of a gzip file (RFC 1952)."""

from __future__ import annotations

import zlib
from io import FileIO
from typing import Any, cast

from isal import isal_zlib

from streams.decoder import Decoder

GZIP_MAGIC = b"\x1f\x8b"

_PIECE = 64 << 10  # compressed bytes a step
_STRIDE = 1 << 20  # bytes decompressed again in a step
_WINDOW_BITS = 31  # zlib's name for the gzip format
# The stubs of isal take its error class for an error.
_ERRORS: tuple[type[Exception], ...] = (cast(Any, isal_zlib).error, zlib.error)


class Gzip(Decoder):
    """One or more gzip members; zeros after a member are padding.

    isal is fast and zlib exact: isal's error drops what the same call had decompressed, and
    at a cut it keeps the last symbol back. There zlib decompresses the member again: up to
    what was given in large steps, from there a byte of input at a time until the error comes.
    Where ``raw`` cannot seek, zlib does all of the work, its state copied before every step.
    """

    kind = "gzip"

    def __init__(self, raw: FileIO, head: bytes, name: str) -> None:
        super().__init__(raw, head, name)
        self._seekable = raw.seekable()
        self._origin = raw.tell() - len(head) if self._seekable else 0
        self._decoder: Any = None  # of the open member
        self._before: Any = None  # the decoder as it was before the last step
        self._member = 0  # compressed bytes before the member
        self._given = 0  # bytes of the member that were given
        self._dropped = 0  # of these, bytes still to decompress again
        self._exact = False  # the member is decompressed by zlib a byte at a time
        self._pending = False  # the decoder may hold more output

    @property
    def unfinished(self) -> bool:
        return self._decoder is not None or bool(self._input)

    @property
    def busy(self) -> bool:
        return self._dropped > 0 and not self.ended

    def readinto(self, view: memoryview) -> int:
        while self.damage is None:
            if self._decoder is None and not self._begin_member():
                break
            data = self._input or self._read(_PIECE)
            if not data and not self._pending:
                break
            output = self._step(data, len(view))
            if self._dropped:
                self._dropped -= len(output)
                if self._dropped:
                    break
            elif output:
                view[: len(output)] = output
                self._given += len(output)
                return len(output)
        return 0

    def settle(self) -> bool:
        if self._decoder is None or self._exact or not self._seekable:
            return False
        self._restart()
        return True

    def _begin_member(self) -> bool:
        self._input = self._input.lstrip(b"\0")
        while len(self._input) < len(GZIP_MAGIC):
            piece = self._read(_PIECE)
            if not piece:
                return False
            self._input = (self._input + piece).lstrip(b"\0")
        if not self._input.startswith(GZIP_MAGIC):
            self._corrupt("what follows a member is not a member")
            return False
        self._member = self._count - len(self._input)
        self._given, self._dropped = 0, 0
        self._exact, self._pending = False, False
        self._decoder = (isal_zlib if self._seekable else zlib).decompressobj(_WINDOW_BITS)
        return True

    def _step(self, data: bytes, room: int) -> bytes:
        """At most ``room`` bytes of output from ``data``; none where it fails."""
        rest = b""
        if self._dropped:
            room = min(_STRIDE, self._dropped)
        elif self._exact:
            data, rest = data[:1], data[1:]
        elif not self._seekable:
            self._before = self._decoder.copy()
        try:
            output: bytes = self._decoder.decompress(data, room)
        except _ERRORS as error:
            self._after(error, data)
            return b""
        self._pending = len(output) == room
        self._input = self._decoder.unconsumed_tail + rest
        if self._decoder.eof:
            self._input = self._decoder.unused_data + rest
            self._decoder = None
        return output

    def _after(self, error: Exception, data: bytes) -> None:
        """Go back before the step that failed, if it was not the smallest one."""
        if self._exact:
            self._corrupt(error)
        elif self._seekable:
            self._restart()
        else:
            self._decoder, self._input = self._before, data
            self._exact = self._pending = True

    def _restart(self) -> None:
        self._raw.seek(self._origin + self._member)
        self._count, self._input = self._member, b""
        self._decoder, self._dropped = zlib.decompressobj(_WINDOW_BITS), self._given
        self._exact, self._pending, self.ended = True, False, False
