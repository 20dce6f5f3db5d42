"""The application over ASGI: routes, answers, limits, counting; and the store behind it."""

from __future__ import annotations

import asyncio
import gc
import json
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ftrl_engine import cli
from ftrl_engine.errors import ConfigError
from ftrl_engine.jit import COMPILED
from ftrl_engine.kernels import _mismatch
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving import create_app
from serving.app import App
from serving.metrics import Metrics
from serving.request_answer import answer_request
from serving.request_rows import score_request
from serving.score_counts import count_scores
from serving.scorer import Scorer
from serving.store import SnapshotStore

BITS = 8
SCHEMA = Schema.from_toml(
    'others = "ignore"\n[fields]\nuser = { kind = "token" }\nprice = { kind = "number" }\n'
)
EVENT = {"context": {"user": "u1", "price": 2.0}}


def publish(model: Path, rows: int, level: float = 0.1, published_at: float | None = None) -> Snapshot:
    """A snapshot whose weights are all ``level``; any event's score follows from it."""
    slots = np.arange(1 << BITS, dtype=np.uint32)
    weights = np.full(len(slots), level, dtype=np.float32)
    provenance: dict[str, Any] = {
        "rows": rows,
        "learner": {"name": "ftrl_proximal", "alpha": 0.1},
        "metrics": {"log_loss": 0.25, "auc": 0.75},
        "published_at": time.time() if published_at is None else published_at,
    }
    snapshot = Snapshot(slots, weights, -1.0, BITS, SCHEMA, provenance)
    (model / "snapshots").mkdir(parents=True, exist_ok=True)
    snapshot.save(model / "snapshots" / f"{rows}.safetensors")
    return snapshot


def damage(model: Path, rows: int) -> None:
    """Flip one bit in the middle of the arrays."""
    path = model / "snapshots" / f"{rows}.safetensors"
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


Do = Callable[[httpx.AsyncClient], Awaitable[None]]


def with_client(app: App, do: Do) -> None:
    async def run() -> None:
        transport = httpx.ASGITransport(app, raise_app_exceptions=True)
        try:
            async with httpx.AsyncClient(transport=transport, base_url="http://test") as client:
                await do(client)
        finally:
            app.store.stop()

    asyncio.run(run())


def ask(app: App, method: str, path: str, **how: Any) -> httpx.Response:
    answers: list[httpx.Response] = []

    async def do(client: httpx.AsyncClient) -> None:
        answers.append(await client.request(method, path, **how))

    with_client(app, do)
    return answers[0]


def sigmoid(x: float) -> float:
    return float(1 / (1 + np.exp(-x)))


def test_score(tmp_path: Path) -> None:
    published_at = time.time() - 5
    publish(tmp_path, 123, published_at=published_at)
    answer = ask(create_app(tmp_path), "POST", "/score", json=EVENT | {"candidates": [{}, {"price": 4}]})
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "application/json"
    data = answer.json()
    assert set(data) == {"scores", "model"}
    assert data["scores"] == pytest.approx([sigmoid(-1 + 0.1 + 0.2), sigmoid(-1 + 0.1 + 0.4)], abs=1e-6)
    assert set(data["model"]) == {"version", "rows", "age_seconds"}
    assert data["model"]["rows"] == 123
    assert data["model"]["version"].startswith("123-")
    assert 5 <= data["model"]["age_seconds"] <= time.time() - published_at + 0.001


def test_model_says_what_is_served(tmp_path: Path) -> None:
    publish(tmp_path, 9)
    data = ask(create_app(str(tmp_path)), "GET", "/model").json()
    path = tmp_path / "snapshots" / "9.safetensors"
    assert data["snapshot"] == str(path)
    assert data["snapshot_bytes"] == path.stat().st_size
    assert data["schema"] == SCHEMA.to_dict()
    assert data["learner"] == {"name": "ftrl_proximal", "alpha": 0.1}
    assert data["metrics"] == {"log_loss": 0.25, "auc": 0.75}
    assert (data["rows"], data["nonzero_weights"], data["bits"]) == (9, 1 << BITS, BITS)
    assert (data["reloads"], data["reload_failures"], data["reload_error"]) == (1, 0, None)


def test_without_a_model(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        for method, path in (("POST", "/score"), ("GET", "/readyz"), ("GET", "/model")):
            answer = await client.request(method, path, json=EVENT)
            assert answer.status_code == 503
            assert answer.headers["retry-after"] == "1"
            assert str(tmp_path / "m") in answer.json()["error"]
        assert (await client.get("/healthz")).status_code == 200
        assert "ftrl_model_ready 0.0" in (await client.get("/metrics")).text
        publish(tmp_path / "m", 5)
        for _ in range(200):
            if (await client.get("/readyz")).status_code == 200:
                break
            await asyncio.sleep(0.02)
        assert (await client.post("/score", json=EVENT)).json()["model"]["rows"] == 5

    with_client(create_app(tmp_path / "m", reload_seconds=0.02), do)


def test_wrong_routes_and_methods(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        lost = await client.get("/nothing")
        assert lost.status_code == 404
        assert "/score" in lost.json()["error"]
        wrong = await client.get("/score")
        assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
        assert "POST" in wrong.json()["error"]
        assert (await client.delete("/model")).headers["allow"] == "GET, HEAD"
        head = await client.head("/healthz")
        assert (head.status_code, head.content) == (200, b"")
        assert int(head.headers["content-length"]) > 0
        packed = await client.post("/score", content=b"x", headers={"content-encoding": "gzip"})
        assert packed.status_code == 415
        for body in (b"", b"{", b'{"context": {"price": "dear"}}', b'{"context": {}, "more": 1}'):
            refused = await client.post("/score", content=body)
            assert refused.status_code == 400
            assert set(refused.json()) == {"error"}
        assert (
            "'price'" in (await client.post("/score", content=b'{"context":{"price":[1]}}')).json()["error"]
        )

    publish(tmp_path, 1)
    with_client(create_app(tmp_path), do)


def test_metrics_count(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        await client.post("/score", json=EVENT | {"candidates": [{"odd": 1}, {"price": 1}, {}]})
        await client.post("/score", json={"context": {"price": True}})
        await client.get("/a/b")
        text = (await client.get("/metrics")).text
        values = dict(line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        for name, value in {
            'ftrl_requests_total{route="/score",status="200"}': 1,
            'ftrl_requests_total{route="/score",status="400"}': 1,
            'ftrl_requests_total{route="other",status="404"}': 1,
            "ftrl_candidates_total": 3,
            "ftrl_unknown_fields_total": 1,
            "ftrl_missing_fields_total": 0,
            "ftrl_score_seconds_count": 1,
            'ftrl_score_seconds_bucket{le="+Inf"}': 1,
            "ftrl_model_rows": 77,
            "ftrl_model_nonzero_weights": 256,
            "ftrl_reloads_total": 1,
            "ftrl_reload_failures_total": 0,
        }.items():
            assert float(values[name]) == value, name
        assert float(values["ftrl_model_age_seconds"]) >= 60
        mean = sigmoid(-1 + 0.1 + 0.2) * 2 + sigmoid(-1 + 0.1 + 0.1)
        assert float(values["ftrl_scores_sum_total"]) == pytest.approx(mean, abs=1e-5)

    publish(tmp_path, 77, published_at=time.time() - 60)
    with_client(create_app(tmp_path), do)


def test_two_applications_count_for_themselves(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    one, other = create_app(tmp_path), create_app(tmp_path)
    ask(one, "POST", "/score", json=EVENT)
    assert "ftrl_candidates_total 0.0" in ask(other, "GET", "/metrics").text


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("max_body", 1),
        ("max_candidates", 0),
        ("max_open", 0),
        ("reload_seconds", 0.0),
        ("body_seconds", -1.0),
    ],
)
def test_a_limit_out_of_range_is_refused(tmp_path: Path, name: str, value: float) -> None:
    limits: dict[str, Any] = {name: value}
    with pytest.raises(ConfigError, match=f"{name} must be between .* got {value}"):
        create_app(tmp_path, **limits)


@pytest.mark.parametrize("package", ["prometheus_client", "prometheus_client.process_collector", "orjson"])
def test_a_missing_package_is_named(tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ConfigError, match=r"pip install 'ftrl-engine\[serve\]'"):
        create_app(tmp_path)


@pytest.mark.parametrize("package", ["uvicorn", "prometheus_client", "orjson"])
def test_a_server_that_lacks_a_package_says_so(
    tmp_path: Path, package: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, package, None)
    assert cli.main(["serve", "--model", str(tmp_path), "--port", "0", "--workers", "2"]) == cli.USAGE
    said = capsys.readouterr().err
    assert f"needs the package {package}; install it with: pip install 'ftrl-engine[serve]'" in said


# Bodies in pieces, as a server hands them over.


async def talk(
    app: App, pieces: list[bytes | float], headers: dict[str, str] | None = None
) -> tuple[int, Any, int]:
    """POST /score in pieces (a number: seconds of silence); (status, answer, pieces taken)."""
    sent: list[dict[str, Any]] = []
    taken = 0

    async def receive() -> dict[str, Any]:
        nonlocal taken
        while taken < len(pieces):
            piece = pieces[taken]
            taken += 1
            if isinstance(piece, float):
                await asyncio.sleep(piece)
            else:
                return {"type": "http.request", "body": piece, "more_body": taken < len(pieces)}
        return {"type": "http.disconnect"}

    async def send(message: Any) -> None:
        sent.append(message)

    listed = [(name.encode(), value.encode()) for name, value in (headers or {}).items()]
    scope = {"type": "http", "method": "POST", "path": "/score", "headers": listed}
    await app(scope, receive, send)
    if not sent:
        return 0, None, taken
    return sent[0]["status"], json.loads(sent[1]["body"]), taken


def run_app(app: App, *talks: Awaitable[tuple[int, Any, int]]) -> list[tuple[int, Any, int]]:
    async def run() -> list[tuple[int, Any, int]]:
        try:
            return list(await asyncio.gather(*talks))
        finally:
            app.store.stop()

    return asyncio.run(run())


def test_bodies_in_pieces_and_headers_that_lie(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    app = create_app(tmp_path, max_body=1000)
    body = json.dumps(EVENT).encode()
    letters = [body[i : i + 1] for i in range(len(body))]
    cases: list[tuple[list[bytes | float], dict[str, str], int]] = [
        ([*letters], {}, 200),
        ([b"", body, b""], {}, 200),
        ([body], {"content-length": "1"}, 200),
        ([body], {"content-length": "900"}, 200),
        ([body], {"content-length": "99999"}, 200),
        ([body], {"content-length": "-5"}, 200),
        ([body], {"content-length": "9" * 5000}, 200),
        ([body.ljust(1000)], {}, 200),
        ([body.ljust(1001)], {}, 413),
        ([body, b" " * 2000], {"content-length": "10"}, 413),
        ([b" " * 600, b" " * 600, b" " * 600], {}, 413),
    ]
    answers = run_app(app, *(talk(app, pieces, headers) for pieces, headers, _ in cases))
    assert [status for status, _, _ in answers] == [status for _, _, status in cases]
    # A client whose body is a little too large is listened to, so that it can read the answer.
    assert answers[-1][2] == 3


def test_an_endless_body_is_cut_off(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    app = create_app(tmp_path, max_body=1000)
    endless: list[bytes | float] = [b"x" * (1 << 20)] * 64
    announced = talk(app, endless, {"content-length": str(64 << 20)})
    asking_first = talk(app, endless, {"content-length": "2000", "expect": "100-continue"})
    answers = run_app(app, talk(app, endless), announced, asking_first)
    assert [status for status, _, _ in answers] == [413, 413, 413]
    assert answers[0][2] < 16
    assert answers[1][2] == answers[2][2] == 0


def test_a_slow_client_is_let_go_and_others_are_answered(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    app = create_app(tmp_path, body_seconds=0.2)
    body = json.dumps(EVENT).encode()
    slow, gone, quick = run_app(
        app, talk(app, [body[:5], 30.0, body[5:]]), talk(app, [body[:5], 0.01]), talk(app, [body])
    )
    assert slow[0] == 408
    assert "0.2 s" in slow[1]["error"]
    assert gone[0] == 0
    assert quick[0] == 200


def test_so_many_open_requests_and_no_more(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    app = create_app(tmp_path, max_open=2)
    body = json.dumps(EVENT).encode()
    answers = run_app(app, *(talk(app, [body[:3], 0.2, body[3:]]) for _ in range(3)), talk(app, [0.6, body]))
    assert sorted(status for status, _, _ in answers[:3]) == [200, 200, 503]
    # Its first piece comes when the others are done, but it was there as long: one too many as well.
    assert answers[3][0] == 503


def test_whole_requests_are_answered_while_others_are_being_read(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    app = create_app(tmp_path, max_open=1)
    body = json.dumps(EVENT).encode()

    async def whole() -> tuple[int, Any, int]:
        await asyncio.sleep(0.3)
        response = app.at_once[b"POST", b"/score"]([], body)
        assert response is not None
        return response.status, response.body, 0

    answers = run_app(app, talk(app, [body[:3], 0.6, body[3:]]), whole(), talk(app, [0.3, body]))
    assert [status for status, _, _ in answers] == [200, 200, 503]


def test_a_failure_inside_is_an_answer(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    publish(tmp_path, 1)
    app = create_app(tmp_path)

    def fail(body: bytes) -> None:
        raise ZeroDivisionError("inside")

    async def do(client: httpx.AsyncClient) -> None:
        await client.get("/readyz")
        served = app.store.current
        assert served is not None
        served.scorer.score = fail  # type: ignore[method-assign, assignment]
        answer = await client.post("/score", json=EVENT)
        assert (answer.status_code, set(answer.json())) == (500, {"error"})
        assert "ZeroDivisionError" not in answer.text
        assert (await client.get("/healthz")).status_code == 200

    with_client(app, do)
    assert "ZeroDivisionError: inside" in caplog.text


# The store.


def test_the_newest_valid_snapshot_is_served(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    store.refresh()
    assert (store.current, store.error) == (None, None)
    publish(tmp_path, 9)
    publish(tmp_path, 100)
    damage(tmp_path, 100)
    store.refresh()
    assert store.current is not None
    assert store.current.snapshot.rows == 9
    assert "100.safetensors" in str(store.error)
    first = store.current
    store.refresh()
    # A damaged file is not read again and again, and what is served is not loaded twice.
    assert (store.current, store.failures, store.loads) == (first, 1, 1)
    assert "100.safetensors" in str(store.error)
    publish(tmp_path, 100, level=0.5)
    store.refresh()
    assert store.current.snapshot.rows == 100
    assert (store.error, store.failures, store.loads) == (None, 1, 2)


def test_a_model_without_a_score_is_not_served(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    for rows in (1, 3):
        wrong = replace(publish(tmp_path, rows), intercept=float("inf"))
        wrong.save(tmp_path / "snapshots" / f"{rows}.safetensors")
        store.refresh()
        assert "the score of candidates[0] is not finite" in str(store.error)
        assert (store.current is None) is (rows == 1)
        publish(tmp_path, rows + 1)
        store.refresh()
        assert store.current is not None
        assert (store.current.snapshot.rows, store.error) == (rows + 1, None)


@pytest.mark.skipif(not COMPILED, reason="nothing is compiled")
def test_the_first_request_compiles_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kernels: tuple[Any, ...] = (answer_request, score_request, count_scores)
    for kernel in kernels:
        # As in a process that has just started.
        monkeypatch.setattr(kernel, "_pieces", {})
        monkeypatch.setattr(kernel, "_call", _mismatch)
    publish(tmp_path, 1)
    app = create_app(tmp_path)
    app.store.refresh()  # type: ignore[attr-defined]
    ready = [set(kernel._pieces) for kernel in kernels]
    assert [len(kinds) for kinds in ready] == [1, 1, 1]
    assert ask(app, "POST", "/score", json=EVENT).status_code == 200
    assert ask(app, "POST", "/score", content=b'{"context": {"\\u0061": {"b": 1}}}').status_code == 200
    assert [set(kernel._pieces) for kernel in kernels] == ready


def test_a_snapshot_of_as_many_rows_is_another_version(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    versions = []
    for level in (0.1, 0.2, 0.1):
        publish(tmp_path, 50, level)
        store.refresh()
        assert store.current is not None
        versions.append(store.current.version)
    assert versions[0] == versions[2] != versions[1]


def test_taking_a_snapshot_away_goes_back(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path)
    publish(tmp_path, 1)
    publish(tmp_path, 2)
    store.refresh()
    (tmp_path / "snapshots" / "2.safetensors").unlink()
    store.refresh()
    assert store.current is not None
    assert store.current.snapshot.rows == 1
    (tmp_path / "snapshots" / "1.safetensors").unlink()
    store.refresh()
    assert store.current.snapshot.rows == 1, "what is served stays when everything is gone"
    assert "1.safetensors: the served snapshot is gone" in str(store.error)
    metrics = Metrics(store, time.time)
    assert b"ftrl_reload_failing 1.0" in metrics.text()[0]
    publish(tmp_path, 3)
    store.refresh()
    assert (store.current.snapshot.rows, store.error) == (3, None)
    assert b"ftrl_reload_failing 0.0" in metrics.text()[0]


def test_a_store_survives_anything(tmp_path: Path) -> None:
    def explode(snapshot: Snapshot) -> Scorer:
        raise MemoryError("no room")

    publish(tmp_path, 1)
    store = SnapshotStore(tmp_path, make_scorer=explode)
    store.refresh()
    assert store.current is None
    assert "no room" in str(store.error)
    (tmp_path / "file").write_text("")
    other = SnapshotStore(tmp_path / "file")
    other.refresh()
    assert other.current is None


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (PermissionError(13, "Permission denied", "m/snapshots"),
         "m/snapshots: the user that runs the server may not read it; allow that (chmod, chown)"),
        (OSError(5, "Input/output error", "m/snapshots"), "m/snapshots: cannot be read: Input/output error"),
    ],
)  # fmt: skip
def test_a_model_that_cannot_be_read_is_said_in_words(
    error: OSError, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(model: Path) -> list[Path]:
        raise error

    publish(tmp_path, 1)
    store = SnapshotStore(tmp_path)
    with monkeypatch.context() as patched:
        patched.setattr("serving.store.newest_snapshots", refuse)
        store.refresh()
    assert str(store.error).startswith(words)
    assert "Error(" not in str(store.error)
    store.refresh()
    assert store.error is None
    assert store.current is not None


def test_the_thread_ends_with_the_store(tmp_path: Path) -> None:
    store = SnapshotStore(tmp_path, reload_seconds=0.01)
    store.start()
    store.start()
    threads = [thread for thread in threading.enumerate() if thread.name == "ftrl-reload"]
    assert len(threads) == 1
    store.stop()
    assert not threads[0].is_alive()
    forgotten = SnapshotStore(tmp_path, reload_seconds=0.01)
    forgotten.start()
    (thread,) = [thread for thread in threading.enumerate() if thread.name == "ftrl-reload"]
    del forgotten
    gc.collect()
    thread.join(5)
    assert not thread.is_alive()


def test_lifespan(tmp_path: Path) -> None:
    publish(tmp_path, 3)
    app = create_app(tmp_path)
    sent: list[str] = []

    async def run() -> None:
        queue: asyncio.Queue[dict[str, str]] = asyncio.Queue()
        done = asyncio.Event()

        async def send(message: Any) -> None:
            sent.append(message["type"])
            done.set()

        task = asyncio.create_task(app({"type": "lifespan"}, queue.get, send))
        queue.put_nowait({"type": "lifespan.startup"})
        await done.wait()
        assert app.store.current is not None, "a model that is there is served from the first request on"
        queue.put_nowait({"type": "lifespan.shutdown"})
        await task

    asyncio.run(run())
    assert sent == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    assert not [thread for thread in threading.enumerate() if thread.name == "ftrl-reload"]


def test_a_worker_is_not_ready_before_all_of_them_have_a_model(tmp_path: Path) -> None:
    """Who is told by one worker that it may begin is answered by another one next."""
    publish(tmp_path, 1)
    app = create_app(tmp_path)
    app.state.waiting = 1
    answer = ask(app, "GET", "/readyz")
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
    assert "1 workers are taking their first model" in answer.json()["error"]


def headers_of(**headers: str) -> list[tuple[bytes, bytes]]:
    return [(name.encode(), value.encode()) for name, value in headers.items()]


def test_what_is_answered_at_once_is_what_the_application_answers(tmp_path: Path) -> None:
    publish(tmp_path, 123, published_at=time.time() + 60)
    app = create_app(tmp_path, max_body=1000)
    body = json.dumps(EVENT).encode()
    assert set(app.at_once) == {(b"POST", b"/score")}
    answer = app.at_once[b"POST", b"/score"]
    assert answer([], body) is None, "nothing is served yet"
    ordinary = ask(app, "POST", "/score", content=body)
    response = answer([], body)
    assert response is not None
    assert (response.status, response.body) == (200, ordinary.content)
    assert 'ftrl_requests_total{route="/score",status="200"} 2.0' in app._metrics.text()[0].decode()
    assert answer([], b" " * 1001) is None
    for content in (b"[]", b'{"context": {"a": NaN}}', b'{"context": 1}'):
        refused = answer([], content)
        assert refused is not None
        assert (refused.status, refused.body) == (400, ask(app, "POST", "/score", content=content).content)
    counts = app._metrics.text()[0].decode()
    assert 'ftrl_requests_total{route="/score",status="200"} 2.0' in counts
    assert 'ftrl_requests_total{route="/score",status="400"} 6.0' in counts


def test_what_is_answered_at_once_needs_the_token(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    app = create_app(tmp_path, token="secret")
    body = json.dumps(EVENT).encode()
    ask(app, "GET", "/healthz")
    answer = app.at_once[b"POST", b"/score"]
    assert answer([], body) is None
    assert answer(headers_of(authorization="Bearer other"), body) is None
    assert answer(headers_of(authorization="Bearer secret"), body) is not None
