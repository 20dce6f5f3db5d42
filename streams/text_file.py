"""The records of one file of lines: where it starts, its header, how it ends."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from io import FileIO

import numpy as np

from ftrl_engine.errors import SourceError
from streams.content import Content, Pipe
from streams.file_names import STDIN, FileName
from streams.lines import REFUSED_BYTES, LineReader
from streams.marks import Mark, digest_of
from streams.source import PADDING, Block, Refusal

_MARK = b"\xef\xbb\xbf"  # the byte order mark of UTF-8
_HEADER_BLOCK = 64 << 10
_LONG_READ = 4 << 20  # bytes without the end of a record, before the caller may look at its clock
_SKIP_STEPS = 8  # of a megabyte each, before the caller may look at its clock


class TextFile:
    """Blocks of the records of ``file`` from ``position`` on, a byte offset in its content.

    mark    of ``position``, where it is known: other content before it is refused
    header  the first line names the columns; without a line end it is no header yet
    ended   the last :meth:`read` met the end of the file, which may still grow
    busy    the last :meth:`read` gave nothing but goes on without waiting
    pipe    the file is no regular one: it goes on where it stands, whatever the position

    A byte order mark at the beginning belongs to the first record or the header and is left
    out of it. Raises SourceError where the file cannot be read, or not from the position.
    """

    def __init__(
        self, file: FileName, position: int, block_bytes: int, header: bool, mark: Mark | None = None
    ) -> None:
        self._path, self._partition = file.path, file.partition
        self._block_bytes = block_bytes
        self._header = header
        self._saved, self._mark = position, mark
        self._lines: LineReader | None = None
        self._stop: int | None = None  # the position at the end, once that is known
        raw = _open(file)
        self.pipe = isinstance(raw, Pipe)
        self._first = position if self.pipe else 0  # the position of the first byte
        self._content = Content(raw, self._path)
        try:
            if self.pipe or position == 0:
                self._lines = self._reader(position)
            else:
                self._resume()
        except SourceError:
            self.close()
            raise

    @property
    def position(self) -> int:
        """The position after everything that was returned."""
        if self._stop is not None:
            return self._stop
        return self._saved if self._lines is None else self._lines.position

    @property
    def ended(self) -> bool:
        return self._content.ended

    @property
    def busy(self) -> bool:
        return self._lines is None or self._lines.busy or self._content.busy

    @property
    def damage(self) -> str | None:
        """Why nothing can be read any more, though the file has not ended."""
        return self._content.damage

    @property
    def cut_short(self) -> str | None:
        """Why a file that has ended for good was not read whole."""
        return self._content.cut_short

    @property
    def consumed(self) -> int:
        """The bytes of the file, as it is stored, that were read; 0 of a pipe."""
        return 0 if self.pipe else self._content.raw.tell()

    def read(self) -> Block | None:
        """The next block; None where nothing is there now, see ``ended`` and ``busy``."""
        if self._lines is None:
            self._resume()
        if self._lines is None or (self._header and not self._take_header(self._lines)):
            return None
        return self._without_mark(self._lines.read(_LONG_READ))

    def settle(self) -> bool:
        """The file has ended for good; True when there is more to read because of that."""
        return self._content.settle()

    def finish(self) -> Block | None:
        """At the end for good: the last record without a line end, or its refusal."""
        assert self._lines is not None
        self._stop = self._lines.position
        rest = self._lines.finish()
        if self.cut_short is not None:
            return self._refuse(self.cut_short, self._stop, rest)
        if self._header:
            return None
        self._stop = self._lines.position
        return self._without_mark(rest)

    def check(self) -> None:
        """Refuse to wait for more of a file that was cut, replaced or removed."""
        raw = self._content.raw
        now = os.fstat(raw.fileno())
        if now.st_size < raw.tell():
            raise SourceError(
                f"{self._path}: was cut to {now.st_size} bytes while it was followed, {raw.tell()} had been "
                "read; write new events to a new file and follow a glob"
            )
        try:
            same = os.path.samestat(os.stat(self._path), now)
        except FileNotFoundError:
            same = False
        if not same:
            raise SourceError(
                f"{self._path}: was replaced or removed while it was followed; write new events to a new "
                "file and follow a glob"
            )

    def wait(self, timeout: float) -> None:
        """Wait until there is something to read from a pipe."""
        assert isinstance(self._content.raw, Pipe)
        self._content.raw.wait(timeout)

    def close(self) -> None:
        self._content.close()

    def _without_mark(self, block: Block | None) -> Block | None:
        """``block`` without the byte order mark of the file, if it begins with one."""
        if block is None or not len(block) or block.first != self._first or block.starts[0]:
            return block
        if not block.record(0).startswith(_MARK):
            return block
        starts = block.starts.copy()
        starts[0] += len(_MARK)
        kept = slice(int(starts[0] == block.ends[0]), None)  # a mark on a line of its own is a blank line
        return replace(block, starts=starts[kept], ends=block.ends[kept], positions=block.positions[kept])

    def _reader(self, position: int, header: bytes | None = None) -> LineReader:
        return LineReader(
            self._content.readinto, self._partition, position, block_bytes=self._block_bytes, header=header
        )

    def _take_header(self, lines: LineReader) -> bool:
        header = lines.take_header()
        if header == _MARK:  # a mark on a line of its own
            header = lines.take_header()
        if header is not None:
            lines.header = header.removeprefix(_MARK)
            self._header = False
        return header is not None

    def _resume(self) -> None:
        """Go towards the saved position and, once there, read from it."""
        content = self._content
        # From one byte before, which tells whether a record begins at the position.
        if not self._recognize() or not self._reach(self._saved - 1):
            return
        around = content.peek(2)
        if content.offset + len(around) < self._saved:
            if not content.ended or content.settle():
                return
            raise self._replaced(f"is beyond its end, {content.offset + len(around)} bytes{self._cause()}")
        # An end without a line end is a position too, and the line end may have come later.
        after_mark = self._saved == len(_MARK) and around[:1] == _MARK[-1:]
        if around[:1] != b"\n" and around[1:] not in (b"", b"\r", b"\n") and not after_mark:
            raise self._replaced(
                "is not where a record begins (its last record had no line end and has grown since, or other "
                "events stand there)"
            )
        content.readinto(memoryview(bytearray(1)))
        header, start = self._read_header() if self._header else (None, 0)
        self._header = False
        self._lines = self._reader(self._saved, header)
        if start > self._saved:
            self._lines.skip_to(start)

    def _recognize(self) -> bool:
        """Refuse other content than the mark is of; False while its place is not reached."""
        if self._mark is None:
            return True
        if not self._reach(self._mark.start):
            return False
        size = self._mark.size(self._saved)
        seen = self._content.peek(size)
        if len(seen) < size:
            return self._content.ended
        if digest_of(seen) != self._mark.digest:
            raise self._replaced("no longer follows what was read (other events stand before it)")
        self._mark = None
        return True

    def _reach(self, offset: int) -> bool:
        """Go some steps towards an offset in the content; True there and at the end."""
        content = self._content
        for _ in range(_SKIP_STEPS):
            if content.offset < offset and not content.ended:
                content.skip(offset)
        return content.offset >= offset or content.ended

    def _read_header(self) -> tuple[bytes, int]:
        """The header line, read again from the beginning of the file, and the position after it."""
        with FileIO(self._path) as raw:
            content = Content(raw, self._path)
            lines = LineReader(content.readinto, self._partition, block_bytes=_HEADER_BLOCK)
            while not self._take_header(lines):
                if content.ended:
                    raise self._replaced("is in a file without a header line")
        return lines.header or b"", lines.position

    def _cause(self) -> str:
        reason = self._content.cut_short
        return f" ({reason})" if reason else ""

    def _replaced(self, problem: str) -> SourceError:
        return SourceError(
            f"{self._path}: position {self._saved} {problem}; if the file was replaced, learn into "
            "a new model directory, or give the new file another name"
        )

    def _refuse(self, reason: str, position: int, rest: Block | None) -> Block:
        """A block of one refusal, the record that is not whole; the position stays before it."""
        event = b""
        if rest is not None:
            event = rest.record(0) if len(rest) else rest.refused[0].event
        refusal = Refusal(self._partition, position, reason, event[:REFUSED_BYTES])
        none = np.empty(0, np.int64)
        data = np.zeros(PADDING, np.uint8)
        header = None if self._header or self._lines is None else self._lines.header
        return Block(self._partition, data, none, none, none, position, position, header, (refusal,))


def _open(file: FileName) -> FileIO:
    """Raises FileNotFoundError where there is no such file."""
    if file.path == STDIN:
        try:
            return Pipe(0)
        except OSError as error:
            raise SourceError(f"standard input cannot be read: {error.strerror}") from error
    try:
        regular = stat.S_ISREG(os.stat(file.path).st_mode)
        return FileIO(file.path) if regular else Pipe(file.path)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise SourceError(f"{file.path}: cannot be opened: {error.strerror}") from error
