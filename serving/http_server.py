"""The process that answers: uvicorn around the application, its limits and its end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable
from types import FrameType

import uvicorn

from serving.access_log import AccessLog
from serving.app import App
from serving.connections import NOTHING, Sweeper, limited
from serving.settings import ServeSettings

# Requests that are being answered when the server closes get this long.
GRACE_SECONDS = 10
IDLE_SECONDS = 75
BACKLOG = 2048
_STEP_SECONDS, _SILENT_STEPS = 0.02, 100


class HttpServer(uvicorn.Server):
    """Serves ``app`` on an open socket.

    ready  called when a snapshot that is there is served, so that requests are answered by it
    slow   called once if that takes more than two seconds: something is being compiled
    """

    def __init__(
        self,
        app: App,
        settings: ServeSettings,
        ready: Callable[[], None],
        slow: Callable[[], None] = lambda: None,
    ) -> None:
        # The access log sees what the application answers.
        at_once = NOTHING if settings.access_log else app.at_once
        http = limited(settings.max_header, settings.max_connections, app.count_refusal, at_once)
        config = uvicorn.Config(
            AccessLog(app) if settings.access_log else app, loop="auto",
            http=http, ws="none", lifespan="on",
            log_config=None, log_level="error", access_log=False, server_header=False,
            proxy_headers=False, backlog=BACKLOG, timeout_keep_alive=IDLE_SECONDS,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )  # fmt: skip
        super().__init__(config)
        self._app, self._settings = app, settings
        self._ready, self._slow = ready, slow
        self._end: float | None = None

    def answer(self, listener: socket.socket) -> set[int]:
        """Serve until a signal or :meth:`stop`; returns the signals that came.

        :attr:`started` is False where the server could not even begin.
        """
        received: set[int] = set()

        def note(number: int, frame: FrameType | None) -> None:
            # uvicorn ends in good order, then raises the signal once more for whoever handled it before.
            received.add(number)

        self._app.store.start()
        before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            self.run([listener])
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
        return received

    def stop(self) -> None:
        """Ask for the end, from any thread."""
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        await self._first_look()

    async def main_loop(self) -> None:
        self._ready()
        sweep = asyncio.create_task(
            Sweeper(self.server_state.connections, self._settings.header_seconds, IDLE_SECONDS).run()
        )
        try:
            await super().main_loop()
        finally:
            sweep.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await sweep

    async def on_tick(self, counter: int) -> bool:
        """Whether to close now: some time after the end was asked for, during which /readyz says no."""
        if not await super().on_tick(counter):
            return False
        self._app.state.draining = True
        self._end = self._end or time.monotonic() + self._settings.drain_seconds
        return self.force_exit or time.monotonic() >= self._end

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        await super().shutdown(sockets)
        if self.force_exit:
            # uvicorn leaves this out when it is in a hurry, and then complains of what it left.
            await self.lifespan.shutdown()

    async def _first_look(self) -> None:
        """Wait until a snapshot that is there is served; /healthz is answered meanwhile."""
        step = 0
        while not self._app.store.looked and not self.should_exit:
            if step == _SILENT_STEPS:
                self._slow()
            step += 1
            await asyncio.sleep(_STEP_SECONDS)
