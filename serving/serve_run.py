"""A server from its start to its end: in this process or in workers, with what runs beside it."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from ftrl_engine.errors import ConfigError
from serving.server_state import FeedbackState, LearnerState, ServerState
from serving.settings import ServeSettings

if TYPE_CHECKING:
    from serving.feedback_stream import Deliver, FeedbackStream
    from serving.store import ModelStore
    from streams.stopping import Stop

DONE, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


@dataclass(frozen=True, slots=True)
class FeedbackOptions:
    """Where feedback goes, the properties of a kafka:// destination, how many ids are remembered."""

    destination: str
    window: int
    properties: Mapping[str, str] | None = field(default=None, repr=False)  # may hold passwords


@dataclass(frozen=True, slots=True)
class LearnOptions:
    """What the learner beside the server learns from, and all arguments of its command."""

    source: str
    arguments: Sequence[str]


@dataclass(frozen=True, slots=True)
class ServeRun:
    """One run of a server.

    ready  called when requests are answered by the model that is there, if there is one
    slow   called once if that takes long
    """

    settings: ServeSettings
    listener: socket.socket
    ready: Callable[[ModelStore], None]
    slow: Callable[[], None]
    feedback: FeedbackOptions | None = None
    learn: LearnOptions | None = None

    def run(self) -> int:
        """Serve until a signal; returns the exit status."""
        return self._alone() if self.settings.workers == 1 else self._with_workers()

    def _alone(self) -> int:
        from serving.app import App
        from serving.feedback_link import DirectLink
        from serving.http_server import HttpServer
        from serving.scorer import scorer_of
        from serving.store import SnapshotStore

        settings, state = self.settings, ServerState()
        store = SnapshotStore(Path(settings.model), settings.reload_seconds, scorer_of(settings))
        with ExitStack() as ends:
            link = None
            if self.feedback is not None:
                link = DirectLink()
                link.stream = ends.enter_context(self._stream(state, link.deliver))
            app = App.of(settings, store, state=state, link=link)
            server = HttpServer(app, settings, lambda: self.ready(store), self.slow)
            hopeless = ends.enter_context(self._learner(state, server.stop))
            received = server.answer(self.listener)
        if not server.started:
            return FAILED
        return _status(received, hopeless)

    def _with_workers(self) -> int:
        from serving.feedback_server import FeedbackServer
        from serving.workers import Workers
        from streams.stopping import Stop

        if os.name == "nt":
            raise ConfigError(
                "--workers needs a system with Unix sockets; leave it out, or run several servers"
            )
        state = ServerState()
        with ExitStack() as ends:
            feedback = None
            if self.feedback is not None:
                feedback = FeedbackServer()
                feedback.stream = ends.enter_context(self._stream(state, feedback.deliver))
            workers = Workers(self.settings, self.listener, state, feedback)
            stop = Stop()
            hopeless = ends.enter_context(self._learner(state, stop.set))
            with _signals(stop, workers.kill) as received:
                workers.run(stop, lambda: self.ready(workers.store), self.slow)
        return _status(received, hopeless)

    @contextmanager
    def _learner(self, state: ServerState, stop: Callable[[], None]) -> Iterator[threading.Event]:
        """The learner, if there is one to be; the event is set, and ``stop`` called, where it cannot be."""
        from serving.learner_process import LearnerProcess

        hopeless = threading.Event()
        if self.learn is None:
            yield hopeless
            return

        def give_up() -> None:
            hopeless.set()
            stop()

        state.learner = LearnerState(self.learn.source)
        learner = LearnerProcess(self.learn.arguments, state.learner, give_up)
        learner.start()
        try:
            yield hopeless
        finally:
            learner.stop()

    @contextmanager
    def _stream(self, state: ServerState, deliver: Deliver) -> Iterator[FeedbackStream]:
        from serving.feedback_stream import FeedbackStream

        options = self.feedback
        assert options is not None
        state.feedback = FeedbackState(options.destination)
        stream = FeedbackStream(
            options.destination, options.properties, options.window, state.feedback, deliver
        )
        stream.start()
        try:
            yield stream
        finally:
            stream.close()


def _status(received: set[int], hopeless: threading.Event) -> int:
    if hopeless.is_set():
        return USAGE
    return INTERRUPTED if signal.SIGINT in received else DONE


@contextmanager
def _signals(stop: Stop, insist: Callable[[], None]) -> Iterator[set[int]]:
    """The signals that came: the first one sets ``stop``, a further SIGINT calls ``insist``."""
    received: set[int] = set()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop.is_set() and number == signal.SIGINT:
            insist()
        received.add(number)
        stop.set()

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
