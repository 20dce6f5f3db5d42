"""Names of files: globs, their natural order, and the format a name tells."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Iterable, Sequence
from io import FileIO
from pathlib import Path
from typing import NamedTuple

from ftrl_engine.errors import ConfigError, SourceError

STDIN = "-"

_COMPRESSIONS = (".gz", ".zst")
_FORMATS = {
    ".tsv": "tsv",
    ".csv": "csv",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".json": "jsonl",
    ".libsvm": "libsvm",
    ".svmlight": "libsvm",
    ".vw": "vw",
    ".parquet": "parquet",
}


class FileName(NamedTuple):
    """One file to read; tuples sort in reading order.

    given      the number of the name or glob that it comes from
    natural    sorts events-2 before events-10
    path       as it is opened and named in messages
    partition  the absolute path, links followed
    """

    given: int
    natural: tuple[str | int, ...]
    path: str
    partition: str


def is_glob(name: str) -> bool:
    """True where a name is a pattern; a file that exists under the very name wins."""
    return glob.has_magic(name) and not os.path.lexists(name)


def natural_order(name: str) -> tuple[str | int, ...]:
    """A sort key under which numbers inside names count by value."""
    parts = re.split("([0-9]+)", name)
    # Text and numbers alternate, so that keys compare; equal numbers (01 and 1) by their text.
    return (*(int(part) if i % 2 else part for i, part in enumerate(parts)), "", len(name), name)


def expand(names: Sequence[str]) -> list[FileName]:
    """The files of ``names`` in reading order; globs may match none. A missing file is listed."""
    files = [file for given, name in enumerate(names) for file in _expand_one(given, name)]
    seen: dict[str, FileName] = {}
    for file in files:
        first = seen.setdefault(file.partition, file)
        if first.given != file.given:
            raise ConfigError(
                f"{file.path}: given twice ({names[first.given]} and {names[file.given]}); "
                "a source reads every file once"
            )
    return list(seen.values())


def _expand_one(given: int, name: str) -> list[FileName]:
    if name == STDIN:
        return [FileName(given, (), STDIN, STDIN)]
    name = os.path.expanduser(name)
    paths: Iterable[str] = [name]
    if is_glob(name):
        paths = (path for path in glob.iglob(name, recursive=True) if not os.path.isdir(path))
    return sorted(FileName(given, natural_order(path), path, str(Path(path).resolve())) for path in paths)


def format_of(name: str) -> str | None:
    """The format that the end of a name tells, compression apart; None for any other end."""
    return _FORMATS.get(ending_of(name))


def ending_of(name: str) -> str:
    """The end of a name in small letters with its dot, compression apart; empty where there is none."""
    base, suffix = os.path.splitext(name.lower())
    return os.path.splitext(base)[1] if suffix in _COMPRESSIONS else suffix


def common_format(names: Iterable[str]) -> str | None:
    """The one format of all ``names``."""
    first: dict[str | None, str] = {}
    for name in names:
        first.setdefault(format_of(name), name)
    if len(first) > 1:
        told = " and ".join(f"{name} is {kind or 'of no known format'}" for kind, name in first.items())
        raise ConfigError(f"the files of one source need one format, but {told}; give the format")
    return next(iter(first), None)


def check_files(
    names: Sequence[str], files: Sequence[FileName], may_be_missing: bool, can_follow: bool = False
) -> None:
    """Refuse what cannot be read before anything is read."""
    for given, name in enumerate(names):
        if not may_be_missing and not any(file.given == given for file in files):
            wait = ", or --follow to wait for files" if can_follow else ""
            raise SourceError(f"{name}: no file matches; check the pattern{wait}")
    for file in files:
        if file.path != STDIN:
            _check_file(file.path, may_be_missing, can_follow)


def _check_file(path: str, may_be_missing: bool, can_follow: bool) -> None:
    if os.path.isdir(path):
        example = os.path.join(path, "*.tsv")
        raise SourceError(f"{path}: is a directory; name the files in it, for example '{example}'")
    if not os.path.exists(path):
        if may_be_missing:
            return
        wait = ", or --follow to wait for it" if can_follow else ""
        raise SourceError(f"{path}: no such file; check the name{wait}")
    # A pipe is not tried: its writer would see that it is closed again.
    if os.path.isfile(path):
        try:
            FileIO(path).close()
        except OSError as error:
            raise SourceError(f"{path}: cannot be opened: {error.strerror}; make it readable") from error
