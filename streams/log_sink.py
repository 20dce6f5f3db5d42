"""``log:DIR``: write to the embedded event log."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ftrl_engine.errors import ConfigError
from streams.event_log import LogWriter
from streams.sink import Sink


def open(uri: str, options: Mapping[str, str]) -> LogSink:
    """The log in the directory that ``log:DIR`` names; there are no options."""
    name = uri.removeprefix("log:")
    if not name:
        raise ConfigError(f"{uri!r} names no log; write log:DIR, for example log:events")
    if options:
        raise ConfigError(f"{uri}: unknown options {', '.join(sorted(options))}; a log has none")
    return LogSink(uri, LogWriter(Path(name).expanduser()))


class LogSink(Sink):
    """The records appended to a log, on disk after :meth:`flush` or one second."""

    def __init__(self, uri: str, writer: LogWriter) -> None:
        self.uri = uri
        self._writer = writer

    def append(self, lines: bytes) -> None:
        self._writer.append(lines)

    def flush(self) -> None:
        self._writer.flush()

    def close(self) -> None:
        self._writer.close()
