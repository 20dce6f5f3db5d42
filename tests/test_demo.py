"""`ftrl demo` for real, with all its processes: what it says, what it leaves, how it ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from ftrl_engine.cli import main
from ftrl_engine.errors import FtrlError
from ftrl_engine.snapshot import Snapshot
from serving import demo_command
from serving.demo_events import BLOCK_ROWS, EventWriter, good_event
from serving.demo_processes import Client, Command, wait_until
from serving.scorer import Scorer
from streams.click_events import BestLogLoss
from streams.model_directory import newest_snapshots
from streams.simulate import ClickStream

DEMO = (sys.executable, "-m", "ftrl_engine", "demo")


def running(text: str) -> list[int]:
    """The processes whose command line holds ``text``."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if text.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


@contextmanager
def demo(tmp_path: Path, *flags: str) -> Iterator[subprocess.Popen[str]]:
    """A demo whose temporary files go to ``tmp_path``."""
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    process = subprocess.Popen(
        [*DEMO, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
        process.communicate()


def test_the_next_commands_can_be_typed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path))
    programs = tmp_path / "my venv" / "bin"
    programs.mkdir(parents=True)
    monkeypatch.setattr(sys, "executable", str(programs / "python"))
    assert demo_command._ftrl() == f"'{programs / 'python'}' -m ftrl_engine"
    (programs / "ftrl").touch()
    assert demo_command._ftrl() == "'my venv/bin/ftrl'"
    (tmp_path / "ftrl").touch(0o755)
    assert demo_command._ftrl() == "ftrl"


def read_until(process: subprocess.Popen[str], text: str) -> None:
    assert process.stderr is not None
    for line in process.stderr:
        if text in line:
            return
    raise AssertionError(f"the demo has ended with status {process.wait()} and has not said {text!r}")


def test_a_short_demo(tmp_path: Path) -> None:
    keep = tmp_path / "kept"
    with demo(
        tmp_path, "--seconds", "4", "--rate", "4000", "--seed", "3", "--json", "--keep", str(keep)
    ) as process:
        stdout, stderr = process.communicate()
    assert process.returncode == 0, stderr
    (line,) = stdout.splitlines()
    facts = json.loads(line)
    shown = [text for text in stderr.splitlines() if "best possible" in text]
    assert 3 <= len(shown) <= 6
    assert running(str(keep)) == []
    # The learner has learned what was written, and the best log loss is that of the same events.
    assert facts["rejected"] == 0
    assert 2048 < facts["rows"] <= 2048 + 6 * 4000
    stream, best = ClickStream(seed=3), BestLogLoss()
    for index in range(facts["rows"] // BLOCK_ROWS + 1):
        events = stream.block(index, BLOCK_ROWS).part(0, min(BLOCK_ROWS, facts["rows"] - index * BLOCK_ROWS))
        best.update(events.label, events.probability)
    assert best.rows == facts["rows"]
    assert facts["best_log_loss"] == pytest.approx(best.loss, abs=2e-3)
    assert facts["best_log_loss"] < facts["log_loss"] < 1.15 * facts["constant_log_loss"]
    assert facts["snapshots_served"] >= 3
    assert facts["largest_age_seconds"] < 60
    # The last score is that of the newest snapshot that is left behind.
    newest = newest_snapshots(keep / "model")[0]
    assert newest.stem == str(facts["rows"])
    scored = Scorer(Snapshot.load(newest)).score(json.dumps({"context": facts["score"]["event"]}).encode())
    assert scored.scores[0] == pytest.approx(facts["score"]["last"], abs=1e-9)
    assert facts["score"]["first"] != facts["score"]["last"]
    assert "click" not in facts["score"]["event"]


def test_a_signal_ends_everything(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "600", "--rate", "1000") as process:
        read_until(process, "learned")
        assert len(running(str(tmp_path))) >= 2
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 130
    assert "Traceback" not in stderr
    assert stdout == ""
    assert running(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_is_left_of_a_demo_that_is_killed(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "600", "--rate", "1000") as process:
        read_until(process, "learned")
        assert len(running(str(tmp_path))) >= 2
        process.kill()
        process.wait()
        wait_until(lambda: running(str(tmp_path)) == [], 30, "the end of the commands", lambda: None)
    # They have ended in order: what was learned last is saved.
    (folder,) = tmp_path.iterdir()
    newest = newest_snapshots(folder / "model")[0]
    assert (folder / "model" / "checkpoints" / newest.name).exists()


def test_a_command_that_dies_fails_the_demo(tmp_path: Path) -> None:
    with demo(tmp_path, "--seconds", "600", "--rate", "1000") as process:
        read_until(process, "learned")
        (folder,) = tmp_path.iterdir()
        (learner,) = running(f"log:{folder}")
        os.kill(learner, signal.SIGKILL)
        _, stderr = process.communicate(timeout=60)
        assert process.returncode == 1
    assert "`ftrl learn` has ended with status -9" in stderr
    assert "Traceback" not in stderr
    assert running(str(tmp_path)) == []
    assert list(tmp_path.iterdir()) == []


def test_the_last_words_of_a_command_are_told(tmp_path: Path) -> None:
    command = Command(
        tmp_path, "learn", "nothing.here", "--model", str(tmp_path / "m"), "--schema", "no-such-schema"
    )
    with pytest.raises(
        FtrlError, match="`ftrl learn` has ended with status 2: ftrl learn: schema 'no-such-schema'"
    ):
        wait_until(lambda: False, 60, "its end", command.check)
    command.end()
    with pytest.raises(FtrlError, match=r"a miracle has not happened in 0\.1 s"):
        wait_until(lambda: False, 0.1, "a miracle", lambda: None)


def test_no_server_is_an_error() -> None:
    with pytest.raises(FtrlError, match="does not answer GET /healthz"):
        Client("127.0.0.1", 1).ask("GET", "/healthz")


def test_the_pace_and_the_truth_of_the_events(tmp_path: Path) -> None:
    stream = ClickStream(seed=1)
    writer = EventWriter(tmp_path / "log", stream, rate=20_000)
    assert writer.best_log_loss(10) is None
    writer.start()
    writer.release()
    time.sleep(0.5)
    writer.stop()
    assert writer.error is None
    assert 2048 < writer.rows < 2048 + 20_000
    lines = b"".join(path.read_bytes() for path in sorted((tmp_path / "log").glob("*.jsonl"))).splitlines()
    assert len(lines) == writer.rows
    numbers = [int(json.loads(line)["id"][1:]) for line in lines]
    assert numbers == list(range(writer.rows))
    best = BestLogLoss()
    events = stream.block(0, BLOCK_ROWS).part(0, 2048)
    best.update(events.label, events.probability)
    assert writer.best_log_loss(2048) == pytest.approx(best.loss, rel=1e-12)


def test_a_writer_that_fails_says_so(tmp_path: Path) -> None:
    (tmp_path / "log").write_text("a file")
    writer = EventWriter(tmp_path / "log", ClickStream(seed=1), rate=10)
    writer.start()
    writer.release()
    writer.stop()
    assert writer.error is not None


def test_the_good_event_is_good() -> None:
    stream = ClickStream(seed=2)
    event, probability = good_event(stream)
    assert probability > 2 * stream.ctr
    assert event["item_id"] in {f"i{number}" for number in range(20)}


@pytest.mark.parametrize(
    ("flags", "what"),
    [
        (["--seconds", "0"], "--seconds must be between 1 and 3600, got 0"),
        (["--rate", "nan"], "--rate must be between 1 and 1000000, got nan"),
        (["--seed", "-1"], "--seed must be between"),
        (["--keep", "FULL"], "there is something already"),
    ],
)
def test_wrong_flags(flags: list[str], what: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    words = [str(tmp_path / "full") if flag == "FULL" else flag for flag in flags]
    assert main(["demo", *words]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert what in line
