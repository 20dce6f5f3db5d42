"""Law 3: kill at any moment, start again; the final checkpoint is the uninterrupted run's, to the byte."""

from __future__ import annotations

import gzip
import json
import math
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from streams.model_directory import ModelDirectory

KILLS = 25
CHECKPOINT_ROWS = 250
LEARN = [sys.executable, "-m", "ftrl_engine", "learn"]


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """60,000 real Criteo events where they are at hand, else simulated ones; a few lines are broken."""
    path = tmp_path_factory.mktemp("events") / "events.tsv.gz"
    real = Path(__file__).parents[2] / "shared" / "data" / "criteo" / "dac_60k.tsv.gz"
    if real.is_file():
        lines = gzip.decompress(real.read_bytes()).splitlines(keepends=True)
    else:
        from streams.simulate import criteo_rows

        lines = criteo_rows(seed=3, rows=60_000).splitlines(keepends=True)
    for at in range(500, len(lines), 997):
        lines[at] = b"7\tbroken\n"
    path.write_bytes(gzip.compress(b"".join(lines), compresslevel=1))
    return path


def learn(events: Path, model: Path, *more: str) -> dict[str, object]:
    done = subprocess.run(
        [*LEARN, str(events), "--model", str(model), "--json", *more], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


@pytest.fixture(scope="module")
def uninterrupted(events: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("whole") / "model"
    result = learn(events, model, "--schema", "criteo")
    assert result["rows"] == 60_000 - result["rejected"]  # type: ignore[operator]
    assert result["rejected"] == 60
    return model


def newest(model: Path) -> Path:
    return max((model / "checkpoints").glob("*.safetensors"), key=lambda path: int(path.stem))


def wait_for_checkpoints(
    process: subprocess.Popen[bytes], model: Path, count: int, seconds: float = math.inf
) -> bool:
    """Wait for ``count`` checkpoints newer than now, or so long; False when the process ended first."""
    folder = model / "checkpoints"
    before = max((int(p.stem) for p in folder.glob("*.safetensors")), default=0) if folder.is_dir() else 0
    began = time.monotonic()
    while time.monotonic() < began + 120:
        if process.poll() is not None:
            return False
        if time.monotonic() > began + seconds:
            return True
        if folder.is_dir():
            last = max((int(p.stem) for p in folder.glob("*.safetensors")), default=0)
            if last >= before + CHECKPOINT_ROWS * count:
                return True
        time.sleep(0.002)
    raise AssertionError("no checkpoint for two minutes")


def test_killed_25_times_gives_the_same_bytes(events: Path, uninterrupted: Path, tmp_path: Path) -> None:
    chance = random.Random(1)
    model = tmp_path / "model"
    flags = ["--checkpoint-every", f"{CHECKPOINT_ROWS}rows", "--publish-every", "700rows", "--quiet"]
    kills = 0
    while kills < KILLS:
        schema = [] if model.exists() else ["--schema", "criteo"]
        process = subprocess.Popen([*LEARN, str(events), "--model", str(model), *schema, *flags])
        # Some kills strike while a process is still starting or reading its way forward.
        seconds = chance.uniform(0.1, 1.0) if kills % 4 == 3 else math.inf
        if not wait_for_checkpoints(process, model, chance.randint(1, 4), seconds):
            assert process.wait() == 0
            break
        time.sleep(chance.uniform(0.0, 0.02))
        process.send_signal(signal.SIGKILL)
        process.wait()
        kills += 1
    assert kills >= KILLS
    final = learn(events, model)
    assert 0 < int(str(final["rows"])) < 59_000, "the last run should only learn what was left"
    assert newest(model).read_bytes() == newest(uninterrupted).read_bytes()
    assert (model / "rejected.jsonl").read_bytes() == (uninterrupted / "rejected.jsonl").read_bytes()
    whole = json.loads(
        subprocess.run(
            [sys.executable, "-m", "ftrl_engine", "inspect", "--model", str(uninterrupted), "--json"],
            capture_output=True,
            check=True,
        ).stdout
    )
    assert final["total"] == whole["metrics"] | {"rows": whole["rows"], "rejected": whole["rejected"]}


def test_learning_again_learns_nothing(events: Path, uninterrupted: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(uninterrupted, model)
    before = newest(model).read_bytes()
    assert learn(events, model)["rows"] == 0
    assert newest(model).read_bytes() == before


def test_a_limit_and_then_the_rest(events: Path, uninterrupted: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    assert learn(events, model, "--schema", "criteo", "--limit", "12345")["rows"] == 12_345
    assert learn(events, model, "--limit", "1")["rows"] == 1
    learn(events, model)
    assert newest(model).read_bytes() == newest(uninterrupted).read_bytes()


@pytest.mark.parametrize("damage", ["cut", "flip", "empty"])
def test_a_damaged_newest_checkpoint_is_passed_over(
    events: Path, uninterrupted: Path, tmp_path: Path, damage: str
) -> None:
    model = tmp_path / "model"
    learn(events, model, "--schema", "criteo", "--limit", "20000")
    learn(events, model, "--limit", "20000")
    damaged = newest(model)
    data = bytearray(damaged.read_bytes())
    data[len(data) // 2] ^= 4
    damaged.write_bytes({"cut": bytes(data[: len(data) // 2]), "flip": bytes(data), "empty": b""}[damage])
    done = subprocess.run([*LEARN, str(events), "--model", str(model)], capture_output=True, text=True)
    assert done.returncode == 0
    assert damaged.name in done.stderr
    assert newest(model).read_bytes() == newest(uninterrupted).read_bytes()


def test_all_checkpoints_damaged_is_an_error(events: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    learn(events, model, "--schema", "criteo", "--limit", "1000")
    for path in (model / "checkpoints").iterdir():
        path.write_bytes(path.read_bytes()[:-1])
    done = subprocess.run([*LEARN, str(events), "--model", str(model)], capture_output=True, text=True)
    assert done.returncode == 1
    assert "no undamaged file" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_interrupt_checkpoints_and_exits_130(events: Path, uninterrupted: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    flags = ["--schema", "criteo", "--checkpoint-every", f"{CHECKPOINT_ROWS}rows", "--quiet", "--json"]
    process = subprocess.Popen(
        [*LEARN, str(events), "--model", str(model), *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert wait_for_checkpoints(process, model, 2)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert json.loads(out)["rows"] == int(newest(model).stem) < 59_000
    learn(events, model)
    assert newest(model).read_bytes() == newest(uninterrupted).read_bytes()


def test_a_second_learner_is_refused(events: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    log = tmp_path / "log"
    log.mkdir()
    first = subprocess.Popen([*LEARN, f"log:{log}", "--model", str(model), "--follow", "--quiet"])
    try:
        deadline = time.monotonic() + 60
        while not (model / ".lock").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        time.sleep(0.3)
        second = subprocess.run(
            [*LEARN, f"log:{log}", "--model", str(model)], capture_output=True, text=True, timeout=60
        )
        assert second.returncode == 1
        assert "another learner" in second.stderr
    finally:
        first.send_signal(signal.SIGTERM)
        assert first.wait(timeout=60) == 130


def test_a_full_disk_leaves_the_last_checkpoint(events: Path, uninterrupted: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    learn(events, model, "--schema", "criteo", "--limit", "10000")
    before = newest(model).read_bytes()
    # A limit on the size of files refuses writes as a full disk does.
    script = 'ulimit -f 64; exec "$@"'
    done = subprocess.run(
        ["bash", "-c", script, "-", *LEARN, str(events), "--model", str(model)],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr
    assert newest(model).read_bytes() == before
    learn(events, model)
    assert newest(model).read_bytes() == newest(uninterrupted).read_bytes()


def test_a_place_that_cannot_be_written(events: Path, tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_text("in the way")
    done = subprocess.run(
        [*LEARN, str(events), "--model", str(blocker / "model"), "--schema", "criteo"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert "cannot be written" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_model_that_was_killed_while_it_was_made_can_be_made_again(tmp_path: Path) -> None:
    """Before its settings were there: what is in the way is no model yet."""
    for folder in ("checkpoints", "snapshots"):
        (tmp_path / folder).mkdir()
    (tmp_path / ".tmp-1-model.toml").touch()
    assert ModelDirectory.may_be_made(tmp_path)
    (tmp_path / "notes.txt").touch()
    assert not ModelDirectory.may_be_made(tmp_path)
