"""The ASGI application: routes, limits, and errors as JSON.

``create_app(model)`` runs under any ASGI server; `ftrl serve` runs it under uvicorn. Everything
happens on the event loop, where scoring a request is one short compiled call; files are read
by the store's own thread.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec

from ftrl_engine.errors import DataError
from serving.access_token import AccessToken
from serving.counts import Counts
from serving.feedback import FeedbackRoute
from serving.feedback_link import FeedbackLink
from serving.http import BodyReader, ClientGone, HttpError, Receive, Response, Scope, Send
from serving.metrics import Metrics
from serving.request_values import TooLargeError
from serving.scorer import scorer_of
from serving.server_state import ServerState
from serving.settings import (
    BODY_SECONDS,
    DEFAULT_MAX_BODY,
    DEFAULT_MAX_CANDIDATES,
    DEFAULT_MAX_FIELDS,
    DEFAULT_MAX_OPEN,
    DEFAULT_RELOAD_SECONDS,
    ServeSettings,
)
from serving.store import ModelStore, Served, SnapshotStore

Handler = Callable[[Scope, Receive], Awaitable[Response]]

_LOOK_SECONDS = 0.01
_RETRY = {"retry-after": "1"}
_log = logging.getLogger(__name__)


class ScoreModel(msgspec.Struct):
    """Which model has given the scores of an answer."""

    version: str
    rows: int
    age_seconds: float


class ScoreAnswer(msgspec.Struct):
    """The answer of POST /score."""

    scores: list[float]
    model: ScoreModel


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


class App:
    """The application; ``store`` says which snapshot it serves."""

    def __init__(
        self,
        store: ModelStore,
        bodies: BodyReader,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
        counts: Counts | None = None,
        state: ServerState | None = None,
        token: AccessToken | None = None,
        feedback: Callable[[Metrics], Handler] | None = None,
    ) -> None:
        self.store = store
        self.state = state or ServerState()
        self._bodies, self._token = bodies, token
        self._clock, self._timer = clock, timer
        self._ready_for_requests = False
        self._encode = msgspec.json.Encoder().encode
        self._metrics = Metrics(store, clock, counts, self.state)
        routes: list[tuple[str, str, Handler]] = [
            ("POST", "/score", self._score),
            ("GET", "/healthz", self._health),
            ("GET", "/readyz", self._ready),
            ("GET", "/model", self._model),
            ("GET", "/metrics", self._show_metrics),
        ]
        if feedback is not None:
            routes.append(("POST", "/feedback", feedback(self._metrics)))
        self._routes = {path: (method, handler) for method, path, handler in routes}
        self._metrics.name_routes(list(self._routes))

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
        token = None if settings.token is None else AccessToken(settings.token)

        def feedback(metrics: Metrics) -> Handler:
            assert link is not None
            return FeedbackRoute(scorer_of(settings), store, bodies, link, metrics).answer

        return cls(
            store, bodies, counts=counts, state=state, token=token, feedback=feedback if link else None
        )

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
        path = scope["path"]
        try:
            if self._token is not None:
                self._token.check(scope)
            response = await self._handler(scope["method"], path)(scope, receive)
        except ClientGone:
            return
        except HttpError as error:
            response = Response.error(error)
        except Exception:
            # One request's failure must not end the server.
            _log.exception("%s %s failed", scope["method"], path)
            response = Response.error(HttpError(500, "internal error; the server's log says more"))
        self._metrics.count_request(path if path in self._routes else "other", response.status)
        await response.send(send, head=scope["method"] == "HEAD")

    def _handler(self, method: str, path: str) -> Handler:
        if path not in self._routes:
            raise HttpError(404, f"there is no {path[:200]!r} here; there are {', '.join(self._routes)}")
        allowed, handler = self._routes[path]
        if method == allowed or (method == "HEAD" and allowed == "GET"):
            return handler
        names = "GET, HEAD" if allowed == "GET" else allowed
        raise HttpError(405, f"{path} takes {allowed}, not {method[:20]}", {"allow": names})

    def _served(self) -> Served:
        served = self.store.current
        if served is None:
            waiting = "nothing is published yet; let `ftrl learn` run first"
            why = self.store.error or (waiting if self.store.looked else "the first snapshot is being loaded")
            raise HttpError(503, f"no model in {self.store.model}: {why}", _RETRY)
        return served

    async def _score(self, scope: Scope, receive: Receive) -> Response:
        body = await self._bodies.read(scope, receive)
        started = self._timer()
        served = self._served()
        try:
            scored = served.scorer.score(body)
        except TooLargeError as error:
            raise HttpError(error.status, str(error)) from error
        except DataError as error:
            raise HttpError(400, str(error)) from error
        age = round(served.age(self._clock()), 3)
        answer = ScoreAnswer(scored.scores, ScoreModel(served.version, served.snapshot.rows, age))
        response = Response(self._encode(answer))
        self._metrics.count_scores(scored)
        self._metrics.count_seconds(self._timer() - started)
        return response

    async def _health(self, scope: Scope, receive: Receive) -> Response:
        return Response.json({"status": "ok"})

    async def _ready(self, scope: Scope, receive: Receive) -> Response:
        if self.state.draining:
            raise HttpError(503, "the server is about to end; ask another one", _RETRY)
        served = self._served()
        return Response.json(
            {
                "status": "ready",
                "version": served.version,
                "rows": served.snapshot.rows,
                "age_seconds": round(served.age(self._clock()), 3),
                "reload_error": self.store.error,
                "source": served.snapshot.provenance.get("source"),
            }
            | self.state.parts()
        )

    async def _model(self, scope: Scope, receive: Receive) -> Response:
        served = self._served()
        snapshot = served.snapshot
        return Response.json(
            {
                "version": served.version,
                "rows": snapshot.rows,
                "age_seconds": round(served.age(self._clock()), 3),
                "published_at": served.published_at,
                "learner": snapshot.provenance.get("learner"),
                "metrics": snapshot.provenance.get("metrics"),
                "nonzero_weights": len(snapshot.slots),
                "intercept": snapshot.intercept,
                "bits": snapshot.bits,
                "schema": snapshot.schema.to_dict(),
                "snapshot": str(served.path),
                "snapshot_bytes": served.bytes,
                "reloads": self.store.loads,
                "reload_failures": self.store.failures,
                "reload_error": self.store.error,
            }
        )

    async def _show_metrics(self, scope: Scope, receive: Receive) -> Response:
        body, content_type = self._metrics.text()
        return Response(body, content_type=content_type)
