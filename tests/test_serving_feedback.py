"""POST /feedback over real processes: durable, idempotent, refused by name; `kill -9` loses nothing."""

from __future__ import annotations

import itertools
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from ftrl_engine.cli import main
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from streams.event_log import LogWriter
from tests.serving_process import Server, serving

BITS = 12
SCHEMA = Schema.from_toml('label = "click"\n[fields]\nprice = { kind = "number" }')
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def publish(model: Path, rows: int) -> None:
    slots = np.arange(1 << BITS, dtype=np.uint32)
    weights = np.full(len(slots), 0.5, dtype=np.float32)
    snapshot = Snapshot(slots, weights, -1.0, BITS, SCHEMA, {"rows": rows, "published_at": time.time()})
    (model / "snapshots").mkdir(parents=True, exist_ok=True)
    snapshot.save(model / "snapshots" / f"{rows}.safetensors")


def stored(log: Path) -> list[dict[str, Any]]:
    return [
        json.loads(line) for path in sorted(log.glob("*.jsonl")) for line in path.read_bytes().splitlines()
    ]


def children(pid: int) -> list[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


def wait_for(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"it has not happened in {seconds} s"
        time.sleep(0.02)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("model")
    publish(model, 3)
    return model


@pytest.fixture(scope="module", params=["1", "2"])
def server(
    request: pytest.FixtureRequest, model: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    log = tmp_path_factory.mktemp("log")
    flags = ["--feedback", f"log:{log}", "--workers", request.param, "--max-candidates", "50"]
    with serving(model, *flags) as server:
        yield Server(server.process, server.facts | {"log": log})


@pytest.fixture
def client(server: Server) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def test_events_are_stored_before_the_answer(server: Server, client: httpx.Client) -> None:
    log = server.facts["log"]
    before = len(stored(log))
    one = client.post("/feedback", json={"click": 1, "user": "u", "price": 2})
    assert (one.status_code, one.json()) == (200, {"accepted": 1, "duplicates": 0, "duplicate": False})
    events = [{"click": 0, "user": "u"}, {"click": 1, "user": "v", "id": "e1"}]
    several = client.post("/feedback", json={"events": events})
    assert several.json() == {"accepted": 2, "duplicates": 0}
    new = stored(log)[before:]
    assert new[:2] == [{"click": 1, "user": "u", "price": 2}, {"click": 0, "user": "u"}]
    assert {"click": 1, "user": "v"}.items() <= new[2].items()
    assert len(new) == 3


def test_the_same_id_is_stored_once_whichever_worker_is_asked(server: Server) -> None:
    log = server.facts["log"]
    before = len(stored(log))
    body = {"events": [{"click": 1, "id": f"twice {number}"} for number in range(5)]}
    answers = []
    for _ in range(8):
        with httpx.Client(base_url=server.url, timeout=60) as client:  # another connection each time
            answers.append(client.post("/feedback", json=body).json())
    assert answers == [{"accepted": 5, "duplicates": 0}] + [{"accepted": 0, "duplicates": 5}] * 7
    with httpx.Client(base_url=server.url, timeout=60) as client:
        single = client.post("/feedback", json={"click": 1, "id": "twice 0"})
        assert (single.status_code, single.json()["duplicate"]) == (200, True)
    assert len(stored(log)) == before + 5


def test_wrong_events_are_named_and_nothing_of_the_request_is_stored(
    server: Server, client: httpx.Client
) -> None:
    log = server.facts["log"]
    before = len(stored(log))
    good = {"click": 1, "user": "u"}
    for wrong, names in (
        ({"user": "u"}, ["'click'", "events[1]"]),
        ({"click": 2}, ["'click'", "events[1]", "0 or 1"]),
        ({"click": 1, "price": "dear"}, ["'price'", "events[1]", "'dear'"]),
        ({"click": 1, "tags": [[1]]}, ["'tags'"]),
        ({"click": 1, "id": []}, ["'id'", "events[1]"]),
    ):
        answer = client.post("/feedback", json={"events": [good, wrong]})
        assert (answer.status_code, set(answer.json())) == (400, {"error"})
        for name in names:
            assert name in answer.json()["error"]
        assert client.post("/feedback", json=wrong).status_code == 400
    too_many = client.post("/feedback", json={"events": [good] * 51})
    assert too_many.status_code == 413
    assert "51 events" in too_many.json()["error"]
    assert client.post("/feedback", content=b'{"click": 1, "x": "\xff"}').status_code == 400
    assert client.get("/feedback").status_code == 405
    assert len(stored(log)) == before


def test_metrics_tell_how_good_the_served_scores_are(server: Server, client: httpx.Client) -> None:
    def found() -> dict[str, float]:
        text = client.get("/metrics").text
        pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
        return {name: float(value) for name, value in pairs if name.startswith("ftrl_feedback")}

    before = found()
    score = client.post("/score", json={"context": {"user": "a"}}).json()["scores"][0]
    events = [{"click": 1, "user": "a", "id": "m1"}, {"click": 0, "user": "b"}, {"click": 0, "user": "c"}]
    for _ in range(2):
        client.post("/feedback", json={"events": events[:1]})
    client.post("/feedback", json={"events": events[1:]})
    change = {name: value - before[name] for name, value in found().items()}
    assert change.pop("ftrl_feedback_scores_sum_total") == pytest.approx(3 * score)
    loss = -np.log(score) - 2 * np.log(1 - score)
    assert change.pop("ftrl_feedback_log_loss_sum_total") == pytest.approx(loss)
    assert change == {
        "ftrl_feedback_events_total": 3,
        "ftrl_feedback_duplicates_total": 1,
        "ftrl_feedback_scored_total": 3,
        "ftrl_feedback_labels_sum_total": 1,
        "ftrl_feedback_failing": 0,
    }
    assert client.get("/readyz").json()["feedback"] == {
        "destination": f"log:{server.facts['log']}",
        "error": None,
    }


@linux
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_kill_9_loses_no_acknowledged_feedback_and_repeats_none(
    model: Path, tmp_path: Path, workers: str
) -> None:
    log = tmp_path / "log"
    acknowledged: list[set[str]] = [set() for _ in range(6)]
    numbers = itertools.count()
    stop = threading.Event()
    address: list[str] = []

    def send(mine: set[str], name: int) -> None:
        """Every id again and again until it is acknowledged, whatever happens to the server."""
        with httpx.Client(timeout=10) as client:
            while not stop.is_set():
                ids = [f"{name}-{next(numbers)}" for _ in range(3)]
                body = {"events": [{"click": 1, "id": each} for each in ids]}
                while not stop.is_set():
                    with suppress(httpx.HTTPError):
                        if client.post(address[-1] + "/feedback", json=body).status_code == 200:
                            mine.update(ids)
                            break
                    time.sleep(0.01)

    threads = [threading.Thread(target=send, args=pair) for pair in zip(acknowledged, range(6), strict=True)]
    for round_ in range(3):
        with serving(model, "--feedback", f"log:{log}", "--workers", workers) as server:
            address.append(server.url)
            if not round_:
                for thread in threads:
                    thread.start()
            known = sum(map(len, acknowledged))
            wait_for(lambda known=known: sum(map(len, acknowledged)) > known + 100)  # type: ignore[misc]
            pids = [*children(server.process.pid), server.process.pid]
            if round_ < 2:
                os.kill(server.process.pid, signal.SIGKILL)
                # The log is free when every process of it is gone.
                wait_for(lambda pids=pids: not any(alive(pid) for pid in pids))  # type: ignore[misc]
            else:
                stop.set()
                for thread in threads:
                    thread.join()
    ids = [next(iter(event)).removeprefix("feedback_id:") for event in stored(log)]
    assert len(ids) == len(set(ids)), "sent again, stored once"
    assert set.union(*acknowledged) <= set(ids)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_before_there_is_a_model(tmp_path: Path) -> None:
    with (
        serving(tmp_path / "m", "--feedback", f"log:{tmp_path / 'log'}") as server,
        httpx.Client(base_url=server.url, timeout=60) as client,
    ):
        early = client.post("/feedback", json={"click": 1})
        assert (early.status_code, early.headers["retry-after"]) == (503, "1")
        (tmp_path / "events.jsonl").write_text('{"click": 1, "user": "u"}\n')
        schema = tmp_path / "schema.toml"
        schema.write_text('label = "click"\n[fields]\nprice = { kind = "number" }')
        model = ["--model", str(tmp_path / "m")]
        assert (
            main(["learn", str(tmp_path / "events.jsonl"), "--schema", str(schema), *model, "--quiet"]) == 0
        )
        for path in (tmp_path / "m" / "snapshots").iterdir():
            path.unlink()
        assert client.post("/feedback", json={"click": 1, "price": "dear"}).status_code == 400
        answer = client.post("/feedback", json={"click": 1, "price": 3})
        assert answer.status_code == 200
    assert stored(tmp_path / "log") == [{"click": 1, "price": 3}]


def test_without_a_stream_there_is_no_route(model: Path) -> None:
    with serving(model) as server:
        answer = httpx.post(server.url + "/feedback", json={"click": 1})
        assert answer.status_code == 404
        assert "start the server with --feedback log:DIR" in answer.json()["error"]
        assert "feedback" not in httpx.get(server.url + "/readyz").json()


def test_a_log_that_another_process_writes(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with LogWriter(tmp_path):
        flags = ["--port", "0", "--feedback", f"log:{tmp_path}"]
        for workers in ("1", "2"):
            assert main(["serve", "--model", str(model), *flags, "--workers", workers]) == 1
            (line,) = capsys.readouterr().err.splitlines()
            assert "another writer" in line
    assert main(["serve", "--model", str(model), "--port", "0", "--feedback", "events.jsonl"]) == 2
