"""The content of one file from its beginning, decompressed on the way."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from io import FileIO
from typing import cast

from ftrl_engine.errors import SourceError
from streams.decoder import Decoder, Plain
from streams.gzip_decoder import GZIP_MAGIC, Gzip
from streams.zstd_decoder import Zstd

_PIPE_BYTES = 1 << 20
_SCRATCH = 1 << 20
# Skippable frames may stand before the first one.
_ZSTD_MAGICS = (b"\x28\xb5\x2f\xfd", *(bytes([i]) + b"\x2a\x4d\x18" for i in range(0x50, 0x60)))
_KINDS: dict[bytes, type[Decoder]] = {GZIP_MAGIC: Gzip, **dict.fromkeys(_ZSTD_MAGICS, Zstd)}
_FOREIGN = {
    b"PAR1\x15": "is a parquet file; give the format parquet",
    b"BZh91AY&SY": "is compressed with bzip2; use gzip or zstd",
    b"\xfd7zXZ\0": "is compressed with xz; use gzip or zstd",
    b"PK\x03\x04": "is a zip archive; use gzip or zstd",
    b"\xff\xfe\0\0": "holds UTF-32 text; convert it to UTF-8",  # before UTF-16, which begins it
    b"\0\0\xfe\xff": "holds UTF-32 text; convert it to UTF-8",
    b"\xff\xfe": "holds UTF-16 text; convert it to UTF-8",
    b"\xfe\xff": "holds UTF-16 text; convert it to UTF-8",
}
_LONGEST = max(map(len, _FOREIGN))


def _open_at_once(path: str, flags: int) -> int:
    """Do not wait for a writer: whoever waits in ``open`` cannot be told to stop."""
    # Elsewhere a pipe that had no writer yet may look like one that has ended.
    return os.open(path, flags | os.O_NONBLOCK if sys.platform == "linux" else flags)


class Pipe(FileIO):
    """A pipe, terminal or socket: reading gives None instead of waiting."""

    def __init__(self, file: int | str) -> None:
        super().__init__(file, closefd=not isinstance(file, int), opener=_open_at_once)
        # A larger pipe makes larger blocks; where that is not possible it stays as it is.
        with contextlib.suppress(ImportError, AttributeError, OSError):
            import fcntl

            fcntl.fcntl(self.fileno(), fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def wait(self, timeout: float) -> bool:
        """True as soon as there is something to read, or the end."""
        try:
            return bool(select.select([self], [], [], max(0.0, timeout))[0])
        except OSError:
            return True  # not every system can ask a pipe: read and wait

    def readinto(self, buffer: memoryview) -> int | None:  # type: ignore[override]
        return cast("int | None", super().readinto(buffer)) if self.wait(0) else None

    def read(self, size: int | None = -1) -> bytes | None:  # type: ignore[override]
        return cast("bytes | None", super().read(size)) if self.wait(0) else None


class Content:
    """The bytes of ``raw``; how they are compressed is told by the first of them, not by a name.

    offset  the offset in the content of the byte that :meth:`readinto` gives next
    ended   the last read gave nothing because it met the end of the file, which may still grow
    Raises SourceError where the file cannot be read or is of another kind.
    """

    def __init__(self, raw: FileIO, name: str) -> None:
        self.raw = raw
        self.offset = 0
        self.ended = False
        self._name = name
        self._head = b""  # the first bytes, while they do not tell the kind
        self._decoder: Decoder | None = None
        self._seen = b""  # content that was looked at and is still to be given

    @property
    def busy(self) -> bool:
        """True when reading gave nothing but goes on without waiting."""
        return self._decoder is not None and self._decoder.busy

    @property
    def damage(self) -> str | None:
        """Why the content ends before its end."""
        return None if self._decoder is None else self._decoder.damage

    @property
    def cut_short(self) -> str | None:
        """:attr:`damage`, or that the file has ended in the middle, if it has ended for good."""
        return None if self._decoder is None else self._decoder.cut_short

    def readinto(self, view: memoryview) -> int:
        """Fill a part of ``view``; 0 at the end and where nothing is there now."""
        if self._seen:
            count = min(len(view), len(self._seen))
            view[:count] = self._seen[:count]
            self._seen = self._seen[count:]
        else:
            count = self._read(view)
        self.offset += count
        return count

    def peek(self, size: int) -> bytes:
        """The next ``size`` bytes, which stay to be read; fewer where they are not there."""
        scratch = bytearray(size)
        while len(self._seen) < size:
            count = self._read(memoryview(scratch)[: size - len(self._seen)])
            if not count:
                break
            self._seen += scratch[:count]
        return self._seen[:size]

    @property
    def any_place(self) -> bool:
        """True where :meth:`skip` goes to any position at once: in a plain file."""
        begun = self._decoder is not None or self._begin()
        return begun and isinstance(self._decoder, Plain) and self.raw.seekable()

    def skip(self, position: int) -> None:
        """Go towards ``position``: at once in a plain file, by a limited step otherwise."""
        if self.any_place:
            assert isinstance(self._decoder, Plain)
            self._seen = b""
            self.offset = min(position, os.fstat(self.raw.fileno()).st_size)
            self.ended = self.offset < position
            self._decoder.seek(self.offset)
            return
        scratch = memoryview(bytearray(min(_SCRATCH, max(0, position - self.offset))))
        while len(scratch) and (count := self.readinto(scratch)):
            scratch = scratch[count:]

    def settle(self) -> bool:
        """The file has ended for good; True when there is more to read because of that."""
        if self._decoder is None:
            self._decoder = Plain(self.raw, self._head, self._name)
            more = bool(self._head)
        else:
            more = self._decoder.damage is None and self._decoder.settle()
        self.ended = not more
        return more

    def close(self) -> None:
        self.raw.close()

    def _read(self, view: memoryview) -> int:
        if not len(view):
            return 0
        try:
            if self._decoder is None and not self._begin():
                return 0
            assert self._decoder is not None
            count = self._decoder.readinto(view)
            self.ended = count == 0 and self._decoder.ended
            return count
        except OSError as error:
            raise SourceError(
                f"{self._name}: cannot read at byte {self.offset} of its content: {error.strerror}"
            ) from error

    def _begin(self) -> bool:
        """Choose the decoder; False while the first bytes are not there."""
        while self._decoder is None:
            found = next((magic for magic in (*_KINDS, *_FOREIGN) if self._head.startswith(magic)), None)
            if found in _FOREIGN:
                raise SourceError(f"{self._name}: {_FOREIGN[found]}")
            if found is not None:
                self._decoder = _KINDS[found](self.raw, self._head, self._name)
            elif self._head and not any(m.startswith(self._head) for m in (*_KINDS, *_FOREIGN)):
                self._decoder = Plain(self.raw, self._head, self._name)
            else:
                piece = self.raw.read(_LONGEST - len(self._head))
                self.ended = piece == b""
                if not piece:
                    return False
                self._head += piece
        return True
