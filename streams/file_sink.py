"""Write to a file, compressed if its name says so, or to standard output (``-``)."""

from __future__ import annotations

import builtins
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

from ftrl_engine.errors import ConfigError, SourceError
from streams.sink import Sink


def open(uri: str, options: Mapping[str, str]) -> FileSink:
    """The file ``uri``, emptied first; ``-`` is standard output; there are no options."""
    if options:
        raise ConfigError(f"{uri}: unknown options {', '.join(sorted(options))}; a file has none")
    if uri == "-":
        # Unbuffered: nothing is left to flush at exit when the reader has gone.
        return FileSink(uri, builtins.open(sys.stdout.fileno(), "wb", buffering=0, closefd=False))
    path = Path(uri)
    if not path.absolute().parent.is_dir():
        raise SourceError(f"{uri}: there is no directory {path.parent}; make it first")
    try:
        return FileSink(uri, _open(path))
    except OSError as error:
        raise SourceError(f"{uri}: cannot be written: {error.strerror}") from error


def _open(path: Path) -> BinaryIO:
    if path.suffix == ".gz":
        from isal import igzip

        pack: Any = igzip.IGzipFile
        return cast(BinaryIO, pack(path, "wb", compresslevel=2, mtime=0))
    if path.suffix == ".zst":
        import zstandard

        return cast(BinaryIO, zstandard.open(path, "wb", cctx=zstandard.ZstdCompressor(level=3)))
    return builtins.open(path, "wb")


class FileSink(Sink):
    """The records one after the other in an open binary file.

    Raises SourceError when they cannot be written, BrokenPipeError when nobody reads any more.
    """

    def __init__(self, uri: str, file: BinaryIO) -> None:
        self.uri = uri
        self._file = file
        # A compressed file is smaller when it is not flushed after every append.
        self._flush_always = Path(uri).suffix not in (".gz", ".zst")
        self._closed = False

    def append(self, lines: bytes) -> None:
        try:
            rest = memoryview(lines)
            while rest:
                rest = rest[self._file.write(rest) or 0 :]
        except OSError as error:
            raise self._error(error) from error
        if self._flush_always:
            self.flush()

    def flush(self) -> None:
        try:
            self._file.flush()
        except OSError as error:
            raise self._error(error) from error

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self._file.close()
        except OSError as error:
            raise self._error(error) from error

    def _error(self, error: OSError) -> Exception:
        if isinstance(error, BrokenPipeError):
            return error
        return SourceError(f"{self.uri}: cannot be written: {error.strerror}; make room and start again")
