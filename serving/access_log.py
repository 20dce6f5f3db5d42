"""AccessLog: one JSON line on standard error for each answered request."""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

import msgspec

from serving.http import Message, Receive, Scope, Send

STDERR = 2
_SHOWN = 1000
Application = Callable[[Scope, Receive, Send], Awaitable[None]]


class AccessLog:
    """An ASGI application around another one.

    A line has time, pid, client, method, path (without the query), status, bytes and seconds; no
    header and no body is ever written. One write a line, so lines of several workers do not mix.
    """

    def __init__(self, app: Application, descriptor: int = STDERR) -> None:
        self._app = app
        self._descriptor = descriptor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        status, size = 0, 0

        async def note(message: Message) -> None:
            nonlocal status, size
            if message["type"] == "http.response.start":
                status = message["status"]
            else:
                size += len(message.get("body", b""))
            await send(message)

        try:
            await self._app(scope, receive, note)
        finally:
            self._write(scope, status, size, time.perf_counter() - began)

    def _write(self, scope: Scope, status: int, size: int, seconds: float) -> None:
        client = scope.get("client")
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "pid": os.getpid(),
            "client": f"{client[0]}:{client[1]}" if client else None,
            "method": scope["method"],
            "path": scope["path"][:_SHOWN],
            "status": status,  # 0: the client was gone before an answer
            "bytes": size,
            "seconds": round(seconds, 6),
        }
        try:
            os.write(self._descriptor, msgspec.json.encode(line) + b"\n")
        except OSError:
            return  # nobody reads the log, which is no reason to fail a request
