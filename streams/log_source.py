"""``log:DIR``: read the embedded event log, any number of readers beside its one writer.

Only whole records are read, and the unfinished rest of a read is forgotten and read again:
a torn record may be cut off by the next writer (see ``streams/log_segments.py``).
"""

from __future__ import annotations

import os
import time
from bisect import bisect_right
from collections.abc import Callable, Mapping
from io import FileIO
from operator import attrgetter
from pathlib import Path

from ftrl_engine.errors import ConfigError, LostDataError, SourceError
from streams.lines import LineReader
from streams.log_segments import segments, whole_size
from streams.source import Block, Positions, Source, SourceOptions

SCHEME = "log:"
# How often a waiting reader looks for more, in seconds.
STEP = 0.01
_TRIES = 10


def open(uri: str, positions: Positions, options: SourceOptions) -> LogSource:
    """The log in the directory that ``log:DIR`` names."""
    directory = log_directory(uri)
    if options.format not in (None, "jsonl"):
        raise ConfigError(f"{uri}: a log holds jsonl, not {options.format!r}; leave the format out")
    return LogSource(directory, positions, options)


def log_directory(uri: str) -> Path:
    """The absolute directory of ``log:DIR``."""
    name = uri.removeprefix(SCHEME)
    if not name or name == uri:
        raise ConfigError(f"{uri!r} names no log; write log:DIR, for example log:events")
    return Path(name).expanduser().absolute()


class LogSource(Source):
    """Blocks of the records in ``directory``, in the order they were appended.

    Without ``follow`` it ends where the log ended when it was opened. Raises LostDataError
    where the next record is no longer held, SourceError at a position the log has not reached.
    """

    format = "jsonl"

    def __init__(
        self,
        directory: Path,
        positions: Positions,
        options: SourceOptions,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.uri = self.partition = f"{SCHEME}{directory}"
        self._directory = directory
        self._clock, self._sleep = clock, sleep
        self._saved = positions.get(self.partition)
        self._lines: LineReader | None = None
        self._block_bytes = options.block_bytes
        self._file: FileIO | None = None  # the open segment
        self._start = 0  # the position of its first byte
        self._stop: int | None = None  # the start of the segment after it, once there is one
        self._offset = self._first = 0  # the positions of the next byte to read, of the first one
        self._end: int | None = None  # where this source finishes
        # What the last read met: the end of the log, the end of this source, an error. What was
        # read before an error is returned first, and the error is met again by the next read.
        self._dry = self._ended = False
        self._error: SourceError | None = None
        self._finished = False
        if not options.follow:
            if not directory.is_dir():
                wait = ", or --follow to wait for it" if options.can_follow else ""
                raise SourceError(f"{self.uri}: no such directory; check the name{wait}")
            self._end = log_end(directory)
        try:
            self._begin()
        except SourceError:
            self.close()
            raise

    @property
    def finished(self) -> bool:
        return self._finished

    def positions(self) -> dict[str, int]:
        if self._lines is not None:
            return {self.partition: self._lines.position}
        return {} if self._saved is None else {self.partition: self._saved}

    def fraction(self) -> float | None:
        if self._lines is None or self._end is None:
            return None
        read, whole = self._lines.position - self._first, self._end - self._first
        return min(1.0, read / whole) if whole > 0 else 1.0

    def status(self) -> Mapping[str, float | int | str]:
        """``lag_bytes``: what was appended and is not read yet, an unfinished record apart."""
        try:
            end = log_end(self._directory)
        except (SourceError, OSError):
            return {}  # reading says better what is wrong
        position = self._lines.position if self._lines is not None else self._saved or 0
        return {"lag_bytes": max(0, end - position)}

    def poll(self, timeout: float) -> Block | None:
        deadline = self._clock() + timeout
        while not self._finished:
            block = self._read()
            if block is not None:
                return block
            left = deadline - self._clock()
            if self._ended:
                self._finished = True
            elif self._end is None and left <= 0:
                break
            elif self._end is None:
                self._sleep(min(left, STEP))
        return None

    def close(self) -> None:
        self._finished = True
        if self._file is not None:
            self._file.close()
            self._file = None

    def _begin(self) -> bool:
        """Go to the first record to read; False while the log has no segment."""
        found = segments(self._directory)
        if found:
            self._offset = self._first = found[0].start if self._saved is None else self._saved
            self._enter()
            self._check_record_start()
            self._lines = LineReader(
                self._readinto, self.partition, self._offset, block_bytes=self._block_bytes
            )
        elif self._saved and self._directory.is_dir():
            raise self._beyond(0)
        else:
            self._ended = self._end is not None
        return self._lines is not None

    def _read(self) -> Block | None:
        if self._lines is None and not self._begin():
            return None
        assert self._lines is not None
        self._dry = self._ended = False
        self._error = None
        block = self._lines.read()
        self._offset = self._lines.rewind()
        if block is None and self._error is not None:
            raise self._error
        return block

    def _readinto(self, view: memoryview) -> int:
        """Fill a part of ``view`` from the log; 0 at the end of what is there now."""
        try:
            while not self._dry:
                count = self._read_segment(view)
                if count or self._ended:
                    return count
                self._go_on()
        except SourceError as error:
            self._error, self._dry = error, True
        except OSError as error:
            self._error = SourceError(f"{self.uri}: cannot read position {self._offset}: {error.strerror}")
            self._dry = True
        return 0

    def _go_on(self) -> None:
        """The open segment has no more: on to the next one, if there is one by now."""
        if self._stop is None:
            self._find_next()
        elif self._offset < self._stop:
            raise self._lost(self._lines.position if self._lines else self._offset, self._stop)
        elif self._offset > self._stop or self._shrunk():
            self._dry = True  # bytes that the writer has cut off since are forgotten by the rewind
        else:
            self._enter()

    def _read_segment(self, view: memoryview) -> int:
        """Bytes of the open segment: none past the next one or past the end of this source."""
        assert self._file is not None
        room = len(view)
        for stop in (self._stop, self._end):
            if stop is not None:
                room = min(room, max(0, stop - self._offset))
        if self._end is not None and self._offset >= self._end:
            self._ended = True
        if room == 0:
            return 0
        self._file.seek(self._offset - self._start)
        count = self._file.readinto(view[:room])
        self._offset += count
        # Torn bytes may be replaced at any time, so at the end of the log a fill is one read.
        self._dry = 0 < count < room and self._stop is None
        return count

    def _find_next(self) -> None:
        """At the end of the last known segment: a next one, if there is one by now."""
        assert self._file is not None
        starts = [segment.start for segment in segments(self._directory) if segment.start > self._start]
        if starts:
            self._stop = starts[0]
            return
        self._dry = True
        if os.fstat(self._file.fileno()).st_nlink == 0:
            raise SourceError(f"{self.uri}: the log was removed while it was read at position {self._offset}")

    def _shrunk(self) -> bool:
        """True when bytes that were read have been cut off since."""
        size = os.fstat(self._file.fileno()).st_size if self._file else 0
        return self._stop is not None and self._start + size < self._stop

    def _enter(self) -> None:
        """Open the segment that holds the byte at the offset, or will hold it."""
        for _ in range(_TRIES):
            found = segments(self._directory)
            at = bisect_right(found, self._offset, key=attrgetter("start")) - 1
            if at < 0:
                raise self._lost(self._offset, found[0].start) if found else self._beyond(0)
            try:
                file = FileIO(found[at].path)
            except FileNotFoundError:
                continue  # removed by retention since the listing
            except OSError as error:
                raise SourceError(
                    f"{self.uri}: cannot read {found[at].path.name}: {error.strerror}"
                ) from error
            self._leave_for(file, found[at].start)
            self._stop = found[at + 1].start if at + 1 < len(found) else None
            end = self._start + os.fstat(file.fileno()).st_size
            if self._stop is None and self._offset > end:
                raise self._beyond(end)
            return
        raise SourceError(f"{self.uri}: segments are removed faster than they can be read; retain more bytes")

    def _leave_for(self, file: FileIO, start: int) -> None:
        if self._file is not None:
            self._file.close()
        self._file, self._start = file, start

    def _check_record_start(self) -> None:
        """A position from another log seldom follows a newline."""
        assert self._file is not None
        if self._offset > self._start:
            self._file.seek(self._offset - self._start - 1)
            if self._file.read(1) != b"\n":
                raise SourceError(
                    f"{self.uri}: no record begins at position {self._offset}; it was replaced by another "
                    "log: learn into a new model directory"
                )

    def _beyond(self, end: int) -> SourceError:
        position = self._saved if self._lines is None else self._offset
        return SourceError(
            f"{self.uri}: position {position} is beyond the end of the log, {end}; "
            "it was replaced by another one: learn into a new model directory"
        )

    def _lost(self, position: int, kept: int | None) -> LostDataError:
        return LostDataError(
            f"{self.uri}: events from position {position} on are gone; the first kept position is {kept}: "
            "retain more bytes in the log, or start a new model from what is left"
        )


def log_end(directory: Path) -> int:
    """The position after the last whole record of a log."""
    for _ in range(_TRIES):
        found = segments(directory)
        if not found:
            return 0
        try:
            return found[-1].start + whole_size(found[-1].path)
        except FileNotFoundError:
            continue
    raise SourceError(f"{SCHEME}{directory}: the log changes while it is opened; try again")
