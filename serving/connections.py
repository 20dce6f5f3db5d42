"""Limits on connections: the bytes and the time of a request's head, and how many connections there are.

uvicorn has none of them. A head is limited as its bytes come; the time is looked at twice a second
over all connections, which costs requests nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from time import perf_counter
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple

import msgspec
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from serving.http import Headers, Response, Scope

_log = logging.getLogger(__name__)
_SWEEP_SECONDS = 0.5
# A client that does not read its answer is let go after so long.
STALLED_SECONDS = 60.0
# Of requests that came in one piece, no other one is answered at once when so long was spent on them.
AT_ONCE_SECONDS = 0.005
_PHRASES = {
    400: "Bad Request", 408: "Request Timeout", 431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}  # fmt: skip
# Heads of requests answered at once that are remembered, and how long one may be, in bytes and header lines.
_MOST_HEADS, _LONGEST_HEAD, _MOST_LINES = 256, 2048, 32
# What the parts of a head hold beside their names and values.
_REQUEST_LINE, _FIELD_LINE = len("  HTTP/1.1\r\n"), len(": \r\n")
# A request with such a header is not answered at once.
_SPECIAL = frozenset((b"content-encoding", b"expect", b"upgrade"))
_HEAD_END, _CONTINUE = b"\r\n\r\n", b"HTTP/1.1 100"
_Base: Any = AutoHTTPProtocol
NOTHING: Mapping[Any, Any] = MappingProxyType({})
AtOnce = Mapping[tuple[bytes, bytes], Callable[[Headers, bytes], Response | None]]


class _Head(NamedTuple):
    """What the bytes of a head mean: whom to ask for the answer, and how long the body is."""

    ask: Callable[[Headers, bytes], Response | None]
    headers: list[tuple[bytes, bytes]]
    body_bytes: int


class LimitedProtocol(_Base):  # type: ignore[misc]
    """uvicorn's protocol within limits; :func:`limited` sets them.

    A request that came as a whole is answered where it is received, if one of ``at_once`` gives a response.
    uvicorn is told of the others only, so it makes no cycle, event and timer for each of the many. Clients
    send the same head again and again, so what it means is remembered instead of parsed each time.
    """

    max_header: ClassVar[int]
    max_connections: ClassVar[int]
    count: ClassVar[Callable[[int], None]]
    at_once: ClassVar[AtOnce]
    outbox: ClassVar[Outbox]
    heads: ClassVar[dict[bytes, _Head]]
    met_once: ClassVar[set[int]]

    def connection_made(self, transport: Any) -> None:
        super().connection_made(Joined(transport, self.outbox))
        self._head = 0  # bytes that came of a head whose end did not
        self._may_be_large = False
        self._held: list[bytes] | None = None  # the body of a request that uvicorn does not know of
        self._turned_down = False  # the request that the bytes at hand are
        self._began, self._another = 0.0, False  # of the bytes at hand; a request of them was answered
        self.answered: Scope | None = None  # the last request that it was not told of
        if len(self.connections) > self.max_connections:
            refuse(self, 503, f"{self.max_connections} connections are open; try again")

    def data_received(self, data: bytes) -> None:
        self._turned_down = False
        begins = self.answered is self.scope  # the parser has met the end of a request, or nothing yet
        if begins and self._answer_known(data):
            return
        before = self.scope
        self._began, self._another = perf_counter(), False
        self._may_be_large = self._head + len(data) > self.max_header
        super().data_received(data)
        if self._held is not None:
            self._tell(self._held)  # the rest of its body is still to come
        if (self._another and self.answered is self.scope) or not in_head(self):
            self._head = 0
            if begins and self._another:
                self._remember(data)
            return
        # What came with the end of an earlier request is mostly that: its bytes are not counted.
        idle = self.cycle is None and self.answered is None
        self._head = self._head + len(data) if idle or self.scope is before else 0
        if self._head > self.max_header:
            self._refuse_head()

    def on_message_begin(self) -> None:
        # What uvicorn begins with is made when it is told.
        self.url, self._plain = b"", True
        self.headers: list[tuple[bytes, bytes]] = []
        self.scope: Scope = {}  # a mark, for uvicorn makes its own

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in _SPECIAL:
            self._plain = False
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        if self._may_be_large and head_bytes(self) > self.max_header:
            self._refuse_head()
            raise ValueError("the head is too large")  # which ends the parser, before there is a request
        parser, cycle = self.parser, self.cycle
        self._ask: Any = self.at_once.get((parser.get_method(), self.url))
        if (
            self._ask is None
            or self._turned_down
            or not self._plain
            or not (cycle is None or cycle.response_complete)
            or not parser.should_keep_alive()
            or parser.get_http_version() != "1.1"
        ):
            self._tell([])
        else:
            self._held = []

    def on_body(self, body: bytes) -> None:
        if self._held is None:
            super().on_body(body)
        else:
            self._held.append(body)

    def on_message_complete(self) -> None:
        pieces = self._held
        if pieces is None:
            super().on_message_complete()
        elif not self._answer(pieces[0] if len(pieces) == 1 else b"".join(pieces)):
            self._tell(pieces)
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        refuse(self, 400, "this is no HTTP request")

    def _refuse_head(self) -> None:
        refuse(self, 431, f"the request line and headers are larger than {self.max_header} bytes")

    def _tell(self, pieces: list[bytes]) -> None:
        """Go on as uvicorn would have begun."""
        url, headers, self._held = self.url, self.headers, None
        super().on_message_begin()
        super().on_url(url)
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()
        for piece in pieces:
            super().on_body(piece)

    def _answer_known(self, data: bytes) -> bool:
        """Answer a request that begins with a head which was parsed before, if that is all there is."""
        end = data.find(_HEAD_END) + len(_HEAD_END)
        known = self.heads.get(data[:end])
        if known is None or len(data) - end != known.body_bytes:
            return False
        if self.flow.write_paused or self.transport.is_closing():
            return False
        response = known.ask(known.headers, data[end:])
        if response is None:
            self._turned_down = True  # it is not asked again
            return False
        self._head = 0
        self.scope = self.answered = {}
        self.server_state.total_requests += 1
        self.transport.write_soon(response.bytes(self.server_state.default_headers))
        return True

    def _remember(self, data: bytes) -> None:
        """Keep what the head means, where ``data`` was one request that was answered, and nothing else.

        It must be met twice: heads that differ each time, with the number of a request, are not kept.
        """
        end = data.find(_HEAD_END) + len(_HEAD_END)
        # The body was neither in pieces nor followed by anything.
        if self.answered is not self.scope or len(data) - end != self._body_bytes:
            return
        if end > _LONGEST_HEAD or len(self.headers) > _MOST_LINES:
            return
        head = data[:end]
        mark = hash(head)
        for full in (self.met_once, self.heads):
            if len(full) >= _MOST_HEADS:
                full.clear()
        if mark in self.met_once:
            self.met_once.remove(mark)
            self.heads[head] = _Head(self._ask, self.headers, self._body_bytes)
        else:
            self.met_once.add(mark)

    def _answer(self, body: bytes) -> bool:
        """Answer the request at hand, whose body is whole, if that needs no waiting."""
        if self.flow.write_paused or self.transport.is_closing():
            return False
        if self._another and perf_counter() - self._began > AT_ONCE_SECONDS:
            return False  # others wait: uvicorn takes turns
        response = self._ask(self.headers, body)
        if response is None:
            return False
        self._held, self._another = None, True
        self._body_bytes = len(body)
        self.answered = self.scope
        self.server_state.total_requests += 1
        self.transport.write_soon(response.bytes(self.server_state.default_headers))
        return True

    def on_response_complete(self) -> None:
        self.transport.flush()  # a head without a body
        super().on_response_complete()


class Outbox:
    """Transports that hold something to send, until all that has arrived is answered.

    A client on another core is woken by the first write; if the others follow in a row, it is awake
    and they cost half.
    """

    def __init__(self) -> None:
        self._waiting: list[Joined] = []

    def add(self, transport: Joined) -> None:
        """Have the event loop flush it when it has called all who had something to read."""
        if not self._waiting:
            asyncio.get_running_loop().call_soon(self._flush)
        self._waiting.append(transport)

    def _flush(self) -> None:
        waiting, self._waiting = self._waiting, []
        for transport in waiting:
            try:
                transport.flush()
            except Exception:
                # The others must not wait for ever.
                _log.exception("an answer could not be sent")
                transport.abort()


class Joined:
    """A transport that sends the head of a response with its body: one system call instead of two.

    An ASGI server writes the two one after the other; each write of a few hundred bytes costs more
    than scoring a request.
    """

    __slots__ = ("_held", "_outbox", "_transport", "_write", "is_closing")

    def __init__(self, transport: Any, outbox: Outbox) -> None:
        self._transport, self._outbox = transport, outbox
        self._write = transport.write
        self.is_closing = transport.is_closing
        self._held = b""

    def write(self, data: bytes) -> None:
        if self._held:
            data, self._held = self._held + data, b""
        elif data.endswith(_HEAD_END) and not data.startswith(_CONTINUE):
            self._held = data
            return
        self._write(data)

    def write_soon(self, data: bytes) -> None:
        """Send with what others have to send now; nothing that is written later overtakes it."""
        if not self._held:
            self._outbox.add(self)
        self._held += data

    def flush(self) -> None:
        """Send what is held."""
        if self._held:
            data, self._held = self._held, b""
            self._write(data)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def in_head(protocol: Any) -> bool:
    """Whether a connection waits for its first request, or has sent a part of a request's head."""
    scope, cycle = protocol.scope, protocol.cycle
    if cycle is not None and cycle.scope is scope:
        return False
    return scope is None or protocol.answered is not scope


def is_idle(protocol: Any) -> bool:
    """Whether a connection waits for another request than its first."""
    return protocol.answered is not None and protocol.answered is protocol.scope


def head_bytes(protocol: Any) -> int:
    """The size of the head that was read last, without its blank line and the space around values."""
    line = len(protocol.parser.get_method()) + len(protocol.url) + _REQUEST_LINE
    return line + sum(len(name) + len(value) + _FIELD_LINE for name, value in protocol.headers)


def limited(
    max_header: int,
    max_connections: int,
    count: Callable[[int], None],
    at_once: AtOnce = NOTHING,
) -> type[asyncio.Protocol]:
    """The protocol class with these limits.

    count    is told the status of every answer that :func:`refuse` gives
    at_once  has by method and path what is asked for a response to a whole request
    """
    names: dict[str, Any] = {"max_header": max_header, "max_connections": max_connections}
    names |= {"count": staticmethod(count), "outbox": Outbox(), "at_once": at_once, "heads": {}}
    names["met_once"] = set()
    return type("LimitedProtocol", (LimitedProtocol,), names)


def refuse(protocol: Any, status: int, text: str) -> None:
    """Answer with an error, as JSON, and close; counted as any other answer."""
    if protocol.transport.is_closing():
        return
    protocol.count(status)
    body = msgspec.json.encode({"error": text})
    retry = "retry-after: 1\r\n" if status == 503 else ""
    head = (
        f"HTTP/1.1 {status} {_PHRASES[status]}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(body)}\r\n{retry}connection: close\r\n\r\n"
    )
    protocol.transport.write(head.encode() + body)
    protocol.transport.close()


class Sweeper:
    """Lets connections go that take too long; looks at them while :meth:`run` runs."""

    def __init__(self, connections: set[Any], header_seconds: float, idle_seconds: float) -> None:
        self._connections = connections
        self._header_seconds, self._idle_seconds = header_seconds, idle_seconds
        # What each connection was seen waiting for, and since when.
        self._waiting: dict[Any, tuple[object, float]] = {}

    async def run(self) -> None:
        """Sweep until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(min(_SWEEP_SECONDS, self._header_seconds))
            self.sweep(loop.time())

    def sweep(self, now: float) -> None:
        """End what has been the same for too long at the time ``now``, in seconds."""
        waiting: dict[Any, tuple[object, float]] = {}
        for protocol in list(self._connections):
            what = self._what(protocol)
            if what is None:
                continue
            known = self._waiting.get(protocol)
            same = known is not None and known[0] is what
            since = known[1] if known is not None and same else now
            waiting[protocol] = (what, since)
            self._end(protocol, what, now - since)
        self._waiting = waiting

    def _end(self, protocol: Any, what: Any, seconds: float) -> None:
        """End a connection that has been waiting for ``what`` for too long."""
        if what is protocol.transport:
            if seconds >= STALLED_SECONDS:
                what.abort()
        elif is_idle(protocol):
            if seconds >= self._idle_seconds:
                protocol.transport.close()
        elif seconds >= self._header_seconds:
            refuse(protocol, 408, f"no request within {self._header_seconds:g} s; send it faster")

    @staticmethod
    def _what(protocol: Any) -> object:
        """What a connection waits for, the same object for as long as it is the same; None: nothing."""
        if protocol.transport.is_closing() or protocol.flow.write_paused:
            return protocol.transport
        if is_idle(protocol) or in_head(protocol):
            return protocol.scope if protocol.scope is not None else protocol
        return None
