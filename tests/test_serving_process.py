"""`ftrl serve` as a process: parity with the learner, reloading under load, hostile clients, the end."""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ftrl_engine.cli import main
from ftrl_engine.learners.base import Learner, build
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from streams.codecs.base import open_codec
from streams.simulate import ClickStream, to_jsonl
from streams.source import PADDING, Block
from tests.serving_process import FTRL, Server, serving, talk_raw

BITS = 16
SCHEMA = Schema.load("clicks")
LEARNED, SCORED = 20_000, 1200


def block_of(lines: bytes) -> Block:
    """The lines of JSON as one block."""
    data = np.frombuffer(lines + bytes(PADDING), dtype=np.uint8)
    ends = np.flatnonzero(data == 10)
    starts = np.concatenate([[0], ends[:-1] + 1])
    return Block("test", data.copy(), starts, ends, ends + 1, 0, len(lines))


@pytest.fixture(scope="module")
def learner() -> Learner:
    learner = build("ftrl_proximal", n_slots=1 << BITS, l1=0.1)
    codec = open_codec("jsonl", SCHEMA, BITS)
    for part in codec.encode(block_of(to_jsonl(ClickStream(seed=1, ctr=0.2).block(0, LEARNED)))):
        learner.learn(part.batch)
    return learner


@pytest.fixture(scope="module")
def model(learner: Learner, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("model")
    snapshot = Snapshot.of(learner, BITS, SCHEMA, {"rows": LEARNED, "published_at": time.time()})
    (model / "snapshots").mkdir()
    snapshot.save(model / "snapshots" / f"{LEARNED}.safetensors")
    return model


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model, "--max-body", "100KB", "--max-candidates", "200") as server:
        yield server


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def test_scores_are_the_learner_s_next_predictions(learner: Learner, client: httpx.Client) -> None:
    lines = to_jsonl(ClickStream(seed=1, ctr=0.2).block(7, SCORED))
    (part,) = open_codec("jsonl", SCHEMA, BITS).encode(block_of(lines))
    want = 1.0 / (1.0 + np.exp(-learner.margins(part.batch)))
    assert want.std() > 0.05, "the model must have learned something"
    events = [json.loads(line) for line in lines.splitlines()]
    alone = [client.post("/score", json={"context": event}).json()["scores"][0] for event in events[:300]]
    assert alone == pytest.approx(want[:300], abs=1e-6)
    # The same events again, each split between context and candidate at random.
    choose = random.Random(5)
    split: list[float] = []
    for event in events:
        context = {
            field: event.pop(field) for field in choose.sample(sorted(event), choose.randrange(len(event)))
        }
        context |= {field: "another value" for field in event if choose.random() < 0.2 and field != "price"}
        answer = client.post("/score", json={"context": context, "candidates": [{}, event]}).json()
        split.append(answer["scores"][1])
    assert split == pytest.approx(want, abs=1e-6)
    together = client.post(
        "/score", json={"candidates": [json.loads(line) for line in lines.splitlines()[:200]]}
    )
    assert together.json()["scores"] == pytest.approx(want[:200], abs=1e-6)


def publish_level(model: Path, rows: int) -> None:
    """A snapshot whose every score follows from ``rows``, the number it gives as its version."""
    weights = np.full(1 << BITS, rows / 1000, dtype=np.float32)
    slots = np.arange(1 << BITS, dtype=np.uint32)
    provenance = {"rows": rows, "published_at": time.time()}
    (model / "snapshots").mkdir(parents=True, exist_ok=True)
    Snapshot(slots, weights, rows / 500, BITS, Schema(), provenance).save(
        model / "snapshots" / f"{rows}.safetensors"
    )


def test_reloading_loses_no_request_and_mixes_no_versions(tmp_path: Path) -> None:
    publish_level(tmp_path, 1)
    stop = threading.Event()
    seen: list[set[int]] = [set() for _ in range(3)]
    problems: list[str] = []
    body = {"context": {"a": "x"}, "candidates": [{"b": f"{i}", "c": "y"} for i in range(40)]}

    def ask(rows_seen: set[int], url: str) -> None:
        with httpx.Client(base_url=url, timeout=60) as client:
            while not stop.is_set():
                answer = client.post("/score", json=body)
                data = answer.json()
                rows = data.get("model", {}).get("rows", 0)
                want = 1 / (1 + np.exp(-(rows / 500 + 3 * np.float32(rows / 1000))))
                if answer.status_code != 200 or np.abs(np.array(data["scores"]) - want).max() > 1e-6:
                    problems.append(f"{answer.status_code} {data}"[:500])
                rows_seen.add(rows)

    with serving(tmp_path) as server:
        threads = [threading.Thread(target=ask, args=(each, server.url)) for each in seen]
        for thread in threads:
            thread.start()
        for rows in range(2, 40):
            publish_level(tmp_path, rows)
            if rows % 10 == 0:
                # A newer file that is damaged changes nothing.
                (tmp_path / "snapshots" / "9999.safetensors").write_bytes(b"\x10garbage" * rows)
            time.sleep(0.05)
        stop.set()
        for thread in threads:
            thread.join()
        facts = httpx.get(server.url + "/model").json()
    assert problems == []
    assert len(set.union(*seen)) > 10
    assert facts["rows"] == 39
    assert facts["reload_failures"] >= 3
    assert "9999.safetensors" in facts["reload_error"]


def test_a_damaged_newest_snapshot_keeps_the_old_one(tmp_path: Path) -> None:
    publish_level(tmp_path, 5)
    with serving(tmp_path) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        publish_level(tmp_path / "other", 6)
        path = tmp_path / "other" / "snapshots" / "6.safetensors"
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 4
        path.write_bytes(data)
        # There at once: a file seen while it grows would fail more than once.
        path.rename(tmp_path / "snapshots" / path.name)
        wait_for(lambda: client.get("/readyz").json()["reload_error"] is not None)
        ready = client.get("/readyz")
        assert (ready.status_code, ready.json()["rows"]) == (200, 5)
        assert "6.safetensors" in ready.json()["reload_error"]
        assert client.post("/score", json={"context": {}}).json()["model"]["rows"] == 5
        assert "ftrl_reload_failures_total 1.0" in client.get("/metrics").text
        publish_level(tmp_path, 7)
        wait_for(lambda: client.get("/readyz").json()["rows"] == 7)
        assert client.get("/model").json()["reload_error"] is None


def wait_for(happened: Any) -> None:
    end = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < end, "it has not happened in 30 s"
        time.sleep(0.02)


def test_it_starts_before_there_is_a_model(tmp_path: Path) -> None:
    with serving(tmp_path / "none") as server, httpx.Client(base_url=server.url, timeout=60) as client:
        assert server.facts["version"] is None
        assert client.get("/healthz").status_code == 200
        waiting = client.post("/score", json={"context": {}})
        assert (waiting.status_code, waiting.headers["retry-after"]) == (503, "1")
        publish_level(tmp_path / "none", 3)
        wait_for(lambda: client.get("/readyz").status_code == 200)
        assert client.post("/score", json={"context": {}}).json()["model"]["rows"] == 3


def test_limits_over_a_connection(server: Server, client: httpx.Client) -> None:
    too_many = client.post("/score", json={"candidates": [{}] * 201})
    assert too_many.status_code == 413
    assert "200" in too_many.json()["error"]
    large = b'{"context": {"x": "' + b"y" * 5_000_000 + b'"}}'
    assert client.post("/score", content=large).status_code == 413

    def pieces() -> Iterator[bytes]:
        for _ in range(300):
            yield b" " * 1000

    assert client.post("/score", content=pieces()).status_code == 413
    assert client.post("/score", content=iter([b'{"con', b'text": {}}'])).status_code == 200
    many = {f"field{i}": i for i in range(3000)}
    assert client.post("/score", json={"context": many}).status_code == 200


def test_hostile_bodies_are_refused_and_the_server_lives(client: httpx.Client) -> None:
    choose = random.Random(11)
    good = json.dumps(
        {"context": {"user_id": "u1", "price": 1.5, "tags": ["a"]}, "candidates": [{"x": 1}]}
    ).encode()
    refused = 0
    for number in range(400):
        body = bytearray(good)
        for _ in range(choose.randrange(1, 4)):
            at = choose.randrange(len(body))
            if number % 3 == 0:
                body[at] = choose.randrange(256)
            elif number % 3 == 1:
                del body[at:]
                body.extend(b"[" * choose.randrange(3))
                body.extend(b"{")
            else:
                body[at:at] = choose.choice(
                    [b"[", b"{", b'"', b"null", b"\\u0000", b"1e999", b"NaN", b",", b"\xff"]
                )
        answer = client.post("/score", content=bytes(body))
        assert answer.status_code in (200, 400), (answer.status_code, body)
        assert set(answer.json()) == ({"error"} if answer.status_code == 400 else {"scores", "model"})
        refused += answer.status_code == 400
    assert refused > 200
    for wild in (b"[" * 90_000, b'{"a":' * 15_000, b"\x00" * 1000, b"9" * 50_000, b'"' + b"\\" * 9999):
        assert client.post("/score", content=wild).status_code == 400
    assert client.post("/score", content=good).status_code == 200


def test_requests_that_are_no_http(server: Server, client: httpx.Client) -> None:
    head = b"POST /score HTTP/1.1\r\nhost: x\r\n"
    body = b'{"context": {}}'
    for data in (
        b"\x16\x03\x01 not http at all\r\n\r\n",
        b"GET /" + b"a" * 100_000,
        head + b"content-length: -1\r\n\r\n" + body,
        head + b"content-length: 5\r\ncontent-length: 15\r\n\r\n" + body,
        head + b"transfer-encoding: chunked\r\n\r\nZZ\r\n" + body,
        head + b"content-length: 5\r\n\r\n" + body,
        head + b"content-length: 500\r\n\r\n" + body,
    ):
        answer = talk_raw(server.port, data)
        assert b" 500 " not in answer
        assert b" 200 " not in answer
    full = head + b"content-length: %d\r\n\r\n" % len(body) + body
    # Two requests at once on one connection are both answered, in order.
    both = talk_raw(server.port, full + full.replace(b"/score", b"/other"), 1.0, hang_up=False)
    assert both.count(b"HTTP/1.1 ") == 2
    assert both.index(b"HTTP/1.1 200") < both.index(b"HTTP/1.1 404")
    assert client.post("/score", content=body).status_code == 200


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_lets_the_open_request_finish(model: Path, number: int, status: int) -> None:
    body = b'{"context": {"user_id": "u1"}}'
    with serving(model) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            connection.sendall(
                b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body) + body[:9]
            )
            time.sleep(0.3)
            server.process.send_signal(number)
            time.sleep(0.3)
            connection.sendall(body[9:])
            answer = connection.recv(65536)
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(30) == status
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
        _, stderr = server.process.communicate()
        assert [line for line in stderr.splitlines() if "loading" not in line and "serving" not in line] == []


def test_a_port_that_is_taken(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", str(tmp_path), "--port", str(server.port)]) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"port {server.port}" in line
    assert "--port" in line


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--port", "70000"], "--port must be between 0 and 65535, got 70000"),
        (["--max-body", "big"], "--max-body must be a size"),
        (["--max-body", "1"], "max_body must be between"),
        (["--max-candidates", "0"], "max_candidates must be between"),
        (["--reload-every", "10rows"], "--reload-every must be a duration"),
        (["--host", "no such host"], "no such host"),
    ],
)
def test_wrong_flags(flags: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", str(tmp_path), "--port", "0", *flags]) in (1, 2)
    (line,) = capsys.readouterr().err.splitlines()
    assert what in line


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys, serving.serve_command, serving.demo_command\n"
        "print(sorted({'numba', 'numpy', 'uvicorn', 'rich', 'asyncio', 'msgspec'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert done.stdout.strip() == "[]"
    help_text = subprocess.run([*FTRL, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    assert "POST /score" in help_text
    assert "ftrl serve --model m" in help_text
