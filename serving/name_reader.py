"""NameReader: the names of learned features, as the learner writes them beside the served model."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

from ftrl_engine.errors import FtrlError
from ftrl_engine.snapshot import Snapshot
from streams.names import FILE, Names

# The learner writes names now and then; looking more often finds nothing.
_LOOK_SECONDS = 2.0


class NameReader:
    """The names beside the served model, read again when their file changes; any thread may ask."""

    def __init__(self, model: Path, clock: Callable[[], float] = time.monotonic) -> None:
        self._path = model / FILE
        self._clock = clock
        self._lock = threading.Lock()
        self._looked = -_LOOK_SECONDS
        self._identity: tuple[object, ...] = ()
        self._names: Names | None = None

    def names(self, snapshot: Snapshot) -> Names | None:
        """The names of the features of the snapshot's model; None where there are none."""
        with self._lock:
            now = self._clock()
            if now - self._looked >= _LOOK_SECONDS:
                self._looked = now
                identity = (self._stamp(), snapshot.bits, snapshot.schema)
                if identity != self._identity:
                    self._identity = identity
                    self._names = self._load(snapshot)
            return self._names

    def _stamp(self) -> tuple[int, int, int] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        return status.st_ino, status.st_size, status.st_mtime_ns

    def _load(self, snapshot: Snapshot) -> Names | None:
        try:
            return Names.load(self._path, snapshot.schema, snapshot.bits)
        except (FtrlError, OSError):
            return None  # names are advice; an explanation without them is whole
