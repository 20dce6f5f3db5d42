"""The ASGI application: its lifespan, its limits, and errors as JSON.

``create_app(model)`` runs under any ASGI server; `ftrl serve` runs it under uvicorn. Everything
happens on the event loop, where scoring a request is one short compiled call; files are read
by the store's own thread.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import pkgutil
from functools import partial
from pathlib import Path
from types import ModuleType

from ftrl_engine.errors import ConfigError
from serving import explain_route, openapi, probes, protocols, score_route
from serving.http import BodyReader, ClientGone, HttpError, Receive, Response, Scope, Send
from serving.metrics import Metrics
from serving.routes import OTHER, Router
from serving.scorer import DEFAULT_MAX_BODY, DEFAULT_MAX_CANDIDATES, Scorer
from serving.service import Service
from serving.store import DEFAULT_RELOAD_SECONDS, SnapshotStore

# Each gives its routes.
_MODULES = (score_route, explain_route, probes)
# A client has this long to send its body.
BODY_SECONDS = 10.0
# Requests whose bodies are being read at the same time; each may hold max_body bytes.
DEFAULT_MAX_OPEN = 1000
_LOOK_SECONDS = 0.01
_log = logging.getLogger(__name__)


def create_app(
    model: Path | str,
    *,
    reload_seconds: float = DEFAULT_RELOAD_SECONDS,
    max_body: int = DEFAULT_MAX_BODY,
    max_candidates: int = DEFAULT_MAX_CANDIDATES,
    max_open: int = DEFAULT_MAX_OPEN,
    body_seconds: float = BODY_SECONDS,
) -> App:
    """An ASGI application that scores by the newest snapshot in the directory ``model``.

    reload_seconds  how often it looks for a newer one
    max_body        bytes of a request; max_candidates: of a request; max_open: requests being
                    read at once; body_seconds: the time a client has to send one

    ConfigError where a limit breaks its rule or the extra ``serve`` is not installed.
    """
    for name, value, least, most in (
        ("reload_seconds", reload_seconds, 0.01, 86400.0),
        ("max_body", max_body, 2, 1 << 30),
        ("max_candidates", max_candidates, 1, 10_000_000),
        ("max_open", max_open, 1, 1_000_000),
        ("body_seconds", body_seconds, 0.01, 86400.0),
    ):
        if not least <= value <= most:
            raise ConfigError(f"{name} must be between {least} and {most}, got {value!r}")
    make_scorer = partial(Scorer, max_candidates=max_candidates, max_body=max_body)
    store = SnapshotStore(Path(model), reload_seconds, make_scorer)
    return App(Service(store, BodyReader(max_body, max_open, body_seconds)))


def _protocols() -> list[ModuleType]:
    """The protocols that others speak: one a file in serving/protocols."""
    names = sorted(found.name for found in pkgutil.iter_modules(protocols.__path__))
    return [importlib.import_module(f"serving.protocols.{name}") for name in names]


class App:
    """The application; ``store`` says which snapshot it serves."""

    def __init__(self, service: Service) -> None:
        self.store = service.store
        known = [route for module in (*_MODULES, *_protocols()) for route in module.routes(service)]
        self._router = Router([*known, *openapi.routes(service, known)])
        self._metrics = service.metrics = Metrics(service.store, service.clock)
        self._ready_for_requests = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        elif scope["type"] == "websocket":
            # The protocol asks for an answer; there is nothing here to connect to.
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if not self.store.started:
                    await self._first_look()
                self._ready_for_requests = True
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await asyncio.to_thread(self.store.stop)
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _first_look(self) -> None:
        """Follow the model, and wait until a snapshot that is there is served."""
        self.store.start()
        while not self.store.looked:
            await asyncio.sleep(_LOOK_SECONDS)

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        if not self._ready_for_requests:
            # The server at hand knows no lifespan.
            await self._first_look()
            self._ready_for_requests = True
        route, method = OTHER, scope["method"]
        try:
            endpoint = self._router.find(scope)
            route = endpoint.path
            response = await endpoint.handler(method)(scope, receive)
        except ClientGone:
            return
        except HttpError as error:
            response = Response.error(error)
        except Exception:
            # One request's failure must not end the server.
            _log.exception("%s %s failed", method, scope["path"])
            response = Response.error(HttpError(500, "internal error; the server's log says more"))
        self._metrics.count_request(route, response.status)
        await response.send(send, head=method == "HEAD")
