"""Refused events, kept: one JSON object a line in ``rejected.jsonl``, bounded."""

from __future__ import annotations

import base64
import json
import os
import stat
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from ftrl_engine.errors import ConfigError, SourceError
from streams.sink import Sink, open_sink, scheme_of
from streams.source import Refusal

MAX_BYTES = 64 << 20


class RejectFile:
    """Appends refused events until the file has ``max_bytes``; later ones are only counted.

    ``size`` belongs into the checkpoint: what a crash leaves beyond it is cut off again,
    because those events will be refused once more.
    """

    def __init__(self, path: Path, size: int, max_bytes: int = MAX_BYTES) -> None:
        self.name = f"file {path.name}"
        self._max = max_bytes
        self._file = open(path, "ab")  # noqa: SIM115 - closed by close()
        self.size = min(size, os.fstat(self._file.fileno()).st_size)
        self._file.truncate(self.size)

    def add(self, refusals: Iterable[Refusal]) -> int:
        """Keep the events while there is room; returns how many there were."""
        count = 0
        for refusal in refusals:
            count += 1
            if self.size < self._max:
                line = json.dumps(describe(refusal), ensure_ascii=False).encode() + b"\n"
                self._file.write(line)
                self.size += len(line)
        return count

    def sync(self) -> int:
        """Make it durable; returns the size."""
        self._file.flush()
        os.fsync(self._file.fileno())
        return self.size

    def close(self) -> None:
        self._file.close()


class RejectSink:
    """Sends refused events to a destination of the user's, each at least once.

    What was refused after the last checkpoint is sent again by a learner that was killed.
    """

    def __init__(self, sink: Sink, size: int) -> None:
        self.name = f"destination {sink.uri}"
        self._sink = sink
        self._size = size

    def add(self, refusals: Iterable[Refusal]) -> int:
        """Send the events; returns how many there were."""
        count = 0
        for refusal in refusals:
            count += 1
            self._sink.append(json.dumps(describe(refusal), ensure_ascii=False).encode() + b"\n")
        return count

    def sync(self) -> int:
        """Return when they have arrived; gives the unchanged size of the model's own file."""
        self._sink.flush()
        return self._size

    def close(self) -> None:
        self._sink.close()


class _AppendingFile(Sink):
    """The end of a file that may have events of earlier runs."""

    def __init__(self, name: str) -> None:
        self.uri = name
        try:
            self._file = open(name, "ab")  # noqa: SIM115 - closed by close()
        except OSError as error:
            raise SourceError(f"--rejects {name}: cannot be written: {error.strerror}") from error

    def append(self, lines: bytes) -> None:
        self._file.write(lines)

    def flush(self) -> None:
        self._file.flush()
        if stat.S_ISREG(os.fstat(self._file.fileno()).st_mode):  # a device has no disk to wait for
            os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()


def open_rejects(dest: str, options: Mapping[str, str] | None) -> Sink:
    """The destination of ``--rejects``: a file is appended to, anything else is a sink."""
    if dest == "-":
        raise ConfigError("--rejects -: standard output is for the result; name a file or a kafka:// topic")
    return _AppendingFile(dest) if scheme_of(dest) == "file" else open_sink(dest, options)


def describe(refusal: Refusal) -> dict[str, Any]:
    """The JSON form: the event as text, or base64 where it is not UTF-8."""
    entry: dict[str, Any] = {
        "source": refusal.partition,
        "position": refusal.position,
        "reason": refusal.reason,
    }
    try:
        entry["event"] = refusal.event.decode("utf-8")
    except UnicodeDecodeError:
        entry["event_base64"] = base64.b64encode(refusal.event).decode()
    return entry
