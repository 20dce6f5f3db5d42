"""Refuse to write to what is read: it would destroy the events, or be read again."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePath

from ftrl_engine.errors import ConfigError
from streams.file_names import STDIN, expand, is_glob
from streams.sink import scheme_of

_LOG = "log:"


def refuse_own_source(flag: str, dest: str, sources: Iterable[str]) -> None:
    """ConfigError where ``dest``, the value of ``flag``, is one of ``sources`` or would be."""
    for name in sources:
        source = name.removeprefix("file://")
        if scheme_of(source) == "file":
            same = _is_read(dest, source) or _would_be_found(dest, source)
        else:
            same = _is_log(source) and _is_log(dest) and _directory(source) == _directory(dest)
        if same:
            raise ConfigError(
                f"{flag} {dest}: events are read from there ({name}), and what is read must not be "
                f"written to; give {flag} another name"
            )


def _is_read(dest: str, source: str) -> bool:
    """Whether a regular file that is there is read, under whatever name."""
    if not os.path.isfile(dest):
        return False
    written = os.stat(dest)
    for file in expand([source]):
        try:
            read = os.fstat(0) if file.path == STDIN else os.stat(file.path)
        except OSError:
            continue  # opening it says better what is wrong
        if os.path.samestat(read, written):
            return True
    return False


def _would_be_found(dest: str, source: str) -> bool:
    """Whether a file that is made now would be one of those to read."""
    if os.path.lexists(dest) or not is_glob(source):
        return False
    return PurePath(os.path.abspath(dest)).match(os.path.abspath(os.path.expanduser(source)))


def _is_log(name: str) -> bool:
    return name.startswith(_LOG)


def _directory(name: str) -> str:
    return os.path.realpath(os.path.expanduser(name.removeprefix(_LOG)))
