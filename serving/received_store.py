"""ReceivedStore: the models of a worker, which the server has read, verified and shared."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from ftrl_engine.errors import CorruptFileError
from ftrl_engine.snapshot import Snapshot
from serving.channel import Channel
from serving.scorer import Scorer
from serving.server_state import ServerState
from serving.shared_snapshot import SharedSnapshot
from serving.store import STOP_SECONDS, ModelStore, Served
from serving.worker_messages import Model, State, Taken, decode, encode


class ReceivedStore(ModelStore):
    """Takes what comes over ``channel``; ``gone`` is called when the server is no more.

    state  what the server says of itself, kept up to date here
    """

    def __init__(
        self,
        model: Path,
        channel: Channel,
        make_scorer: Callable[[Snapshot], Scorer],
        state: ServerState,
        gone: Callable[[], None],
    ) -> None:
        super().__init__(model, make_scorer)
        self._channel = channel
        self._state = state
        self._gone = gone
        self._refused: str | None = None
        self._told = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def started(self) -> bool:
        return self._thread is not None

    def start(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._follow, name="ftrl-models", daemon=True)
            self._thread.start()

    def stop(self) -> None:
        self._channel.close()
        if self._thread is not None:
            # It may be compiling, which nobody has to wait for.
            self._thread.join(STOP_SECONDS)

    def wait(self) -> None:
        """Return when the server has said the first word: if it has a model, that is served then."""
        self._told.wait()

    def _follow(self) -> None:
        while (received := self._channel.receive()) is not None:
            data, descriptors = received
            message = decode(data)
            if isinstance(message, Model):
                self._take(message, descriptors[0])
                self._tell_taken()
            elif isinstance(message, State):
                self._note(message)
        self._gone()
        self._told.set()

    def _take(self, message: Model, descriptor: int) -> None:
        """Serve the model; whatever happens, the old one stays in service until then."""
        try:
            scorer = self.scorer_of(SharedSnapshot.map(descriptor, message.size))
            served = Served.of(scorer, Path(message.path), message.identity)
            if served.version != message.version:
                raise CorruptFileError(f"version {served.version} came as {message.version}")
        except Exception as error:
            self._refused = f"{message.path}: this worker cannot serve it: {error!r}"
            return
        self.current = served
        self._refused = None

    def _tell_taken(self) -> None:
        with suppress(OSError):  # a server that is gone is noticed by the next receive
            self._channel.send(encode(Taken()))

    def _note(self, message: State) -> None:
        for name in ServerState.__struct_fields__:
            if name != "draining":  # the end of this worker is its own
                setattr(self._state, name, getattr(message.server, name))
        self.looked = message.looked
        self.error = message.error or self._refused
        self.loads, self.failures = message.loads, message.failures
        self._told.set()
