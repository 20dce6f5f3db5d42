"""Requests that mean harm: never a crash, a hang, a leak or a wrong score, on any route that takes a body.

Bodies are mutated by the thousand from good ones: bytes flipped, cut and spliced, invalid UTF-8, keys
that occur twice, numbers beyond any range, nesting without end.
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ftrl_engine.errors import DataError
from ftrl_engine.jit import COMPILED
from ftrl_engine.snapshot import Snapshot
from serving import create_app
from serving.app import App
from serving.scorer import Scored, Scorer
from tests.serving_process import Server, serving
from tests.test_serving_scorer import SCHEMA, expected, merged, snapshot_of

SCORED = 100_000 if COMPILED else 1000
ROUTED = 3000 if COMPILED else 100
JUDGED = 1500 if COMPILED else 100
# A request of these sizes takes well under a millisecond; a hang takes for ever.
LONGEST_SECONDS = 5.0

GOOD = (
    b'{"context":{"user":"u1","price":2.5,"tags":"a|b"},"candidates":[{"item":"i1"},{"item":7,"place":["p",3]}]}',
    b'{"context": {"user": "\\u00fc", "depth": 3, "other": {"deep": {"er": true}}}}',
    '{"candidates":[{"amount":1e3,"city":"ж"},{"country":null,"city":""},{}]}'.encode(),
    b'{ "context":\t{"user":"u2","x":-0.0,"y":1234567890123456789},\n"candidates":[{"tags":[]},{"user":[]}]}',
)
PIECES = (
    b"{", b"}", b"[", b"]", b'"', b",", b":", b"\\", b"\\u0000", b"\\ud800", b"\\udc00\\ud800", b"null",
    b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e-999", b"9" * 400, b"0." + b"1" * 300, b"1E+5", b"01",
    b"\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x00", b"\x1f", b"\n", b"\xef\xbb\xbf",
    b'"user":"v",', b'"user":"w",', b'"context":{},', b'"candidates":[],', b'"__proto__":{},', b"[" * 60,
    b'{"a":' * 40, b'"price":1e308,', b'"price":"1e400",', b'"tags":["a",["b"]],', b'"depth":[1],', b"/* */",
    b"true", b"-",
)  # fmt: skip


def mutate(body: bytes, choose: random.Random, others: tuple[bytes, ...]) -> bytes:
    """The body with one to four things wrong, or only odd."""
    data = bytearray(body)
    for _ in range(choose.randrange(1, 5)):
        at = choose.randrange(len(data) + 1)
        kind = choose.randrange(7)
        if kind == 0 and data:
            data[at % len(data)] = choose.randrange(256)
        elif kind == 1:
            del data[at : at + choose.choice([1, 1, 2, 5, 1000])]
        elif kind <= 4:
            data[at:at] = choose.choice(PIECES)
        elif kind == 5:
            other = choose.choice(others)
            lo = choose.randrange(len(other))
            data[at:at] = other[lo : lo + choose.randrange(1, 60)]
        else:
            # A number in place of another.
            digits = [i for i, byte in enumerate(data) if 48 <= byte <= 57]
            if digits:
                i = choose.choice(digits)
                data[i : i + 1] = choose.choice(
                    [b"1e5", b"-7", b"0.1", b"99999999999999999999", b"2.5e-400", b"4."]
                )
    return bytes(data)


def outcome(score: Callable[[bytes], Scored], body: bytes) -> Scored | str:
    try:
        return score(body)
    except DataError as error:
        return str(error)


def test_mutated_bodies_score_alike_on_both_paths() -> None:
    """The compiled path and the careful one give the same scores and counts, or refuse in the same words."""
    scorer = Scorer(snapshot_of(SCHEMA), max_candidates=50, max_body=100_000)
    choose = random.Random(7)
    kinds: Counter[str] = Counter()
    for body in GOOD:
        scorer.score_carefully(body)  # what is compiled is not timed below
    for _ in range(SCORED):
        body = mutate(choose.choice(GOOD), choose, GOOD)
        began = time.thread_time()
        found = outcome(scorer.score, body)
        assert time.thread_time() - began < LONGEST_SECONDS, body
        assert found == outcome(scorer.score_carefully, body), body
        if isinstance(found, Scored):
            assert all(0.0 <= score <= 1.0 for score in found.scores)
        kinds["scored" if isinstance(found, Scored) else "refused"] += 1
    assert min(kinds["scored"], kinds["refused"]) > SCORED // 20, kinds


def test_mutated_bodies_that_are_scored_are_scored_right() -> None:
    """By the encoder that learning uses and the plain reading of the JSON."""
    snapshot = snapshot_of(SCHEMA)
    scorer = Scorer(snapshot)
    choose = random.Random(8)
    judged = 0
    while judged < JUDGED:
        body = mutate(choose.choice(GOOD), choose, GOOD)
        found = outcome(scorer.score, body)
        if isinstance(found, str) or not found.scores:
            continue
        request = json.loads(body)
        context = request.get("context", {})
        rows = [merged(context, candidate) for candidate in request.get("candidates", [{}])]
        assert found.scores == pytest.approx(expected(snapshot, rows), abs=1e-9), body
        judged += 1


# Every route, without a network between.


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("models") / "m"
    (model / "snapshots").mkdir(parents=True)
    known = snapshot_of(SCHEMA)
    provenance = {"rows": 7, "learner": {"name": "ftrl_proximal", "alpha": 0.1, "beta": 1.0, "l2": 1.0}}
    counts = np.ones(len(known.slots), dtype=np.float32)
    Snapshot(known.slots, known.weights, -0.5, known.bits, SCHEMA, provenance, counts).save(
        model / "snapshots" / "7.safetensors"
    )
    return model


EXAMPLES = tuple(body.replace(b"candidates", b"examples") for body in GOOD if b"candidates" in body)
ROUTES: dict[str, tuple[bytes, ...]] = {
    "/score": GOOD,
    "/explain": GOOD,
    "/v1/models/m:regress": EXAMPLES,
    "/v1/models/m:classify": EXAMPLES,
    "/v1/models/m:predict": (
        b'{"instances":[{"user":"u1","price":2},{"item":"i"}],"signature_name":"serving_default"}',
        b'{"inputs":{"user":["a","b"],"price":[1,2.5],"tags":[["x"],null]}}',
    ),
    "/v2/models/m/infer": (
        b'{"id":"1","inputs":[{"name":"user","shape":[2],"datatype":"BYTES","data":["a","b"]},'
        b'{"name":"price","shape":[1,1],"datatype":"FP64","data":[[2.5]]}]}',
        b'{"inputs":[{"name":"tags","shape":[2,2],"datatype":"BYTES","data":["a","b",null,"c"],"parameters":{}}],'
        b'"outputs":[{"name":"score"}]}',
    ),
    "/v2/models/m/versions/7/infer": (
        b'{"inputs":[{"name":"depth","shape":[3],"datatype":"INT64","data":[1,2,3]}]}',
    ),
    "/invocations": (
        b'{"dataframe_split":{"columns":["user","price"],"index":[0,1],"data":[["u",1],["v",null]]}}',
        b'{"dataframe_records":[{"user":"u"},{"price":3}]}',
        b'{"inputs":{"user":["a","b"]},"params":{"x":1}}',
    ),
    "/invocations text/csv": (b'user,price,other\nu1,2.5,"a, ""b"""\n,,\nu2,1e3,x\n',),
}


async def post(app: App, path: str, body: bytes) -> tuple[int, Any]:
    """(status, answer) of one request, without a server."""
    path, _, media = path.partition(" ")
    sent: list[Any] = []

    async def receive() -> Any:
        return {"type": "http.request", "body": body, "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    headers = [(b"content-type", (media or "application/json").encode())]
    await app({"type": "http", "method": "POST", "path": path, "headers": headers}, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"])


def scores_in(answer: Any) -> Iterator[float]:
    """Every probability in an answer."""
    for one in answer.get("explanations", ()):
        yield one["score"]
    for one in answer.get("outputs", ()):
        yield from one["data"] if isinstance(one, dict) else [one]
    for key in ("scores", "predictions", "results"):
        for one in answer.get(key, ()):
            yield from (pair[1] for pair in one) if isinstance(one, list) else [one]


@pytest.mark.parametrize("path", ROUTES)
def test_mutated_bodies_on_every_route(model: Path, path: str) -> None:
    app = create_app(model, max_body=100_000, max_candidates=50)
    choose = random.Random(len(path))

    async def run() -> Counter[int]:
        statuses: Counter[int] = Counter()
        try:
            for good in ROUTES[path]:
                status, answer = await post(app, path, good)
                assert status == 200, answer
                assert list(scores_in(answer))
            for number in range(ROUTED):
                body = mutate(choose.choice(ROUTES[path]), choose, GOOD + ROUTES[path])
                if number % 100 == 0:
                    body = choose.choice(
                        [b"[" * 50_000, b'{"a":' * 9000, b"9" * 40_000, b"\x00" * 999, b"", body * 90]
                    )
                began = time.perf_counter()
                status, answer = await post(app, path, body)
                assert time.perf_counter() - began < LONGEST_SECONDS, body
                assert status in (200, 400, 413), (status, body)
                assert (status == 200) != (set(answer) == {"error"}), (answer, body)
                if status == 200:
                    assert all(0.0 <= score <= 1.0 for score in scores_in(answer)), (answer, body)
                statuses[status] += 1
        finally:
            app.store.stop()
        return statuses

    statuses = asyncio.run(run())
    assert min(statuses[200], statuses[400]) > ROUTED // 50, statuses


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is read from /proc")
def test_hostile_requests_leave_no_memory_behind(model: Path) -> None:
    """After a first round has filled what is kept for ever, further rounds add nothing."""
    app = create_app(model, max_body=100_000, max_candidates=50)
    page = 4096

    def resident() -> int:
        gc.collect()
        return int(Path("/proc/self/statm").read_text().split()[1]) * page

    async def run() -> list[int]:
        seen = []
        try:
            for number in range(5):
                choose = random.Random(number)
                for _ in range(ROUTED):
                    path = choose.choice(list(ROUTES))
                    # New names in every request: what is remembered of them must be bounded.
                    body = mutate(choose.choice(ROUTES[path]), choose, GOOD)
                    body = body.replace(b"user", b"user%d" % choose.randrange(10**9))
                    await post(app, path, body)
                seen.append(resident())
        finally:
            app.store.stop()
        return seen

    seen = asyncio.run(run())
    assert seen[-1] - seen[1] < 16 << 20, seen


# Over connections, to a real server.


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model) as server:
        yield server


def http_request(path: str, body: bytes, headers: bytes = b"") -> bytes:
    path, _, media = path.partition(" ")
    head = b"POST %b HTTP/1.1\r\nhost: x\r\ncontent-type: %b\r\n" % (
        path.encode(),
        (media or "application/json").encode(),
    )
    return head + headers + b"content-length: %d\r\n\r\n" % len(body) + body


def read_answers(connection: socket.socket, count: int) -> list[tuple[int, Any]]:
    """So many answers from one connection, in their order."""
    data = b""
    found: list[tuple[int, Any]] = []
    while len(found) < count:
        head, separator, rest = data.partition(b"\r\n\r\n")
        length = 0
        for line in head.split(b"\r\n"):
            if line.lower().startswith(b"content-length:"):
                length = int(line.split(b":")[1])
        if not separator or len(rest) < length:
            piece = connection.recv(65536)
            assert piece, "the server has closed the connection"
            data += piece
            continue
        found.append((int(head.split()[1]), json.loads(rest[:length])))
        data = rest[length:]
    return found


def test_pipelined_requests_are_answered_in_order(server: Server) -> None:
    """Good and bad ones of all routes at once; each gets its own answer."""
    choose = random.Random(4)
    asked = []
    for _ in range(60):
        path = choose.choice(list(ROUTES))
        good = choose.random() < 0.5
        bad = b'a\n"wrong' if "csv" in path else b'{"wrong": '
        asked.append((path, choose.choice(ROUTES[path]) if good else bad, 200 if good else 400))
    with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
        connection.sendall(b"".join(http_request(path, body) for path, body, _ in asked))
        answers = read_answers(connection, len(asked))
    for (path, body, status), (found, answer) in zip(asked, answers, strict=True):
        assert found == status, (path, body, answer)
        alone = httpx.post(
            server.url + path.split()[0],
            content=body,
            headers={"content-type": path.split()[1] if " " in path else "application/json"},
            timeout=60,
        ).json()
        assert list(scores_in(answer)) == list(scores_in(alone)), path


def test_slow_clients_hold_nobody_up(server: Server) -> None:
    """Forty clients that send a byte now and then, on all routes; others are answered at once."""
    stop = threading.Event()
    finished: list[int] = []

    def dawdle(path: str) -> None:
        data = http_request(path, ROUTES[path][0])
        with socket.create_connection(("127.0.0.1", server.port), timeout=60) as connection:
            for at in range(0, len(data), 40):
                connection.sendall(data[at : at + 40])
                if stop.wait(0.15):
                    return
            ((status, _),) = read_answers(connection, 1)
            finished.append(status)

    paths = [path for path in ROUTES for _ in range(5)]
    threads = [threading.Thread(target=dawdle, args=[path]) for path in paths]
    for thread in threads:
        thread.start()
    seconds = []
    with httpx.Client(base_url=server.url, timeout=60) as client:
        for _ in range(100):
            began = time.perf_counter()
            assert client.post("/score", content=GOOD[0]).status_code == 200
            seconds.append(time.perf_counter() - began)
    for thread in threads:
        thread.join(60)
    stop.set()
    assert Counter(finished) == {200: len(paths)}, "slow is not wrong"
    assert sorted(seconds)[50] < 0.5
