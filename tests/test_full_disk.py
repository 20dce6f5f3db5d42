"""A full disk: what cannot be written is named, with what it is and the cure."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.model_directory import ModelDirectory

FTRL = [sys.executable, "-m", "ftrl_engine"]
ROW = b'{"label": 1, "user": "a"}\n'
LARGEST = 100 << 10
needs_full = pytest.mark.skipif(not os.path.exists("/dev/full"), reason="there is no /dev/full")


def small_files() -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (LARGEST, LARGEST))


def told(words: list[object], limit: Callable[[], None] | None = None, stdout: int | None = None) -> str:
    """The last line on stderr of a command that fails."""
    out = subprocess.DEVNULL if stdout is None else stdout
    command = [*FTRL, *map(str, words)]
    done = subprocess.run(command, stdout=out, stderr=subprocess.PIPE, preexec_fn=limit, timeout=240)
    assert done.returncode == 1, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done.stderr.decode().splitlines()[-1]


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.jsonl"
    path.write_bytes(ROW * 3000 + b"no json at all, and that many times over\n" * 20_000)
    return path


@pytest.fixture
def model(events: Path, tmp_path: Path) -> Path:
    path = tmp_path / "m"
    words = [*FTRL, "learn", str(events), "--model", str(path), "--bits", "10", "--limit", "1000", "--quiet"]
    assert subprocess.run(words, timeout=240).returncode == 0
    return path


def rows(model: Path) -> int:
    done = subprocess.run([*FTRL, "inspect", "--model", str(model), "--json"], capture_output=True)
    return int(json.loads(done.stdout)["rows"])


def test_refused_events_that_find_no_room(events: Path, model: Path) -> None:
    text = told(["learn", events, "--model", model], small_files)
    assert text == (
        f"ftrl learn: model {model}: the file rejected.jsonl of refused events cannot be written (File too "
        "large); what was saved before is intact, make room and learn again"
    )
    assert rows(model) >= 1000
    done = subprocess.run([*FTRL, "learn", str(events), "--model", str(model), "--json"], capture_output=True)
    assert json.loads(done.stdout)["total"]["rows"] == 3000


def test_a_new_model_says_what_of_it_is_saved(events: Path, tmp_path: Path) -> None:
    events.write_bytes(b"no json at all, and that many times over\n" * 20_000)
    text = told(["learn", events, "--model", tmp_path / "new", "--bits", "10"], small_files)
    assert (
        "rejected.jsonl of refused events cannot be written (File too large); nothing of it is saved" in text
    )
    assert not ModelDirectory.exists(tmp_path / "new")


@needs_full
def test_a_full_destination_of_refused_events(events: Path, model: Path) -> None:
    text = told(["learn", events, "--model", model, "--rejects", "/dev/full"])
    assert "the destination /dev/full of refused events cannot be written (No space left on device)" in text
    assert text.endswith("what was saved before is intact, make room and learn again")


def test_a_device_may_take_refused_events(events: Path, model: Path) -> None:
    words = ["learn", str(events), "--model", str(model), "--rejects", os.devnull, "--quiet"]
    assert subprocess.run([*FTRL, *words], timeout=240).returncode == 0


def test_scores_that_find_no_room(events: Path, model: Path, tmp_path: Path) -> None:
    scores = tmp_path / "scores"
    text = told(["score", events, "--model", model, "--output", scores], small_files)
    assert text == (
        f"ftrl score: --output {scores}: the scores cannot be written (File too large) and those that are "
        "there are incomplete; make room and score again"
    )


@needs_full
def test_scores_to_a_full_device(events: Path, model: Path) -> None:
    events.write_bytes(ROW * 10)  # fewer than a buffer holds
    text = told(["score", events, "--model", model, "--output", "/dev/full"])
    assert "--output /dev/full: the scores cannot be written (No space left on device)" in text
    with open("/dev/full", "wb") as full:
        text = told(["score", events, "--model", model], stdout=full.fileno())
    assert "standard output: the scores cannot be written (No space left on device)" in text


def test_checkpoints_that_are_removed_while_a_new_model_is_learned(tmp_path: Path) -> None:
    model = tmp_path / "m"
    words = [*FTRL, "learn", "-", "--format", "jsonl", "--model", str(model), "--bits", "10"]
    words += ["--checkpoint-every", "100rows", "--publish-every", "100rows"]
    with subprocess.Popen(words, stdin=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stderr is not None
        process.stdin.write(ROW * 500)
        process.stdin.flush()
        while not list(model.glob("snapshots/500.*")):
            assert process.poll() is None
            time.sleep(0.05)
        shutil.rmtree(model / "checkpoints")
        process.stdin.write(ROW * 500)
        process.stdin.close()
        text = process.stderr.read().decode()
    assert process.returncode == 1
    assert re.search(
        r"the checkpoint cannot be written \(No such file or directory\); its checkpoints are gone", text
    )
    assert "intact" not in text
    # What scores is still a model.
    assert ModelDirectory.exists(model)
    path = tmp_path / "events.jsonl"
    path.write_bytes(ROW)
    done = subprocess.run([*FTRL, "score", str(path), "--model", str(model)], capture_output=True)
    assert done.returncode == 0, done.stderr.decode()
    assert "snapshots but no checkpoint" in told(["learn", path, "--model", model])
