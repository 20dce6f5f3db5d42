"""SnapshotStore: the newest valid snapshot of a model, kept up to date by a thread of its own.

The thread looks into MODEL/snapshots, loads and verifies what is new, makes a scorer that needs
nothing more, and then swaps one reference. So a request never waits for a file, and one that has
taken :attr:`SnapshotStore.current` keeps that snapshot to its end.
"""

from __future__ import annotations

import threading
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from math import isfinite
from pathlib import Path

import numpy as np
import xxhash

from ftrl_engine.errors import FtrlError
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving.score_counts import COUNTED, count_scores
from serving.scorer import Scorer
from serving.settings import DEFAULT_RELOAD_SECONDS
from streams.model_directory import newest_snapshots

STOP_SECONDS = 2.0
_REQUEST = b'{"context": {}, "candidates": [{}]}'

Identity = tuple[str, int, int, int]
Json = bytes


@dataclass(frozen=True, slots=True, eq=False)
class Served:
    """A snapshot ready to score.

    version       "<rows>-<digest of the weights>": equal for equal models
    path, bytes   the file it was read from
    published_at  seconds since 1970
    told          version and rows as in the answers, JSON without its braces
    """

    scorer: Scorer
    version: str
    path: Path
    bytes: int
    published_at: float
    identity: Identity
    told: Json

    @classmethod
    def of(cls, scorer: Scorer, path: Path, identity: Identity) -> Served:
        """The scorer's snapshot, read from the file ``path`` that is told apart by ``identity``."""
        snapshot = scorer.snapshot
        published_at = snapshot.provenance.get("published_at")
        if not isinstance(published_at, int | float):
            published_at = identity[3] / 1e9
        version = f"{snapshot.rows}-{_digest(snapshot)}"
        told = b'"version":"%b","rows":%d' % (version.encode(), snapshot.rows)
        return cls(scorer, version, path, identity[2], float(published_at), identity, told)

    @property
    def snapshot(self) -> Snapshot:
        return self.scorer.snapshot

    def age(self, now: float) -> float:
        """Seconds since it was published; never negative, clocks may differ."""
        return max(0.0, now - self.published_at)


class ModelStore(ABC):
    """What an application asks of the place its model comes from.

    current  what is served; None until there is something
    looked   the first look is over: if there is a valid snapshot, it is served
    error    what is wrong with a file newer than the one served, or with the directory; None
             where nothing is
    loads, failures  how many snapshots were taken into service, and refused
    """

    def __init__(self, model: Path, make_scorer: Callable[[Snapshot], Scorer]) -> None:
        self.model = model
        self._make_scorer = make_scorer
        self.current: Served | None = None
        self.looked = False
        self.error: str | None = None
        self.loads = 0
        self.failures = 0

    def scorer_of(self, snapshot: Snapshot) -> Scorer:
        """A scorer that needs nothing new for its first request; what is served then goes on meanwhile."""
        current, scorer = self.current, None
        if current is not None and isfinite(snapshot.intercept):
            scorer = current.scorer.successor(snapshot)
        if scorer is None:
            scorer = self._make_scorer(snapshot)
            warm_up(scorer)
        return scorer

    @property
    @abstractmethod
    def started(self) -> bool:
        """Whether :meth:`start` was called."""

    @abstractmethod
    def start(self) -> None:
        """Follow the model in a thread, which looks at once; a second call does nothing."""

    @abstractmethod
    def stop(self) -> None:
        """End the thread; :attr:`current` stays."""


class SnapshotStore(ModelStore):
    """Follows one model directory, which need not exist yet.

    make_scorer  builds the scorer of a snapshot
    load         reads and verifies a file
    changed      called by the thread after every look that changed what the attributes say
    """

    def __init__(
        self,
        model: Path,
        reload_seconds: float = DEFAULT_RELOAD_SECONDS,
        make_scorer: Callable[[Snapshot], Scorer] = Scorer,
        load: Callable[[Path], Snapshot] = Snapshot.load,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        super().__init__(model, make_scorer)
        self.reload_seconds = reload_seconds
        self._load_file = load
        self._changed = changed
        self._damaged: dict[Identity, str] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        if self._thread is not None:
            return
        self._thread = threading.Thread(
            target=_follow,
            args=(weakref.ref(self), self._stop, self.reload_seconds),
            name="ftrl-reload",
            daemon=True,
        )
        self._thread.start()

    def stop(self) -> None:
        self._stop.set()
        if self._thread is not None:
            # It may be compiling, which nobody has to wait for.
            self._thread.join(STOP_SECONDS)

    def refresh(self) -> None:
        """Take the newest valid snapshot into service if it is not the one served; never raises."""
        with self._lock:
            before = self._facts()
            try:
                self.error = self._refresh()
            except Exception as error:
                # Whatever happens, the old snapshot stays in service.
                self.failures += 1
                self.error = _in_words(error, self.model)
            self.looked = True
            if self._facts() != before:
                self._changed()

    def _facts(self) -> tuple[object, ...]:
        return self.current, self.looked, self.error, self.loads, self.failures

    def warm_up(self) -> None:
        """Compile what scoring needs before there is a snapshot, so that the first one is served at once."""
        warm_up(self._make_scorer(empty_snapshot(1, Schema())))

    def _refresh(self) -> str | None:
        """Look once; returns what is wrong with a newer file than the one served then."""
        problem = None
        seen: dict[Identity, str] = {}
        for path in newest_snapshots(self.model):
            identity = _identity(path)
            if identity is None:
                continue
            if self.current is not None and identity == self.current.identity:
                break
            reason = self._damaged.get(identity)
            if reason is None:
                served, reason = self._load(path, identity)
                if served is not None:
                    self.current = served
                    self.loads += 1
                    break
                self.failures += reason is not None
            if reason is not None:
                seen[identity] = reason
                problem = problem or reason
        else:
            if self.current is not None:
                gone = f"{self.current.path}: the served snapshot is gone and there is no other valid one"
                problem = problem or gone
        self._damaged = seen
        return problem

    def _load(self, path: Path, identity: Identity) -> tuple[Served | None, str | None]:
        """The file ready to score, or why it cannot be; neither where it has just been removed."""
        try:
            scorer = self.scorer_of(self._load_file(path))
        except FileNotFoundError:
            return None, None
        except FtrlError as error:
            return None, str(error)
        return Served.of(scorer, path, identity), None


def warm_up(scorer: Scorer) -> None:
    """Do all that a request for scores does; DataError where the snapshot gives none."""
    count_scores(np.zeros(COUNTED), scorer.score(_REQUEST).results)
    scorer.score_carefully(_REQUEST)


def empty_snapshot(bits: int, schema: Schema) -> Snapshot:
    """A model that has learned nothing."""
    return Snapshot(np.empty(0, np.uint32), np.empty(0, np.float32), 0.0, bits, schema)


def _follow(reference: weakref.ref[SnapshotStore], stop: threading.Event, seconds: float) -> None:
    """Refresh until told to stop, or until nobody holds the store any more."""
    store = reference()
    if store is not None:
        store.refresh()
        if store.current is None:
            store.warm_up()
    del store
    while not stop.wait(seconds):
        store = reference()
        if store is None:
            return
        store.refresh()
        del store


def _in_words(error: Exception, model: Path) -> str:
    """Why a newer snapshot could not be looked for, and what to do."""
    if isinstance(error, PermissionError):
        return (
            f"{error.filename or model}: the user that runs the server may not read it; allow that (chmod, "
            "chown), and the server takes the newest snapshot by itself"
        )
    if isinstance(error, OSError):
        return f"{error.filename or model}: cannot be read: {error.strerror or error}; it is tried again"
    return f"{model}: cannot reload: {error!r}"


def _identity(path: Path) -> Identity | None:
    """Changes whenever the file is replaced; None where there is none."""
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return path.name, status.st_ino, status.st_size, status.st_mtime_ns


def _digest(snapshot: Snapshot) -> str:
    """Eight hex digits over everything that decides a score."""
    state = xxhash.xxh3_64(repr((snapshot.bits, snapshot.intercept, snapshot.schema)).encode())
    state.update(snapshot.slots.data)
    state.update(snapshot.weights.data)
    return state.hexdigest()[:8]
