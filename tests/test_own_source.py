"""What is read is never written to: not by scores, not by refused events."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ftrl_engine.cli import main
from streams.event_log import LogWriter

ROW = b'{"label": 1, "user": "a"}\n'
BAD = b"no json\n"


@pytest.fixture
def events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """events-1.jsonl and a model of it, in the working directory; under other names too."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "events-1.jsonl"
    path.write_bytes(ROW * 50 + BAD)
    (tmp_path / "link.jsonl").symlink_to(path)
    (tmp_path / "hard.jsonl").hardlink_to(path)
    assert main(["learn", "events-1.jsonl", "--model", "m", "--bits", "10", "--quiet"]) == 0
    return path


PAIRS = [
    ("events-1.jsonl", "events-1.jsonl"),
    ("events-1.jsonl", "./events-1.jsonl"),
    ("events-1.jsonl", "link.jsonl"),
    ("link.jsonl", "events-1.jsonl"),
    ("events-1.jsonl", "hard.jsonl"),
    ("events-*.jsonl", "events-1.jsonl"),
    ("events-*.jsonl", "events-scores.jsonl"),  # would be found
]


@pytest.mark.parametrize(("source", "dest"), PAIRS)
def test_scores_do_not_overwrite_what_is_scored(
    source: str, dest: str, events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["score", source, "--model", "m", "--output", dest]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"ftrl score: --output {dest}: events are read from there ({source})")
    assert events.read_bytes() == ROW * 50 + BAD
    assert not Path("events-scores.jsonl").exists()


@pytest.mark.parametrize(("source", "dest"), PAIRS)
def test_refused_events_do_not_go_where_events_are_read(
    source: str, dest: str, events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["learn", source, "--model", "new", "--bits", "10", "--rejects", dest]) == 2
    assert f"--rejects {dest}: events are read from there ({source})" in capsys.readouterr().err
    assert events.read_bytes() == ROW * 50 + BAD
    assert not Path("new").exists()


def test_standard_input_may_be_the_file_too(events: Path) -> None:
    command = [sys.executable, "-m", "ftrl_engine", "score", "-", "--model", "m", "--format", "jsonl"]
    with open(events, "rb") as stdin:
        done = subprocess.run([*command, "--output", str(events)], stdin=stdin, capture_output=True)
    assert (done.returncode, events.read_bytes()) == (2, ROW * 50 + BAD)
    assert b"events are read from there (-)" in done.stderr


def test_a_log_does_not_take_what_is_refused_of_it(events: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with LogWriter("events") as log:
        log.append(ROW * 50 + BAD)
    words = ["learn", "log:events", "--bits", "10", "--quiet"]
    assert main([*words, "--model", "new", "--rejects", "log:./events"]) == 2
    assert "--rejects log:./events: events are read from there (log:events)" in capsys.readouterr().err
    assert main([*words, "--model", "new", "--rejects", "log:refused"]) == 0


def test_another_file_beside_it_is_written(events: Path) -> None:
    assert main(["score", "events-*.jsonl", "--model", "m", "--output", "scores", "--quiet"]) == 0
    assert len(Path("scores").read_text().split()) == 51
    words = ["learn", "events-*.jsonl", "--model", "new", "--bits", "10", "--rejects", "refused", "--quiet"]
    assert main(words) == 0
    assert b"no json" in Path("refused").read_bytes()
    assert main(["score", "events-1.jsonl", "--model", "m", "--output", "/dev/null", "--quiet"]) == 0
