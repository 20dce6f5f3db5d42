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

from serving import explain_route, feedback, openapi, page, probes, protocols, score_route, statistics_route
from serving.access_token import AccessToken
from serving.counts import Counts
from serving.feedback_link import FeedbackLink
from serving.http import BodyReader, ClientGone, Headers, HttpError, Receive, Response, Scope, Send
from serving.metrics import Metrics
from serving.routes import OTHER, Answer, Router
from serving.scorer import scorer_of
from serving.server_state import ServerState
from serving.service import Service
from serving.settings import (
    BODY_SECONDS,
    DEFAULT_MAX_BODY,
    DEFAULT_MAX_CANDIDATES,
    DEFAULT_MAX_FIELDS,
    DEFAULT_MAX_OPEN,
    DEFAULT_RELOAD_SECONDS,
    ServeSettings,
)
from serving.store import ModelStore, SnapshotStore

# Each gives its routes.
_MODULES = (score_route, explain_route, feedback, probes, statistics_route, page)
_LOOK_SECONDS = 0.01
_log = logging.getLogger(__name__)


def create_app(
    model: Path | str,
    *,
    reload_seconds: float = DEFAULT_RELOAD_SECONDS,
    max_body: int = DEFAULT_MAX_BODY,
    max_candidates: int = DEFAULT_MAX_CANDIDATES,
    max_fields: int = DEFAULT_MAX_FIELDS,
    max_open: int = DEFAULT_MAX_OPEN,
    body_seconds: float = BODY_SECONDS,
    token: str | None = None,
) -> App:
    """An ASGI application that scores by the newest snapshot in the directory ``model``.

    reload_seconds  how often it looks for a newer one
    max_body        bytes of a request; max_candidates: of a request; max_fields: of its context
                    and of each candidate; max_open: requests being read at once; body_seconds:
                    the time a client has to send one
    token           what clients must show as bearer token; None: nothing

    ConfigError where a limit breaks its rule or the extra ``serve`` is not installed.
    """
    settings = ServeSettings(
        model=str(model),
        reload_seconds=reload_seconds,
        max_body=max_body,
        max_candidates=max_candidates,
        max_fields=max_fields,
        max_open=max_open,
        body_seconds=body_seconds,
        token=token,
    )
    settings.check()
    return App.of(settings, SnapshotStore(Path(model), reload_seconds, scorer_of(settings)))


def _protocols() -> list[ModuleType]:
    """The protocols that others speak: one a file in serving/protocols."""
    names = sorted(found.name for found in pkgutil.iter_modules(protocols.__path__))
    return [importlib.import_module(f"serving.protocols.{name}") for name in names]


class App:
    """The application; ``store`` says which snapshot it serves."""

    def __init__(
        self, service: Service, token: AccessToken | None = None, counts: Counts | None = None
    ) -> None:
        self.store, self.state = service.store, service.state
        self._token = token
        known = [route for module in (*_MODULES, *_protocols()) for route in module.routes(service)]
        absent = {feedback.PATH: feedback.HOW_TO_HAVE_IT} if service.link is None else {}
        self._router = Router([*known, *openapi.routes(service, known, token is not None)], absent)
        self._plain = self._router.plain
        # By method and path as they are sent.
        self.at_once = {
            (route.method.encode(), route.path.encode()): partial(
                self._answer_at_once, route.path, route.at_once
            )
            for route in known
            if route.at_once
        }
        self._max_body = service.max_body
        self._metrics = service.metrics = Metrics(service.store, service.clock, counts, service.state)
        self._metrics.name_routes(list(self._router.endpoints))
        self._history = service.history
        self._ready_for_requests = False

    @classmethod
    def of(
        cls,
        settings: ServeSettings,
        store: ModelStore,
        counts: Counts | None = None,
        state: ServerState | None = None,
        link: FeedbackLink | None = None,
    ) -> App:
        """The application with these settings; feedback goes to ``link``."""
        bodies = BodyReader(settings.max_body, settings.max_open, settings.body_seconds)
        service = Service(store, bodies, scorer_of(settings), state=state, link=link)
        return cls(service, None if settings.token is None else AccessToken(settings.token), counts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._other_than_http(scope, receive, send)
            return
        if not self._ready_for_requests:
            # The server at hand knows no lifespan.
            await self._first_look()
            self._begin()
        route, method = OTHER, scope["method"]
        try:
            if self._token is not None:
                self._token.check(scope["path"], scope["headers"])
            endpoint = self._plain.get(scope["path"]) or self._router.find(scope)
            route = endpoint.path
            handler = endpoint.methods.get(method) or endpoint.handler(method)
            response = await handler(scope, receive)
        except ClientGone:
            return
        except HttpError as error:
            response = Response.error(error)
        except Exception:
            # One request's failure must not end the server.
            _log.exception("%s %s failed", method, scope["path"])
            response = Response.error(HttpError(500, "internal error; the server's log says more"))
        self._metrics.count_request(route, response.status)
        await send(response.start())
        await send({"type": "http.response.body", "body": b"" if method == "HEAD" else response.body})

    def _answer_at_once(self, path: str, answer: Answer, headers: Headers, body: bytes) -> Response | None:
        """The response to a request whose whole body is there as it is; None: call the application.

        A server that has a request of :attr:`at_once` as a whole asks here first, which spares it a task, two
        messages and their answers. What ends the connection or asks to come back is left to the
        application, and so must be what has a header that says something of the body or the connection.
        """
        if len(body) > self._max_body or not self._ready_for_requests:
            return None
        try:
            if self._token is not None:
                self._token.check(path, headers)
            response = answer(body)
        except HttpError as error:
            if error.headers:
                return None
            response = Response.error(error)
        except Exception:
            return None  # the application says what is wrong
        self._metrics.count_request(path, response.status)
        return response

    def count_refusal(self, status: int) -> None:
        """An answer that the server gives itself, to what is no request yet."""
        self._metrics.count_request(OTHER, status)

    async def _other_than_http(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        elif scope["type"] == "websocket":
            # The protocol asks for an answer; there is nothing here to connect to.
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                if not self.store.started:
                    await self._first_look()
                self._begin()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                self._history.stop()
                await asyncio.to_thread(self.store.stop)
                await send({"type": "lifespan.shutdown.complete"})
                return

    def _begin(self) -> None:
        self._ready_for_requests = True
        self._history.start()

    async def _first_look(self) -> None:
        """Follow the model, and wait until a snapshot that is there is served."""
        self.store.start()
        while not self.store.looked:
            await asyncio.sleep(_LOOK_SECONDS)
