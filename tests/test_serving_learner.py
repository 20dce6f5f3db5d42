"""`ftrl serve --learn`: the closed loop with real processes, a learner that dies, one that must not stay."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest

from ftrl_engine.cli import main
from serving.learner_process import LearnerProcess
from serving.server_state import LearnerState
from streams.event_log import LogWriter
from streams.model_directory import ModelDirectory
from tests.serving_process import FTRL, START_SECONDS, serving

linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def wait_for(happened: Callable[[], bool], seconds: float = START_SECONDS) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"it has not happened in {seconds} s"
        time.sleep(0.01)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


class Loop:
    """A client of a server that learns."""

    def __init__(self, url: str) -> None:
        self.client = httpx.Client(base_url=url, timeout=60)
        self.sent = 0

    def feed(self, **event: Any) -> None:
        answer = self.client.post("/feedback", json=event)
        assert answer.status_code == 200, answer.text
        self.sent += 1

    def score(self) -> tuple[int, float]:
        """(rows learned, score of an event that is never fed)."""
        answer = self.client.post("/score", json={"context": {"user": "nobody"}}).json()
        return answer["model"]["rows"], answer["scores"][0]

    def learner(self) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get("/readyz").json()["learner"]
        return found

    def wait_learned(self) -> float:
        """Seconds until everything that was fed is served."""
        began = time.monotonic()
        wait_for(lambda: self.score()[0] == self.sent)
        return time.monotonic() - began

    def wait_first_model(self) -> None:
        wait_for(lambda: self.client.post("/feedback", json={"click": 1, "user": "a"}).status_code == 200)
        self.sent = 1
        wait_for(lambda: self.client.get("/readyz").status_code == 200)

    def close(self) -> None:
        self.client.close()


@linux
@pytest.mark.slow
@pytest.mark.parametrize("workers", ["1", "2"])
def test_the_loop_is_closed_and_a_dead_learner_comes_back(tmp_path: Path, workers: str) -> None:
    stream = f"log:{tmp_path / 'events'}"
    flags = ["--learn", stream, "--feedback", stream, "--workers", workers]
    with serving(tmp_path / "m", *flags) as server:
        loop = Loop(server.url)
        loop.wait_first_model()
        problems: list[str] = []
        stop = threading.Event()
        scorer = threading.Thread(target=score_on, args=[server.url, stop, problems])
        scorer.start()
        try:
            choose, seconds = random.Random(3), []
            _, before = loop.score()
            for number in range(12):
                time.sleep(choose.random())
                loop.feed(click=number % 4 == 0, user=f"u{number}", id=number)
                seconds.append(loop.wait_learned())
            # The machine may hiccup once.
            assert sorted(seconds)[-2] < 2.0, seconds
            assert loop.score()[1] < before - 0.1, "three of four were no clicks"

            state = loop.learner()
            assert (state["running"], state["restarts"], state["error"]) == (True, 0, None)
            os.kill(state["pid"], signal.SIGKILL)
            loop.feed(click=0, user="after the kill")
            loop.wait_learned()
            again = loop.learner()
            assert (again["running"], again["restarts"]) == (True, 1)
            assert again["pid"] != state["pid"]
            assert "status -9" in again["error"]
            assert "ftrl_learner_restarts_total 1.0" in loop.client.get("/metrics").text
        finally:
            stop.set()
            scorer.join()
        assert problems == []
        server.process.kill()
        # Nobody told it: its standard input ended.
        wait_for(lambda: not alive(again["pid"]), 60)
        loop.close()
    assert len(ModelDirectory.open(tmp_path / "m").checkpoints()) >= 1
    learned = ModelDirectory.open(tmp_path / "m").checkpoints()[0].stem
    assert int(learned) == loop.sent, "it has ended in order"


def score_on(url: str, stop: threading.Event, problems: list[str]) -> None:
    with httpx.Client(base_url=url, timeout=60) as client:
        while not stop.wait(0.01):
            answer = client.post("/score", json={"context": {"user": "u1"}})
            if answer.status_code != 200:
                problems.append(answer.text)


@linux
def test_a_signal_ends_server_and_learner_in_order(tmp_path: Path) -> None:
    with LogWriter(tmp_path / "events") as log:
        log.append(b'{"click": 1, "user": "u"}\n' * 50)
    flags = [
        "--learn",
        f"log:{tmp_path / 'events'}",
        "--bits",
        "12",
        "--l1",
        "0.5",
        "--publish-every",
        "50ms",
    ]
    with serving(tmp_path / "m", *flags) as server, httpx.Client(base_url=server.url, timeout=60) as client:
        wait_for(lambda: client.get("/readyz").status_code == 200)
        pid = client.get("/readyz").json()["learner"]["pid"]
        assert client.get("/model").json()["learner"]["l1"] == 0.5
        assert client.get("/model").json()["bits"] == 12
        server.process.terminate()
        assert server.process.wait(60) == 0
        assert not alive(pid)
    assert ModelDirectory.open(tmp_path / "m").checkpoints()[0].stem == "50"


def test_flags_that_the_learner_refuses_end_the_server(tmp_path: Path) -> None:
    command = [*FTRL, "serve", "--model", str(tmp_path / "m"), "--port", "0", "--learn", f"log:{tmp_path}"]
    for workers in ("1", "2"):
        done = subprocess.run(
            [*command, "--alpha", "-3", "--workers", workers], capture_output=True, text=True, timeout=120
        )
        assert done.returncode == 2
        assert "learner: ftrl learn: " in done.stderr
        assert "alpha" in done.stderr


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--alpha", "0.3"], "--alpha is for learning; give --learn SOURCE as well"),
        (["--schema", "clicks"], "--schema is for learning"),
        (["--learn", "-"], "--learn -: standard input"),
        (["--kafka", "file"], "--kafka file: nothing here is a kafka:// address"),
    ],
)
def test_wrong_flags(flags: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--model", str(tmp_path), "--port", "0", *flags]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert what in line


def test_a_learner_that_cannot_start_is_tried_again_and_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "something").write_text("no model")
    state = LearnerState("events")
    hopeless = threading.Event()
    arguments = [str(tmp_path / "events.jsonl"), "--model", str(tmp_path / "m"), "--follow"]
    learner = LearnerProcess(arguments, state, hopeless.set)
    learner.start()
    wait_for(lambda: state.restarts >= 2)
    learner.stop()
    assert not state.running
    assert not hopeless.is_set()
    assert "status 1" in str(state.error)
    assert "the directory is not empty and holds no model" in str(state.error)
    assert "learner: ftrl learn: model" in capsys.readouterr().err


def test_learning_ends_with_standard_input(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LogWriter(tmp_path / "events") as log:
        log.append(b'{"click": 1, "user": "u"}\n' * 7)
    model = tmp_path / "m"
    source = f"log:{tmp_path / 'events'}"
    command = [*FTRL, "learn", source, "--model", str(model), "--follow", "--bits", "12", "--quiet"]
    process = subprocess.Popen(
        [*command, "--end-with-stdin", "--publish-every", "1rows"], stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    wait_for(lambda: (model / "snapshots" / "7.safetensors").exists())
    assert process.poll() is None
    process.stdin.close()
    assert process.wait(60) == 130
    assert ModelDirectory.open(model).checkpoints()[0].stem == "7"
    assert main(["learn", "-", "--model", str(model), "--end-with-stdin"]) == 2
    assert "--end-with-stdin" in capsys.readouterr().err
