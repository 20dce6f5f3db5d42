"""Workers: processes that answer on one socket, from one copy of the model in memory.

The server itself answers nothing. It reads and verifies every new snapshot, puts it into memory that
all workers map, starts workers again that have died, and ends them in order.
"""

from __future__ import annotations

import math
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

from ftrl_engine.errors import FtrlError
from serving.counts import Counts
from serving.feedback_server import FeedbackServer
from serving.restarts import Restarts
from serving.scorer import scorer_of
from serving.server_state import ServerState
from serving.settings import ServeSettings
from serving.shared_memory import new_memory
from serving.shared_snapshot import load_shared
from serving.store import SnapshotStore
from serving.worker_messages import Start, State, encode
from serving.worker_process import WorkerProcess
from streams.stopping import Stop

GRACE_SECONDS = 10
_STEP_SECONDS = 0.05
_SILENT_SECONDS = 2.0
# So often may workers end before the first of them was ever ready.
_FAILED_STARTS = 3


class Workers:
    """``settings.workers`` workers that answer on ``listener``, and the store whose models they serve."""

    def __init__(
        self,
        settings: ServeSettings,
        listener: socket.socket,
        state: ServerState,
        feedback: FeedbackServer | None = None,
    ) -> None:
        self._settings, self._listener = settings, listener
        self._feedback = feedback
        self._state = state
        state.workers = settings.workers
        self.store = SnapshotStore(
            Path(settings.model), settings.reload_seconds, scorer_of(settings), load_shared, self._tell
        )
        self._counts = new_memory(Counts.size(settings.workers))
        self._workers: list[WorkerProcess | None] = [None] * settings.workers
        self._restarts = [Restarts() for _ in range(settings.workers)]
        self._due = [0.0] * settings.workers
        self._lock = threading.Lock()
        self._was_ready = False

    def run(self, stop: Stop, ready: Callable[[], None], slow: Callable[[], None]) -> None:
        """Answer until ``stop``; ``ready`` and ``slow`` as in :class:`serving.http_server.HttpServer`."""
        began = time.monotonic()
        self.store.start()
        try:
            while not stop.wait(_STEP_SECONDS):
                self._step(time.monotonic())
                if not self._was_ready and self._all_ready():
                    self._was_ready = True
                    ready()
                elif not self.store.looked and time.monotonic() > began + _SILENT_SECONDS:
                    began = math.inf
                    slow()
        finally:
            self._end()

    def kill(self) -> None:
        """End all workers at once, whatever they answer."""
        for worker in filter(None, self._workers):
            worker.kill()

    def _all_ready(self) -> bool:
        return all(worker is not None and worker.ready for worker in self._workers)

    def _step(self, now: float) -> None:
        """Start workers that are not there, and tell all of them what is new."""
        for row, worker in enumerate(self._workers):
            if worker is not None and worker.ended():
                worker.close(0)
                self._workers[row] = None
                self._due[row] = self._restarts[row].due(worker.started, now)
                self._state.worker_restarts += 1
                if not self._was_ready and self._state.worker_restarts >= _FAILED_STARTS * len(self._workers):
                    raise FtrlError("the workers end before they answer; their messages are above")
            elif worker is None and now >= self._due[row]:
                self._start(row)
        self._tell()

    def _start(self, row: int) -> None:
        start = Start(self._settings, row)
        descriptors = [self._listener.fileno(), self._counts]
        if self._feedback is None:
            self._workers[row] = WorkerProcess(start, descriptors)
            return
        with self._feedback.connect() as link:
            self._workers[row] = WorkerProcess(start, [*descriptors, link.fileno()])

    def _tell(self) -> None:
        """Tell every worker what it does not know yet; called by this thread and by the store's."""
        with self._lock:
            store, served = self.store, self.store.current
            running = [worker for worker in self._workers if worker is not None]
            self._state.waiting = sum(worker.ready and not worker.modelled for worker in running)
            state = encode(State(self._state, store.looked, store.error, store.loads, store.failures))
            for worker in running:
                if served is not None:
                    worker.serve(served)
                worker.tell(state)

    def _end(self) -> None:
        """Let every worker finish what it answers."""
        # The workers have the socket too; when they close it, nobody must be left to listen.
        self._listener.close()
        self.store.stop()
        workers = [worker for worker in self._workers if worker is not None]
        for worker in workers:
            worker.terminate()
        end = time.monotonic() + self._settings.drain_seconds + GRACE_SECONDS + 5
        for worker in workers:
            worker.close(max(0.0, end - time.monotonic()))
        os.close(self._counts)
