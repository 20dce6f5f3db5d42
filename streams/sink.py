"""Where events go: files, standard output, the embedded log, brokers.

Adding a destination is one file ``streams/<scheme>_sink.py`` that defines
``open(uri, options) -> Sink``.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Mapping
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

from ftrl_engine.errors import ConfigError


class Sink(ABC):
    """Takes records, each ending in a newline, and keeps their order. Close it, or use ``with``."""

    uri: str

    @abstractmethod
    def append(self, lines: bytes) -> None:
        """Take one or many records."""

    @abstractmethod
    def flush(self) -> None:
        """Return when everything taken has arrived where it goes."""

    @abstractmethod
    def close(self) -> None:
        """Flush and release files and connections; a second call does nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def scheme_of(dest: str) -> str:
    """The scheme of a destination; ``file`` for a file name or ``-``."""
    scheme = urlsplit(dest).scheme if ":" in dest else ""
    return scheme if len(scheme) > 1 else "file"  # one letter is a drive


def open_sink(dest: str, options: Mapping[str, str] | None = None) -> Sink:
    """Open ``dest``: a file name (``.gz`` and ``.zst`` are written through), ``-``, or a URI.

    A scheme ``<scheme>:`` is served by ``streams/<scheme>_sink.py``; ``options`` are for one
    kind of destination only. Raises ConfigError for an unknown scheme or option.
    """
    name = scheme_of(dest)
    known = "use a file name, -, log:DIR or kafka://..."
    if not name.isidentifier():
        raise ConfigError(f"destination {dest!r}: {name!r} is not a destination; {known}")
    try:
        module = importlib.import_module(f"streams.{name}_sink")
    except ModuleNotFoundError as error:
        if error.name != f"streams.{name}_sink":
            raise
        raise ConfigError(f"destination {dest!r}: unknown scheme {name!r}; {known}") from None
    sink: Sink = module.open(dest, dict(options or {}))
    return sink
