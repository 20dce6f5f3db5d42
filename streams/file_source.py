"""Files, globs and standard input: whatever is not a ``<scheme>:``.

A partition is the absolute path of a file, and its position a byte offset in the decompressed
content (a row number in parquet); files are read strictly one after another. The partition of
standard input is ``-``: a pipe goes on where it stands, nothing of it is skipped, and its
positions count on from a saved one.

``follow`` waits at the end of the last file. A line is a record as soon as it has its line
end; a file is over, its last line included, as soon as the glob finds a newer one. What comes
before the current file in order is read at the next start.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence

from ftrl_engine.errors import ConfigError, SourceError
from streams.file_names import STDIN, FileName, check_files, common_format, expand, format_of, is_glob
from streams.marks import Mark, mark_before, mark_of_end
from streams.parquet import ParquetFile
from streams.source import Block, Positions, Source, SourceOptions
from streams.text_file import TextFile

# How often a follower looks for more of a file, and for newer files, in seconds.
STEP = 0.02
GLOB_STEP = 0.2
_WITH_HEADER = ("csv", "tsv")


def open(uri: str, positions: Positions, options: SourceOptions) -> FileSource:
    """The files that one name or glob means, or standard input."""
    return open_files([uri.removeprefix("file://")], positions, options)


def open_files(paths: Sequence[str], positions: Positions, options: SourceOptions) -> FileSource:
    """Several files, names or globs, in the given order."""
    return FileSource(paths, positions, options)


class FileSource(Source):
    """Blocks of the records of ``names``, each a file, a glob or ``-``.

    ``format`` is None where neither the options nor the names tell it; such files have no
    header line. ``positions()`` keeps what was passed in for files that are not read (yet).
    """

    def __init__(
        self,
        names: Sequence[str],
        positions: Positions,
        options: SourceOptions,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.uri = " ".join(names)
        self._names = list(names)
        self._options = options
        self._clock, self._sleep = clock, sleep
        self._positions = dict(positions)
        self._damage: dict[str, str] = {}
        self._file: TextFile | ParquetFile | None = None
        self._name: FileName | None = None  # of the open file, or the last one before
        self._growing = options.follow and any(is_glob(name) for name in names)
        self._look_again = 0.0  # when the globs are expanded again
        self._idle = False  # the last step found nothing to do but wait
        self._finished = False
        _check_names(self._names)
        self._queue = expand(self._names)
        check_files(self._names, self._queue, options.follow, options.can_follow)
        self._kind = options.format or common_format([file.path for file in self._queue] or self._names)
        self._kind = self._kind or options.default_format
        self._check_kind()
        self.format = "csv" if self._kind == "parquet" else self._kind
        self._paths = {file.partition: file.path for file in self._queue}
        self._sizes = {file.partition: _size(file) for file in self._queue}
        self._done = 0  # bytes of the files that are finished
        self._consumed = 0  # bytes of the open file that are read
        if self._queue and _size(self._queue[0]) is not None:
            # A wrong file or position is told at once; opening a pipe would wait for its writer.
            self._begin_next()

    @property
    def finished(self) -> bool:
        return self._finished

    def positions(self) -> dict[str, int]:
        if self._file is None or self._name is None:
            return dict(self._positions)
        return self._positions | {self._name.partition: self._file.position}

    def marks(self, positions: Positions) -> dict[str, str]:
        found = {}
        for partition, position in positions.items():
            path = self._paths.get(partition)
            if path is None or not position:
                continue
            mark = mark_of_end(path) if self._kind == "parquet" else mark_before(path, position)
            if mark is not None:
                found[partition] = str(mark)
        return found

    def damage(self) -> dict[str, str]:
        return dict(self._damage)

    def fraction(self) -> float | None:
        sizes = self._sizes.values()
        if self._options.follow or None in sizes:
            return None
        total = sum(size or 0 for size in sizes)
        return min(1.0, (self._done + self._consumed) / total) if total else None

    def poll(self, timeout: float) -> Block | None:
        deadline = self._clock() + timeout
        while not self._finished:
            block = self._step()
            if block is not None:
                return block
            left = deadline - self._clock()
            if left <= 0 or self._finished:
                break
            if self._idle:
                self._wait(left)
        return None

    def close(self) -> None:
        self._finished = True
        if self._file is not None:
            self._file.close()

    def _step(self) -> Block | None:
        """A block, or one step towards it."""
        self._idle = False
        if self._file is None:
            self._begin_next()
            return None
        newest = not self._queue
        block = self._file.read()
        self._consumed = self._file.consumed
        if block is not None or self._file.busy:
            return block
        if not self._file.ended:
            self._idle = True
        elif newest and self._may_grow():
            self._look_for_newer()
            self._idle = not self._queue
        elif not self._file.settle():
            return self._end_file()
        return None

    def _may_grow(self) -> bool:
        if not self._options.follow or not isinstance(self._file, TextFile):
            return False
        if self._file.pipe or self._file.damage is not None:
            return False
        self._file.check()
        return True

    def _begin_next(self) -> None:
        """Open the next file; without one, wait or finish."""
        if not self._queue:
            self._look_for_newer()
            self._idle = not self._queue
            self._finished = self._idle and not self._growing
            return
        file = self._queue[0]
        try:
            self._file = self._open(file)
        except FileNotFoundError as error:
            if not self._options.follow:
                raise SourceError(f"{file.path}: no such file; check the name") from error
            self._look_for_newer()
            self._idle = True
            return
        self._name = file
        del self._queue[0]

    def _open(self, file: FileName) -> TextFile | ParquetFile:
        position, size = self._positions.get(file.partition, 0), self._options.block_bytes
        saved = self._options.marks.get(file.partition)
        mark = None if saved is None or not position else Mark.of(saved)
        if self._kind == "parquet":
            return ParquetFile(file, position, size, mark=mark)
        header = self._kind in _WITH_HEADER and not self._options.columns_known
        return TextFile(file, position, size, header, mark)

    def _end_file(self) -> Block | None:
        assert self._file is not None
        assert self._name is not None
        block = self._file.finish()
        self._positions[self._name.partition] = self._file.position
        if isinstance(self._file, TextFile) and self._file.cut_short is not None:
            self._damage[self._name.partition] = self._file.cut_short
        self._done, self._consumed = self._done + (self._sizes.get(self._name.partition) or 0), 0
        self._file.close()
        self._file = None
        return block

    def _look_for_newer(self) -> None:
        """Expand the globs of a follower again, if it is time."""
        now = self._clock()
        if not self._growing or now < self._look_again:
            return
        self._look_again = now + GLOB_STEP
        found = expand(self._names)
        self._queue = [file for file in found if self._name is None or file > self._name]
        self._paths |= {file.partition: file.path for file in self._queue}
        if self._options.format is not None:
            return
        for file in self._queue:
            if format_of(file.path) != self._kind:
                raise SourceError(
                    f"{self.uri}: found {file.path}, which is not of the format {self._kind} of the files "
                    "before it; let the glob find one format, or give the format"
                )

    def _wait(self, left: float) -> None:
        if isinstance(self._file, TextFile) and self._file.pipe:
            self._file.wait(left)
        else:
            self._sleep(min(left, STEP))

    def _check_kind(self) -> None:
        if self._kind != "parquet":
            return
        if self._options.follow:
            raise ConfigError(
                f"{self.uri}: a parquet file cannot be followed, it does not grow; leave it out"
            )
        if STDIN in self._names:
            raise ConfigError("parquet cannot be read from standard input; give the name of the file")


def _check_names(names: Sequence[str]) -> None:
    if not names or "" in names:
        raise ConfigError("a source needs the name of a file; got an empty one")
    if STDIN in names and len(names) > 1:
        raise ConfigError("standard input (-) cannot be read together with files; read it alone")


def _size(file: FileName) -> int | None:
    """The bytes of a regular file."""
    if file.path == STDIN or not os.path.isfile(file.path):
        return None
    return os.path.getsize(file.path)
