"""WorkerProcess: one worker as its server sees it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Sequence

from serving.channel import Channel
from serving.shared_snapshot import SharedSnapshot
from serving.store import Served
from serving.worker_messages import Model, Ready, Start, Taken, decode, encode


class WorkerProcess:
    """A worker that was just started; ``descriptors`` go to it with ``start``.

    ready    it answers requests; modelled: it has taken a model, or refused it
    started  when it was started, by time.monotonic()
    """

    def __init__(self, start: Start, descriptors: Sequence[int]) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        with theirs:
            # A session of its own: Ctrl-C in the terminal is for the server, which ends its workers in order.
            self._process = subprocess.Popen(
                [sys.executable, "-m", "serving.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                start_new_session=True,
            )  # fmt: skip
        self.ready = self.modelled = False
        self.started = time.monotonic()
        self._channel = Channel(ours)
        self._served: Served | None = None
        self._busy = False  # with the last model; another one would only wait and take memory
        self._told = b""
        self._send(encode(start), descriptors)
        threading.Thread(target=self._listen, name="ftrl-worker", daemon=True).start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def serve(self, served: Served) -> None:
        """Hand over a model, unless it has it; one that is busy with another gets it by a later call."""
        if self._busy or served is self._served:
            return
        snapshot = served.snapshot
        assert isinstance(snapshot, SharedSnapshot)
        self._busy, self._served = True, served
        model = Model(snapshot.size, str(served.path), served.version, served.identity)
        self._send(encode(model), [snapshot.descriptor])

    def tell(self, state: bytes) -> None:
        """Tell it the state of the server, if it is news."""
        if state != self._told:
            self._told = state
            self._send(state)

    def ended(self) -> bool:
        """Whether the process is no more."""
        return self._process.poll() is not None

    def terminate(self) -> None:
        """Ask it to finish what it answers, and to end."""
        self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self._process.kill()

    def close(self, seconds: float) -> None:
        """End it, by force when ``seconds`` have passed."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._channel.close()

    def _send(self, message: bytes, descriptors: Sequence[int] = ()) -> None:
        try:
            self._channel.send(message, descriptors)
        except OSError:
            self.kill()  # one that does not listen is started again

    def _listen(self) -> None:
        while (received := self._channel.receive()) is not None:
            data, descriptors = received
            for descriptor in descriptors:
                os.close(descriptor)
            message = decode(data)
            if isinstance(message, Ready):
                self.ready = True
            elif isinstance(message, Taken):
                self._busy, self.modelled = False, True
