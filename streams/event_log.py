"""The writer of the embedded durable event log (``streams/log_segments.py`` says what it is)."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, get_args

import filelock
import numpy as np

from ftrl_engine.errors import ConfigError, DataError, SourceError
from streams.log_segments import segment_path, segments, whole_size
from streams.source import MAX_RECORD_BYTES

LOCK_NAME = ".writer.lock"
# One append is one write to the file; more than this is refused.
MAX_APPEND_BYTES = 1 << 30

Fsync = Literal["interval", "always", "never"]


@dataclass(slots=True)
class _Active:
    """The segment being written: its file, first position, size in bytes and opening time."""

    descriptor: int
    path: Path
    start: int
    size: int
    opened: float


class LogWriter:
    """The one writer of the log in ``directory``, which is made if it is missing; one thread at a time.

    segment_bytes    a new segment begins when this size would be passed (one append is never cut)
    segment_seconds  ... or when this writer has had the segment open for so long
    fsync            "always": an append returns when it is on disk; "interval": written to disk by
                     the first append ``fsync_interval`` seconds after the last time, by
                     :meth:`flush` and by :meth:`close`; "never": the operating system decides
    retain_bytes     whole old segments are removed while at least so many bytes stay; None keeps all
    clock            seconds, for the ages above

    Raises SourceError when another writer holds the directory.
    """

    def __init__(
        self,
        directory: str | Path,
        segment_bytes: int = 128 << 20,
        segment_seconds: float = 3600.0,
        fsync: Fsync = "interval",
        fsync_interval: float = 1.0,
        retain_bytes: int | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if fsync not in get_args(Fsync):
            raise ConfigError(f"fsync must be 'interval', 'always' or 'never'; got {fsync!r}")
        _check("segment_bytes", segment_bytes, segment_bytes >= 1, "at least 1")
        _check("segment_seconds", segment_seconds, segment_seconds > 0, "more than 0")
        _check("fsync_interval", fsync_interval, fsync_interval >= 0, "at least 0")
        _check("retain_bytes", retain_bytes, retain_bytes is None or retain_bytes >= 0, "None or at least 0")
        self.directory = Path(directory).absolute()
        self._segment_bytes, self._segment_seconds = segment_bytes, segment_seconds
        self._fsync: Fsync = fsync
        self._fsync_interval = fsync_interval
        self._retain_bytes = retain_bytes
        self._clock = clock
        self._synced = clock()
        self._active: _Active | None = None
        self._closed = False
        self._lock = self._acquire()
        try:
            self._position = self._recover()
            self._retain()
        except BaseException as error:
            self._shut()
            if isinstance(error, OSError):
                raise self._error(f"cannot be written: {error.strerror}") from error
            raise

    @property
    def position(self) -> int:
        """The position after the last record: where the next append goes."""
        return self._position

    def append(self, lines: bytes) -> int:
        """Write one or many records, each ending in a newline; returns the position after them.

        Raises DataError for bytes that are not whole non-empty records, and SourceError when
        they cannot be written. Then :attr:`position` says how much of them is in the log: the
        log ends on a whole record in any case.
        """
        self._check_open()
        check_records(lines)
        active = self._segment_for(len(lines))
        try:
            _write(active.descriptor, lines)
        except OSError as error:
            raise self._failed(len(lines), error) from error
        active.size += len(lines)
        self._position += len(lines)
        if self._fsync == "always" or (
            self._fsync == "interval" and self._clock() - self._synced >= self._fsync_interval
        ):
            self.flush()
        return self._position

    def flush(self) -> None:
        """Return when everything appended is on disk (with ``fsync="never"``: at once)."""
        self._check_open()
        if self._fsync == "never" or self._active is None:
            return
        try:
            os.fsync(self._active.descriptor)
        except OSError as error:
            # After a failed fsync the kernel may have dropped the bytes: nothing more is safe.
            self._shut()
            raise self._error(f"cannot write to disk: {error.strerror}; check the disk") from error
        self._synced = self._clock()

    def close(self) -> None:
        """Flush, close and let another writer in. A second call does nothing."""
        if self._closed:
            return
        try:
            self.flush()
        finally:
            self._shut()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _acquire(self) -> filelock.BaseFileLock:
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            lock = filelock.FileLock(self.directory / LOCK_NAME, timeout=0, thread_local=False)
            lock.acquire()
        except filelock.Timeout:
            raise self._error(
                f"another writer holds {self.directory / LOCK_NAME}; a log has one writer: stop the "
                "other one or write to another directory"
            ) from None
        except OSError as error:
            raise self._error(f"cannot be written: {error.strerror}") from error
        return lock

    def _recover(self) -> int:
        """Go to the end of the log, a torn last record cut off; returns its position."""
        found = segments(self.directory)
        if not found:
            return 0
        start, path = found[-1]
        size, whole = path.stat().st_size, whole_size(path)
        if whole < size:
            os.truncate(path, whole)
        else:
            self._open(start, size)
        return start + whole

    def _failed(self, count: int, error: OSError) -> SourceError:
        """Cut a half-written append back to whole records; the next one begins a new segment.

        Nothing is appended to a file that was cut: a reader may hold the bytes that are gone.
        """
        active, self._active = self._active, None
        assert active is not None
        os.close(active.descriptor)
        try:
            whole = whole_size(active.path)
            os.truncate(active.path, whole)
        except OSError as second:
            self._shut()
            return self._error(
                f"the last append failed and cannot be cut off; check the disk: {second.strerror}"
            )
        kept = active.start + whole - self._position
        self._position += kept
        return self._error(
            f"cannot write {count} bytes: {error.strerror}; {kept} of them (whole records) were kept and the "
            f"log ends at position {self._position}; make room, then append the rest"
        )

    def _error(self, text: str) -> SourceError:
        return SourceError(f"log:{self.directory}: {text}")

    def _segment_for(self, count: int) -> _Active:
        """The segment for an append of ``count`` bytes, a new one when it is due."""
        active = self._active
        if active is not None and (
            active.size + count > self._segment_bytes
            or self._clock() - active.opened >= self._segment_seconds
        ):
            self.flush()
            os.close(active.descriptor)
            self._active = active = None
        if active is None:
            active = self._open(self._position, 0)
            self._sync_directory()
            self._retain()
        return active

    def _open(self, start: int, size: int) -> _Active:
        path = segment_path(self.directory, start)
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)
        try:
            descriptor = os.open(path, flags, 0o644)
        except OSError as error:
            raise self._error(f"cannot open {path.name}: {error.strerror}") from error
        self._active = _Active(descriptor, path, start, size, self._clock())
        return self._active

    def _retain(self) -> None:
        """Remove the oldest segments that are not needed to keep ``retain_bytes``."""
        if self._retain_bytes is None:
            return
        found = segments(self.directory)
        for segment, following in pairwise(found):
            if self._position - following.start < self._retain_bytes:
                break
            segment.path.unlink(missing_ok=True)

    def _sync_directory(self) -> None:
        """Make new and removed names durable (directories cannot be synced everywhere)."""
        if self._fsync == "never" or os.name == "nt":
            return
        try:
            descriptor = os.open(self.directory, os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise self._error(f"cannot write to disk: {error.strerror}; check the disk") from error

    def _check_open(self) -> None:
        if self._closed:
            raise self._error("the writer is closed; open a new LogWriter")

    def _shut(self) -> None:
        self._closed = True
        if self._active is not None:
            os.close(self._active.descriptor)
            self._active = None
        self._lock.release()


def check_records(lines: bytes) -> None:
    """Refuse bytes that are not whole, non-empty records within the limits (DataError)."""
    if not lines.endswith(b"\n"):
        raise DataError(f"append: every record must end in a newline; the bytes end in {lines[-20:]!r}")
    if len(lines) > MAX_APPEND_BYTES:
        raise DataError(
            f"append: at most {MAX_APPEND_BYTES} bytes at once, got {len(lines)}; append in parts"
        )
    if lines.find(b"\n") == len(lines) - 1 and 2 < len(lines) <= MAX_RECORD_BYTES:
        return  # one record: no need to look for more
    data = np.frombuffer(lines, np.uint8)
    ends = np.flatnonzero(data == 10)
    lengths = ends.copy()
    lengths[1:] -= ends[:-1] + 1
    if lengths.max() > MAX_RECORD_BYTES:
        raise DataError(f"append: a record has at most {MAX_RECORD_BYTES} bytes; got one of {lengths.max()}")
    blank = (lengths == 0) | ((lengths == 1) & (data[ends - 1] == 13))
    if blank.any():
        raise DataError(f"append: a record must not be empty; line {int(blank.argmax()) + 1} is blank")


def _check(name: str, value: object, fine: bool, rule: str) -> None:
    if not fine:
        raise ConfigError(f"{name} must be {rule}; got {value!r}")


def _write(descriptor: int, lines: bytes) -> None:
    """One write; the rest again only where the system took a part (then the disk is full)."""
    written = os.write(descriptor, lines)
    while written < len(lines):
        count = os.write(descriptor, memoryview(lines)[written:])
        if count == 0:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        written += count
