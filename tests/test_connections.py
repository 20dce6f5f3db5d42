"""The protocol under `ftrl serve`: what is answered at once, what uvicorn is told of, idle connections."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
import uvicorn
from hypothesis import example, given
from hypothesis import strategies as st
from uvicorn.server import ServerState

from serving import connections
from serving.connections import (
    AT_ONCE_SECONDS,
    STALLED_SECONDS,
    Joined,
    Outbox,
    Sweeper,
    in_head,
    is_idle,
    limited,
)
from serving.http import Headers, Receive, Response, Scope, Send

MAX_HEADER, HEADER_SECONDS, IDLE_SECONDS = 4096, 5.0, 75.0
HOT = (b"POST", b"/score")


class Transport:
    """What a transport is asked for, with what was sent."""

    def __init__(self) -> None:
        self.sent = b""
        self.closed = self.aborted = False

    def write(self, data: bytes) -> None:
        assert not self.closed
        self.sent += data

    def close(self) -> None:
        self.closed = True

    def abort(self) -> None:
        self.aborted = True

    def is_closing(self) -> bool:
        return self.closed

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return {"peername": ("127.0.0.1", 1), "sockname": ("127.0.0.1", 2)}.get(name, default)

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...


def answer_at_once(headers: Headers, body: bytes) -> Response | None:
    assert (b"host", b"x") in headers
    return None if body.startswith(b"no") else Response(json.dumps(["at once", body.decode()]).encode())


async def application(scope: Scope, receive: Receive, send: Send) -> None:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    answer = json.dumps(["the application", scope["path"], body.decode()]).encode()
    length = [(b"content-length", str(len(answer)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": length})
    await send({"type": "http.response.body", "body": answer})


def protocol_of(
    at_once: Any = answer_at_once, refused: Callable[[int], None] = print
) -> tuple[Any, Transport]:
    kind = limited(MAX_HEADER, 10, refused, {HOT: at_once})
    config = uvicorn.Config(application, http=kind, lifespan="off", log_config=None, access_log=False)
    config.load()
    protocol: Any = kind(config=config, server_state=ServerState(), app_state={})  # type: ignore[call-arg]
    transport = Transport()
    protocol.connection_made(transport)
    return protocol, transport


def request(body: bytes, path: str = "/score", version: str = "1.1", headers: str = "") -> bytes:
    return (
        f"POST {path} HTTP/{version}\r\nHost: x\r\n{headers}Content-Length: {len(body)}\r\n\r\n".encode()
        + body
    )


async def quiet() -> None:
    """Let everything run that can."""
    for _ in range(30):
        await asyncio.sleep(0)


def bodies(sent: bytes) -> list[Any]:
    found = []
    while sent:
        head, _, sent = sent.partition(b"\r\n\r\n")
        lengths = [
            int(line[15:]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")
        ]
        found.append(json.loads(sent[: lengths[0]]))
        sent = sent[lengths[0] :]
    return found


def test_a_refusal_is_an_answer_too() -> None:
    async def run() -> None:
        protocol, transport = protocol_of(lambda scope, body: Response(b'{"error": "no"}', 413))
        protocol.data_received(request(b"a"))
        await quiet()
        assert transport.sent.startswith(b"HTTP/1.1 413 ")
        assert bodies(transport.sent) == [{"error": "no"}]
        assert not transport.closed

    asyncio.run(run())


def test_a_whole_request_is_answered_where_it_is_received() -> None:
    async def run() -> None:
        protocol, transport = protocol_of()
        for number in range(3):
            assert in_head(protocol) is (number == 0)
            protocol.data_received(request(b"a%d" % number))
            assert protocol.cycle is None, "uvicorn is not told"
            assert is_idle(protocol)
            assert not in_head(protocol)
        assert transport.sent == b"", "answers are sent in a row"
        await quiet()
        assert bodies(transport.sent) == [["at once", f"a{number}"] for number in range(3)]
        assert protocol.server_state.total_requests == 3
        assert transport.sent.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"content-type: application/json\r\n" in transport.sent

    asyncio.run(run())


@pytest.mark.parametrize(
    ("data", "told", "closes"),
    [
        (request(b"no answer"), "/score no answer", False),
        (request(b"a", path="/other"), "/other a", False),
        (request(b"a", path="/score?x=1"), "/score a", False),
        (request(b"a", headers="Connection: close\r\n"), "/score a", True),
        (request(b"a", version="1.0"), "/score a", True),
        (request(b"a").replace(b"POST", b"PUT"), "/score a", False),
        (request(b"a", headers="Content-Encoding: gzip\r\n"), "/score a", False),
        (request(b"a", headers="EXPECT: 100-continue\r\n"), "/score a", False),
        (request(b"", headers="Connection: upgrade\r\nUpgrade: h2c\r\n"), "/score ", False),
    ],
)
def test_uvicorn_is_told_of_the_others(data: bytes, told: str, closes: bool) -> None:
    async def run() -> None:
        protocol, transport = protocol_of()
        protocol.data_received(data)
        await quiet()
        sent = transport.sent.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
        assert (sent != transport.sent) is (b"EXPECT" in data)
        assert bodies(sent) == [["the application", *told.split(" ", 1)]]
        assert transport.closed is closes

    asyncio.run(run())


kinds = st.sampled_from(["at once", "no", "other", "1.1 keep-alive"])


@given(st.lists(kinds, min_size=1, max_size=6), st.lists(st.integers(1, 600), max_size=6), st.booleans())
def test_answers_come_in_order_however_the_bytes_come(asked: list[str], cuts: list[int], waits: bool) -> None:
    """Cut anywhere and pipelined; each request gets its own answer."""
    made = {
        "at once": lambda n: request(b"a%d" % n + b"." * 40 * n),
        "no": lambda n: request(b"no%d" % n),
        "other": lambda n: request(b"o%d" % n, path="/other"),
        "1.1 keep-alive": lambda n: request(b"k%d" % n, headers="Connection: keep-alive\r\n"),
    }
    data = b"".join(made[kind](number) for number, kind in enumerate(asked))

    async def run() -> list[Any]:
        protocol, transport = protocol_of()
        rest = data
        for cut in cuts:
            piece, rest = rest[:cut], rest[cut:]
            if piece:
                protocol.data_received(piece)
            if waits:
                await quiet()
        if rest:
            protocol.data_received(rest)
        await quiet()
        assert not transport.closed
        return bodies(transport.sent)

    answers = asyncio.run(run())
    starts = {"at once": "a", "no": "no", "other": "o", "1.1 keep-alive": "k"}
    assert [answer[-1].rstrip(".") for answer in answers] == [f"{starts[k]}{n}" for n, k in enumerate(asked)]


class NeverKnown(dict[bytes, Any]):
    """Heads that are forgotten at once."""

    def __setitem__(self, head: bytes, meaning: Any) -> None: ...


CHUNKED = b"POST /score HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
PIECES = [
    request(b"aa"),
    request(b"bb"),
    request(b"no"),
    request(b"aa", headers="X: y\r\n"),
    request(b"aa", path="/other"),
    request(b"aa", version="1.0"),
    request(b"aa", headers="Connection: close\r\n"),
    CHUNKED + b"2\r\naa\r\n0\r\n\r\n",
    CHUNKED + b"2\r\naa\r\n0\r\nX: trailer\r\n\r\n",
    CHUNKED + b"2\r",
    b"GET /score HTTP/1.1\r\nHost: x\r\n\r\n",
    b"POST /score HTTP/1.1\r\nHost: x\r\n\r\n",
    request(b"aa") + b"\r\n",
    b"\r\n" + request(b"aa"),
    b"\r\n",
    request(b"aa")[:-1],
    request(b"aa") + b"a",
    b"a",
    request(b"aa") + request(b"bb"),
    request(b"aa")[:20],
    request(b"aa")[20:],
    request(b"POST /score HTTP/1.1\r\n\r\n"),
    request(b"aa", headers="X: %s\r\n" % ("x" * 2100)),
]


@given(st.lists(st.sampled_from(PIECES) | st.sampled_from(PIECES[:4]), max_size=16), st.booleans())
@example([*2 * [CHUNKED + b"2\r\naa\r\n0\r\n\r\n"], CHUNKED + b"2\r"], False)
@example([*2 * [request(b"aa") + request(b"ccc", headers="X: y\r\n")], request(b"aa") + b"a"], False)
def test_a_head_means_the_same_when_it_is_known(pieces: list[bytes], waits: bool) -> None:
    """Whole requests, parts of some and what is none: as if each head were parsed.

    The clock stands still: with it, a pause of the machine decides which of two requests is answered at once.
    """

    async def talk(known: bool) -> tuple[bytes, bool, int, int]:
        protocol, transport = protocol_of()
        if not known:
            type(protocol).heads = NeverKnown()
        for piece in pieces:
            if transport.closed:
                break
            protocol.data_received(piece)
            if waits:
                await quiet()
        await quiet()
        again = 0 if protocol.answered is None else id(protocol.answered) == id(protocol.scope)
        return transport.sent, transport.closed, protocol.server_state.total_requests, again

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(connections, "perf_counter", lambda: 0.0)
        assert asyncio.run(talk(True)) == asyncio.run(talk(False))


def test_a_head_that_was_met_before_is_not_parsed_again() -> None:
    async def run() -> None:
        protocol, transport = protocol_of()
        protocol.data_received(request(b"aa"))
        protocol.data_received(request(b"aa"))
        parser, protocol.parser = protocol.parser, None
        protocol.data_received(request(b"bb"))
        protocol.parser = parser
        protocol.data_received(request(b"no"))
        protocol.data_received(request(b"c" * 5000))
        await quiet()
        answers = [answer[-1] for answer in bodies(transport.sent)]
        assert answers == ["aa", "aa", "bb", "no", "c" * 5000]
        # Another connection knows it, too.
        other: Any = type(protocol)(config=protocol.config, server_state=ServerState(), app_state={})
        other.connection_made(Transport())
        other.parser = None
        other.data_received(request(b"dd"))
        assert other.server_state.total_requests == 1
        assert is_idle(other)

    asyncio.run(run())


def test_a_request_that_is_turned_down_is_asked_for_once() -> None:
    asked: list[bytes] = []

    def answer(headers: Headers, body: bytes) -> Response | None:
        asked.append(body)
        return answer_at_once(headers, body)

    async def run() -> None:
        protocol, transport = protocol_of(answer)
        for body in (b"aa", b"aa", b"no", b"no", b"bb"):
            protocol.data_received(request(body))
            await quiet()
        assert [answer[-1] for answer in bodies(transport.sent)] == ["aa", "aa", "no", "no", "bb"]
        assert asked == [b"aa", b"aa", b"no", b"no", b"bb"]

    asyncio.run(run())


def test_heads_are_remembered_within_bounds() -> None:
    async def run() -> None:
        protocol, _ = protocol_of()
        for number in range(2000):
            protocol.data_received(request(b"aa", headers=f"X: {number}\r\n"))
        assert not protocol.heads, "none of them came twice"
        assert len(protocol.met_once) <= 256
        for number in range(2000):
            for _ in range(2):
                protocol.data_received(request(b"aa", headers=f"X: {number}\r\n"))
        for headers in ("X: %s\r\n" % ("x" * 2100), "a:\r\n" * 40):
            for _ in range(3):
                protocol.data_received(request(b"aa", headers=headers))
        assert 0 < len(protocol.heads) <= 256
        assert max(map(len, protocol.heads)) < 200

    asyncio.run(run())


def test_blank_lines_before_a_known_head_do_not_count_for_the_next_one() -> None:
    async def run() -> None:
        protocol, transport = protocol_of()
        for _ in range(2):
            protocol.data_received(request(b"aa"))
        protocol.data_received(b"\r\n" * 500)
        protocol.data_received(request(b"aa"))
        protocol.data_received(request(b"aa", headers="a:1\r\n" * 780))
        await quiet()
        assert not transport.closed
        assert len(bodies(transport.sent)) == 4

    asyncio.run(run())


def test_dear_requests_in_one_piece_let_others_in_between() -> None:
    asked: list[bytes] = []

    def slow(headers: Headers, body: bytes) -> Response | None:
        asked.append(body)
        time.sleep(2 * AT_ONCE_SECONDS)
        return answer_at_once(headers, body)

    async def run() -> None:
        protocol, transport = protocol_of(slow)
        protocol.data_received(b"".join(request(b"a%d" % number) for number in range(50)))
        assert asked == [b"a0"], "uvicorn has the others"
        for _ in range(50):
            await quiet()
        assert [answer[-1].split()[-1] for answer in bodies(transport.sent)] == [f"a{n}" for n in range(50)]
        # What comes later is answered at once again.
        protocol.data_received(request(b"later"))
        await quiet()
        assert bodies(transport.sent)[-1] == ["at once", "later"]

    asyncio.run(run())


def test_an_answer_that_cannot_be_sent_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(Transport):
        def write(self, data: bytes) -> None:
            raise OSError("this connection is broken")

    async def run() -> None:
        outbox = Outbox()
        broken, whole = Broken(), Transport()
        for number in range(2):
            for transport in (broken, whole):
                Joined(transport, outbox).write_soon(b"%d" % number)
            await quiet()
        assert whole.sent == b"01"
        assert broken.aborted

    asyncio.run(run())
    assert "could not be sent" in caplog.text


def test_what_is_held_is_sent_before_the_end() -> None:
    async def run() -> None:
        protocol, transport = protocol_of()
        protocol.data_received(request(b"a"))
        protocol.shutdown()
        assert transport.closed
        assert bodies(transport.sent) == [["at once", "a"]]

    asyncio.run(run())


def test_who_waits_for_too_long_is_let_go() -> None:
    async def run() -> None:
        refused: list[int] = []
        told: dict[str, tuple[Any, Transport]] = {}
        for name in ("silent", "in the head", "idle", "idle after uvicorn", "stalled"):
            told[name] = protocol_of(refused=refused.append)
        told["in the head"][0].data_received(b"POST /score HTTP/1.1\r\n")
        told["idle"][0].data_received(request(b"a"))
        told["idle after uvicorn"][0].data_received(request(b"no"))
        told["stalled"][0].data_received(request(b"a"))
        told["stalled"][0].pause_writing()
        await quiet()
        sweeper = Sweeper({protocol for protocol, _ in told.values()}, HEADER_SECONDS, IDLE_SECONDS)

        def gone() -> set[str]:
            return {name for name, (_, transport) in told.items() if transport.closed or transport.aborted}

        sweeper.sweep(0.0)
        sweeper.sweep(HEADER_SECONDS - 0.1)
        assert gone() == set()
        sweeper.sweep(HEADER_SECONDS)
        assert gone() == {"silent", "in the head"}
        assert refused == [408, 408]
        sweeper.sweep(STALLED_SECONDS)
        assert gone() == {"silent", "in the head", "stalled"}
        sweeper.sweep(IDLE_SECONDS - 0.1)
        assert "idle" not in gone()
        told["idle"][0].data_received(request(b"another"))
        sweeper.sweep(IDLE_SECONDS)
        sweeper.sweep(2 * IDLE_SECONDS - 0.2)
        assert "idle" not in gone()
        sweeper.sweep(2 * IDLE_SECONDS)
        assert "idle" in gone()
        assert "idle after uvicorn" not in gone(), "uvicorn's own timer looks after it"
        assert refused == [408, 408]

    asyncio.run(run())
