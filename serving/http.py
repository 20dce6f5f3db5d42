"""HTTP on the level of ASGI: reading bodies within limits, and JSON answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Generator, Mapping, MutableMapping, Sequence
from functools import lru_cache
from http import HTTPStatus
from typing import Any

import msgspec

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Headers = Sequence[tuple[bytes, bytes]]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

JSON = "application/json"
_JSON_HEADER = (b"content-type", b"application/json")
# Of a body over the limit, this much is still read, so that the client gets to read the answer.
_DRAINED_BYTES = 8 << 20
_SWEEP_SECONDS = 0.5
_CLOSE = {"connection": "close"}


class HttpError(Exception):
    """A request that is answered with an error."""

    def __init__(self, status: int, text: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(text)
        self.status = status
        self.headers = headers or {}


class ClientGone(Exception):
    """The client has closed the connection; nobody waits for an answer."""


class Response:
    """An answer; ``headers`` are beside content-type and content-length."""

    __slots__ = ("body", "content_type", "headers", "status")

    def __init__(
        self,
        body: bytes,
        status: int = 200,
        content_type: str = JSON,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.body = body
        self.status = status
        self.content_type = content_type
        self.headers = headers

    @classmethod
    def json(cls, data: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
        return cls(msgspec.json.encode(data), status, JSON, headers)

    @classmethod
    def error(cls, error: HttpError) -> Response:
        return cls.json({"error": str(error)}, error.status, error.headers)

    def start(self) -> Message:
        """The message that begins it."""
        kind = _JSON_HEADER if self.content_type is JSON else (b"content-type", self.content_type.encode())
        headers = [kind, (b"content-length", b"%d" % len(self.body))]
        if self.headers:
            headers += [(name.encode(), value.encode()) for name, value in self.headers.items()]
        return {"type": "http.response.start", "status": self.status, "headers": headers}

    def bytes(self, more: Headers) -> bytes:
        """The whole response as HTTP/1.1 has it, after the server's own headers ``more``.

        The connection is kept.
        """
        assert not self.headers, "what is answered at once has no headers of its own"
        return b"%b%b\r\ncontent-length: %d\r\n\r\n%b" % (
            _head(self.status, tuple(more)), self.content_type.encode(), len(self.body), self.body,
        )  # fmt: skip


@lru_cache(maxsize=16)
def _head(status: int, more: tuple[tuple[bytes, bytes], ...]) -> bytes:
    """The status line, the headers ``more``, which change once a second, and the name of the next one."""
    lines = b"".join(b"%b: %b\r\n" % header for header in more)
    return b"HTTP/1.1 %d %b\r\n%bcontent-type: " % (status, HTTPStatus(status).phrase.encode(), lines)


class _GoingOn(Awaitable[Message]):
    """The rest of a wait whose first step gave ``waiting``."""

    def __init__(self, steps: Any, waiting: Any) -> None:
        self._steps, self._waiting = steps, waiting

    def __await__(self) -> Generator[Any, Any, Message]:
        waiting = self._waiting
        while True:
            # As `yield from` would go on, had it begun.
            try:
                sent = yield waiting
            except BaseException as error:
                step, value = self._steps.throw, error
            else:
                step, value = self._steps.send, sent
            try:
                waiting = step(value)
            except StopIteration as done:
                message: Message = done.value
                return message


async def _there(message: Message) -> Message:
    return message


class BodyReader:
    """Reads bodies: at most ``max_body`` bytes each, ``max_open`` at once, ``seconds`` for each.

    What headers say is never trusted: bytes are counted as they come.
    """

    def __init__(self, max_body: int, max_open: int, seconds: float) -> None:
        self.max_body = max_body
        self._max_open, self._seconds = max_open, seconds
        # When each open read began. One sweep now and then is cheaper than a timer for each.
        self._open: dict[asyncio.Task[Any], float] = {}
        self._expired: set[asyncio.Task[Any]] = set()
        self._sweeping = False

    def _check(self, scope: Scope) -> None:
        """HttpError 413, 415 or 503 where a request's body is not read at all."""
        if len(self._open) >= self._max_open:
            raise HttpError(503, f"{self._max_open} requests are being read; try again", {"retry-after": "1"})
        self._check_headers(scope)

    async def read(self, scope: Scope, receive: Receive) -> bytes:
        """The whole body; HttpError 408, 413, 415 or 503, ClientGone where the connection ends first."""
        self._check(scope)
        # Mostly the whole body is there already, and nothing has to be watched.
        steps = receive().__await__()
        try:
            first: Awaitable[Message] = _GoingOn(steps, next(steps))
        except StopIteration as done:
            message: Message = done.value
            if not message.get("more_body", False) and message["type"] == "http.request":
                body: bytes = message.get("body", b"")
                if len(body) <= self.max_body:
                    return body
            first = _there(message)
        return await self._watched(first, receive)

    async def _watched(self, first: Awaitable[Message], receive: Receive) -> bytes:
        """The body whose first message is ``first``, within the time there is for it."""
        task = asyncio.current_task()
        assert task is not None, "ASGI runs in tasks"
        loop = asyncio.get_running_loop()
        self._open[task] = loop.time()
        if not self._sweeping:
            self._sweeping = True
            loop.call_later(_SWEEP_SECONDS, self._sweep, loop)
        try:
            return await self._read(first, receive)
        except asyncio.CancelledError:
            if task not in self._expired:
                raise
            task.uncancel()
            raise HttpError(
                408, f"the body did not arrive within {self._seconds:g} s; send it faster", _CLOSE
            ) from None
        finally:
            del self._open[task]
            self._expired.discard(task)

    def _check_headers(self, scope: Scope) -> None:
        length, expects = 0, False
        for name, value in scope["headers"]:
            if name == b"content-length":
                length = int(value) if value.isdigit() and len(value) < 20 else 0
            elif name == b"expect":
                expects = True
            elif name == b"content-encoding" and value != b"identity":
                raise HttpError(415, "the body must not be compressed; send it without content-encoding")
        if length > self.max_body and (expects or length > self.max_body + _DRAINED_BYTES):
            # The client has not sent it yet, or too much of it to wait for.
            raise self._too_large()

    async def _read(self, first: Awaitable[Message], receive: Receive) -> bytes:
        pieces: list[bytes] = []
        size = 0
        message = await first
        while True:
            if message["type"] == "http.disconnect":
                raise ClientGone
            piece: bytes = message.get("body", b"")
            size += len(piece)
            more = message.get("more_body", False)
            if size > self.max_body:
                pieces.clear()
                if not more or size > self.max_body + _DRAINED_BYTES:
                    raise self._too_large()
            else:
                pieces.append(piece)
                if not more:
                    return piece if len(pieces) == 1 else b"".join(pieces)
            message = await receive()

    def _too_large(self) -> HttpError:
        return HttpError(413, f"the body is larger than the {self.max_body} bytes allowed; send less", _CLOSE)

    def _sweep(self, loop: asyncio.AbstractEventLoop) -> None:
        """End the reads that have taken too long; look again while there are any."""
        limit = loop.time() - self._seconds
        for task, began in self._open.items():
            if began < limit and task not in self._expired:
                self._expired.add(task)
                task.cancel()
        self._sweeping = bool(self._open)
        if self._sweeping:
            loop.call_later(_SWEEP_SECONDS, self._sweep, loop)
