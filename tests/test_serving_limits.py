"""Slow and greedy clients, the token, the access log, and the end in order: over real connections."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ftrl_engine.cli import main
from ftrl_engine.errors import ConfigError
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving import create_app
from serving.access_token import read_token
from serving.request_values import TooManyFieldsError
from serving.scorer import Scorer
from tests.serving_process import FTRL, Server, serving, talk_raw

BITS = 8
BODY = b'{"context": {"user": "u1"}}'
HEAD = b"POST /score HTTP/1.1\r\nhost: x\r\n"
REQUEST = HEAD + b"content-length: %d\r\n\r\n" % len(BODY) + BODY
TOKEN = "a-long.secret_of~ours+0123456789=="


def snapshot_of(rows: int) -> Snapshot:
    slots = np.arange(1 << BITS, dtype=np.uint32)
    weights = np.full(len(slots), 0.1, dtype=np.float32)
    return Snapshot(slots, weights, -1.0, BITS, Schema(), {"rows": rows, "published_at": time.time()})


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("model")
    (model / "snapshots").mkdir()
    snapshot_of(3).save(model / "snapshots" / "3.safetensors")
    return model


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    flags = ["--header-timeout", "1s", "--body-timeout", "1s", "--max-header", "4KB"]
    with serving(model, *flags, "--max-connections", "20") as server:
        yield server


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def status_of(connection: socket.socket) -> bytes:
    """The status of the next answer, which is read to its end."""
    answer = b""
    while not answer.endswith(b"}"):
        piece = connection.recv(65536)
        assert piece, answer
        answer += piece
    return answer.split()[1]


def until_closed(connection: socket.socket) -> tuple[bytes, float]:
    """What comes until the server closes, and the seconds that took."""
    began, answer = time.monotonic(), b""
    while piece := connection.recv(65536):
        answer += piece
    return answer, time.monotonic() - began


# Time.


def test_a_client_that_says_nothing_is_let_go(server: Server) -> None:
    with connect(server) as connection:
        answer, seconds = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 0.4 < seconds < 8


def test_a_client_that_sends_its_headers_byte_by_byte_is_let_go(server: Server) -> None:
    began = time.monotonic()
    with connect(server) as connection:
        connection.settimeout(0.1)
        answer, sent = b"", 0
        while not answer and time.monotonic() < began + 15:
            if sent < len(REQUEST):
                try:
                    connection.sendall(REQUEST[sent : sent + 1])
                except OSError:
                    break
                sent += 1
            try:
                answer = connection.recv(65536)
            except TimeoutError:
                continue
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"within 1 s" in answer
    assert time.monotonic() - began < 8
    assert sent < len(REQUEST)


def test_the_second_request_of_a_connection_has_as_long_and_an_idle_one_stays(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(REQUEST)
        assert status_of(connection) == b"200"
        time.sleep(2.2)  # idle between two requests: that is not sending a head
        connection.sendall(REQUEST)
        assert status_of(connection) == b"200"
        connection.sendall(REQUEST[:20])
        answer, seconds = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert 0.4 < seconds < 8


def test_a_client_in_time_is_answered_however_its_bytes_come(server: Server) -> None:
    for size in (1, 7, 50):
        with connect(server) as connection:
            for first in range(0, len(REQUEST), size):
                connection.sendall(REQUEST[first : first + size])
                time.sleep(0.001)
            assert status_of(connection) == b"200"


def test_a_slow_body_is_let_go(server: Server) -> None:
    with connect(server) as connection:
        connection.sendall(HEAD + b"content-length: 27\r\n\r\n" + BODY[:5])
        answer, seconds = until_closed(connection)
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b"body" in answer
    assert 0.4 < seconds < 8


# Size and number.


def test_headers_without_end_are_cut_off(server: Server) -> None:
    for data in (
        HEAD + b"x: " + b"y" * 100_000,
        HEAD + b"".join(b"h%d: v\r\n" % number for number in range(10_000)),
        b"GET /" + b"a" * 100_000,
    ):
        answer = talk_raw(server.port, data, hang_up=False)
        assert answer.startswith(b"HTTP/1.1 431 "), data[:60]
        assert b"4096" in answer
    # A body is no header, however large, and neither are many requests on one connection.
    large = b'{"context": {"user": "' + b"u" * 50_000 + b'"}}'
    with httpx.Client(base_url=server.url) as client:
        for _ in range(3):
            assert client.post("/score", content=large).status_code == 200
            assert client.post("/nowhere", content=large).status_code == 404
    assert talk_raw(server.port, REQUEST * 200, 2.0, hang_up=False).count(b"HTTP/1.1 200 ") == 200
    begun = b"POST /score HTTP/1.1\r\n"
    assert talk_raw(server.port, REQUEST * 400 + begun, 2.0, hang_up=False).count(b"HTTP/1.1 200 ") == 400
    # After them, a head is limited as always.
    answer = talk_raw(server.port, REQUEST + begun + b"x: " + b"y" * 2_000_000, hang_up=False)
    assert answer.count(b"HTTP/1.1 431 ") == 1


def head_of(size: int) -> bytes:
    """A request for /healthz whose head has so many bytes, the blank line not counted."""
    line, name = b"GET /healthz HTTP/1.1\r\n", b"x: "
    return line + name + b"y" * (size - len(line) - len(name) - 2) + b"\r\n\r\n"


def test_a_head_is_limited_to_the_byte_however_it_comes(server: Server) -> None:
    for size, status in ((4096, b"HTTP/1.1 200 "), (4097, b"HTTP/1.1 431 "), (100_000, b"HTTP/1.1 431 ")):
        head = head_of(size)
        for before in (b"", b"GET /healthz HTTP/1.1\r\n\r\n"):
            answer = talk_raw(server.port, before + head, 1.0, hang_up=False)
            assert answer.count(status) == 1 + bool(before and status.endswith(b"200 ")), (size, before)
        with connect(server) as connection:
            connection.sendall(head[:3000])
            time.sleep(0.1)
            connection.sendall(head[3000:])
            assert connection.recv(65536).startswith(status), size


def test_what_a_connection_is_refused_with_is_counted(server: Server) -> None:
    def counts() -> dict[str, float]:
        text = httpx.get(server.url + "/metrics").text
        found = re.findall(r'ftrl_requests_total{route="other",status="(.+)"} (.+)', text)
        return {status: float(count) for status, count in found}

    before = counts()
    assert talk_raw(server.port, b"nonsense\r\n\r\n").startswith(b"HTTP/1.1 400 ")
    assert talk_raw(server.port, head_of(5000)).startswith(b"HTTP/1.1 431 ")
    with connect(server) as connection:
        assert until_closed(connection)[0].startswith(b"HTTP/1.1 408 ")
    opened = [connect(server) for _ in range(20)]
    try:
        with connect(server) as one_more:
            assert until_closed(one_more)[0].startswith(b"HTTP/1.1 503 ")
    finally:
        for connection in opened:
            connection.close()
    after = counts()
    for status in ("400", "408", "431", "503"):
        assert after[status] > before.get(status, 0), status


def test_so_many_connections_and_no_more(server: Server) -> None:
    opened = [connect(server) for _ in range(20)]
    try:
        for connection in opened:
            connection.sendall(REQUEST)
            assert status_of(connection) == b"200"
        with connect(server) as one_more:
            answer, _ = until_closed(one_more)
        assert answer.startswith(b"HTTP/1.1 503 ")
        assert b"retry-after: 1" in answer
        opened[0].sendall(REQUEST)
        assert status_of(opened[0]) == b"200"
    finally:
        for connection in opened:
            connection.close()
    assert httpx.post(server.url + "/score", content=BODY).status_code == 200


def event(count: int) -> dict[str, Any]:
    return {f"f{number}": number for number in range(count)}


@pytest.mark.parametrize("most", [10, 2000])
def test_so_many_fields_and_no_more(most: int) -> None:
    scorer = Scorer(snapshot_of(1), max_fields=most)

    def score(context: dict[str, Any], *candidates: dict[str, Any]) -> list[float]:
        return scorer.score(json.dumps({"context": context, "candidates": list(candidates)}).encode()).scores

    assert len(score(event(most), event(most), event(most))) == 2
    assert len(score({"tags": list(range(3 * most))}, {})) == 1, "the entries of a list are one field"
    nested = {"a": event(most), "b": 1}
    for context, candidates, where in (
        (event(most + 1), [{}], "context"),
        ({}, [event(1), event(most + 1)], r"candidates\[1\]"),
        (nested, [{}], "context"),
    ):
        found = rf"{where} has {most + 1} fields and {most} are allowed"
        with pytest.raises(TooManyFieldsError, match=found):
            score(context, *candidates)


def test_too_many_fields_are_a_422(tmp_path: Path, model: Path) -> None:
    with serving(model, "--max-fields", "10") as server:
        answer = httpx.post(server.url + "/score", json={"context": event(11)})
        assert (answer.status_code, set(answer.json())) == (422, {"error"})
        assert httpx.post(server.url + "/score", json={"context": event(10)}).status_code == 200


# The token.


def test_the_token(model: Path, tmp_path: Path) -> None:
    (tmp_path / "token").write_text(TOKEN + "\n")
    with (
        serving(model, "--token-file", str(tmp_path / "token"), "--access-log") as server,
        httpx.Client(base_url=server.url) as client,
    ):
        for wrong in (
            {},
            {"authorization": "Bearer " + TOKEN[:-1]},
            {"authorization": "Bearer x" + TOKEN},
            {"authorization": TOKEN},
            {"authorization": "Basic " + TOKEN},
            {"authorization": "Bearer"},
        ):
            for method, path in (("POST", "/score"), ("GET", "/model"), ("GET", "/metrics"), ("GET", "/no")):
                answer = client.request(method, path, headers=wrong)
                assert answer.status_code == 401, (wrong, path)
                assert answer.headers["www-authenticate"].startswith("Bearer")
                assert TOKEN not in answer.text
        for path in ("/healthz", "/readyz"):
            assert client.get(path).status_code == 200
        for right in ("Bearer " + TOKEN, "bearer " + TOKEN):
            headers = {"authorization": right}
            assert client.post("/score", content=BODY, headers=headers).status_code == 200
            metrics = client.get("/metrics", headers=headers).text
        assert 'status="401"' in metrics
        assert TOKEN not in Path(f"/proc/{server.process.pid}/cmdline").read_text()
        server.process.terminate()
        stdout, stderr = server.process.communicate(timeout=30)
        assert "/score" in stderr
        assert TOKEN not in stdout + stderr


def test_the_token_of_the_environment(model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTRL_TOKEN", TOKEN)
    with serving(model, "--workers", "2") as server:
        assert httpx.get(server.url + "/model").status_code == 401
        with_token = httpx.get(server.url + "/model", headers={"authorization": f"Bearer {TOKEN}"})
        assert with_token.status_code == 200


def test_a_bad_token_is_refused_without_showing_it(tmp_path: Path) -> None:
    for text in ("", "two words", "one\ntwo", "ümlaut", "x" * 5000):
        (tmp_path / "token").write_text(text)
        with pytest.raises(ConfigError, match=r"--token-file .*token") as caught:
            read_token(str(tmp_path / "token"), None)
        assert text == "" or text not in str(caught.value)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_token(str(tmp_path / "none"), None)
    with pytest.raises(ConfigError, match="FTRL_TOKEN"):
        read_token(None, "")
    (tmp_path / "token").write_text("file")
    assert read_token(str(tmp_path / "token"), "environment") == "file"
    assert read_token(None, "environment") == "environment"
    assert read_token(None, None) is None


def test_an_application_with_a_token(tmp_path: Path) -> None:
    app = create_app(tmp_path, token="abc")
    sent: list[Any] = []

    async def ask() -> None:
        async def receive() -> dict[str, Any]:
            return {"type": "http.request", "body": b"", "more_body": False}

        async def send(message: Any) -> None:
            sent.append(message)

        await app({"type": "http", "method": "GET", "path": "/model", "headers": []}, receive, send)

    import asyncio

    asyncio.run(ask())
    app.store.stop()
    assert sent[0]["status"] == 401


def test_who_listens_to_all_without_a_token_is_warned(model: Path) -> None:
    for flags, warned in ((["--host", "0.0.0.0"], True), ([], False)):
        with serving(model, *flags) as server:
            server.process.terminate()
            _, stderr = server.process.communicate(timeout=30)
        assert ("warning" in stderr and "FTRL_TOKEN" in stderr) == warned


# The access log.


@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_access_log(model: Path, workers: str) -> None:
    with serving(model, "--access-log", "--quiet", "--workers", workers) as server:
        assert httpx.post(server.url + "/score?key=secret", content=BODY).status_code == 200
        assert (
            httpx.get(server.url + "/nowhere", headers={"authorization": "Bearer hidden"}).status_code == 404
        )
        server.process.terminate()
        _, stderr = server.process.communicate(timeout=30)
    first, second = (json.loads(line) for line in stderr.splitlines())
    assert set(first) == {"time", "pid", "client", "method", "path", "status", "bytes", "seconds"}
    assert (first["method"], first["path"], first["status"]) == ("POST", "/score", 200)
    assert (second["path"], second["status"]) == ("/nowhere", 404)
    assert first["bytes"] > 50
    assert 0 < first["seconds"] < 5
    assert "secret" not in stderr
    assert "hidden" not in stderr


# The end.


@pytest.mark.parametrize("workers", ["1", "2"])
def test_not_ready_then_drained_then_stopped(model: Path, workers: str) -> None:
    with serving(model, "--drain", "1500ms", "--workers", workers) as server:
        assert httpx.get(server.url + "/readyz").status_code == 200
        began = time.monotonic()
        server.process.send_signal(signal.SIGTERM)
        answer = httpx.get(server.url + "/readyz")
        while answer.status_code == 200:
            assert time.monotonic() < began + 1.2, "it must say that it is not ready"
            answer = httpx.get(server.url + "/readyz")
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        # New requests are still answered, on new connections.
        assert httpx.post(server.url + "/score", content=BODY).status_code == 200
        assert httpx.get(server.url + "/healthz").status_code == 200
        with connect(server) as connection:
            connection.sendall(REQUEST[:-5])
            time.sleep(max(0.0, began + 1.7 - time.monotonic()))
            connection.sendall(REQUEST[-5:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 "), "in flight when the drain was over"
        assert server.process.wait(30) == 0
        assert time.monotonic() - began > 1.4


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_second_interrupt_insists(model: Path, workers: str) -> None:
    with serving(model, "--drain", "60s", "--workers", workers) as server:
        server.process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        assert server.process.poll() is None
        server.process.send_signal(signal.SIGINT)
        assert server.process.wait(10) == 130


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--max-fields", "0"], "max_fields must be between 1 and"),
        (["--header-timeout", "soon"], "--header-timeout must be like"),
        (["--max-header", "1"], "max_header must be between 256"),
        (["--workers", "0"], "workers must be between 1 and 256, got 0"),
        (["--drain", "soon"], "--drain must be like"),
        (["--token-file", "/nowhere/token"], "--token-file /nowhere/token: cannot be read"),
    ],
)
def test_wrong_flags(flags: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", str(tmp_path), "--port", "0", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert what in line


def test_help_names_every_limit() -> None:
    text = subprocess.run([*FTRL, "serve", "--help"], capture_output=True, text=True, check=True).stdout
    for flag in ("--workers", "--max-fields", "--header-timeout", "--token-file", "--drain", "--access-log"):
        assert flag in text
    assert os.environ.get("FTRL_TOKEN") is None
