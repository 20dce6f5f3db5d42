"""What a command says when something is wrong: the thing, the rule, the value and the cure."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ftrl_engine.cli import COMMANDS, main
from ftrl_engine.errors import ConfigError
from ftrl_engine.schema import Schema
from ftrl_engine.schema_differences import differences
from streams import learn_report
from streams.kafka_positions import position_of, position_text
from tests.codec_lines import rows_of

FTRL = (sys.executable, "-m", "ftrl_engine")
TOML = '[fields]\nx = { kind = "number", transform = "log_bucket" }\n'


def said(capsys: pytest.CaptureFixture[str], *words: object, status: int) -> str:
    """What a command writes to stderr."""
    assert main([str(word) for word in words]) == status
    return capsys.readouterr().err


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv"
    path.write_text("click,x,c\n" + "".join(f"{n % 3 == 0:d},{n}.5,c{n % 7}\n" for n in range(300)))
    return path


@pytest.fixture
def model(events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    (tmp_path / "my.toml").write_text(TOML)
    words = ("learn", events, "--schema", tmp_path / "my.toml", "--model", tmp_path / "m", "--quiet")
    said(capsys, *words, status=0)
    return tmp_path / "m"


def test_scoring_says_what_it_could_not_read(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bad, out = tmp_path / "bad.csv", tmp_path / "scores.txt"
    bad.write_text("x,c\ncheap,c1\ndear,c2\n")
    text = said(capsys, "score", bad, "--model", model, "--output", out, "--quiet", status=1)
    first = f"position 4 of {bad}: field 'x': a number must be finite"
    assert f"ftrl score: none of 2 events could be read; the first at {first}" in text
    assert "got 'cheap'" in text
    assert out.read_text() == "nan\nnan\n"
    bad.write_text("x,c\n1,c1\ndear,c2\n")
    text = said(capsys, "score", bad, "--model", model, "--output", out, status=0)
    assert "1 scored, 1 could not be read (nan); the first at position 9" in text


def test_only_learn_can_wait_for_a_file(
    model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("nofile.csv", "no*.csv", "log:nowhere"):
        assert "--follow" not in said(capsys, "score", name, "--model", model, status=1)
        assert "--follow" in said(capsys, "learn", name, "--model", tmp_path / "new", status=1)


def test_an_edited_schema(
    model: Path, events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "my.toml").write_text(TOML.replace("log_bucket", "log1p"))
    text = said(capsys, "learn", events, "--schema", tmp_path / "my.toml", "--model", model, status=2)
    assert "field 'x': transform log1p, the model has log_bucket; leave the flag out or use" in text


def test_differences_of_schemas() -> None:
    mine = Schema.from_toml('label = "a"\nignore = ["b"]\n[fields]\nx = { kind = "token" }', "s")
    other = Schema.from_toml('label = "a"\n[fields]\ny = { kind = "token" }', "s")
    assert differences(mine, other) == (
        "ignore ['b'], the model has none, field 'x': it says what it is, the model does not, "
        "field 'y': the model says what it is, it does not"
    )
    assert differences(Schema(name="a"), Schema(name="b")) == "name a, the model has b"


@pytest.mark.parametrize(
    ("header", "name", "cure"),
    [
        (b"Order ID;click;price", "csv", r"separated by ';'; write tabs instead, as with: tr ';' '\\t' <"),
        (b"Order ID\tclick", "csv", "separated by tabs; give --format tsv"),
        (b"Order ID,click", "tsv", "separated by ','; give --format csv"),
        (b"Order ID,clack", "csv", "name it in a schema"),
    ],
)
def test_another_separator(header: bytes, name: str, cure: str) -> None:
    from streams.codecs.base import open_codec

    with pytest.raises(ConfigError, match=cure):
        rows_of(open_codec(name, Schema(), 20), [b"1"], header=header)


def test_places_that_cannot_be_written(
    model: Path, events: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "absent" / "scores.txt"
    text = said(capsys, "score", events, "--model", model, "--output", out, status=1)
    assert f"--output {out}: cannot be written: No such file or directory; name a file" in text
    text = said(capsys, "learn", events, "--model", events, status=1)
    assert f"model {events}: is a file; name a directory with --model" in text


def test_positions_for_people() -> None:
    assert position_text("kafka://clicks/0?id=x", position_of(100_000)) == "offset 100,000"
    assert position_text("kafka://clicks/0", position_of(7, 3)) == "offset 7, record 3"
    assert position_text("/data/events.csv", 12_345_678) == "12,345,678"


def test_an_interrupted_run_says_how_to_go_on(events: Path, tmp_path: Path) -> None:
    words = [*FTRL, "learn", str(events), "--model", str(tmp_path / "m"), "--follow"]
    learn = subprocess.Popen(words, stderr=subprocess.PIPE, text=True)
    try:
        deadline = time.monotonic() + 120
        while not any((tmp_path / "m" / "snapshots").glob("*.safetensors")):
            assert time.monotonic() < deadline
            assert learn.poll() is None
            time.sleep(0.05)
        learn.send_signal(signal.SIGINT)
        _, text = learn.communicate(timeout=60)
    finally:
        learn.kill()
        learn.communicate()
    assert learn.returncode == 130
    assert text.endswith("interrupted; the same command goes on from here\n")


def test_the_largest_weights_of_a_small_model_have_names(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    clicks, model = tmp_path / "clicks.jsonl", tmp_path / "m"
    said(capsys, "simulate", "--to", clicks, "--rows", 5000, "--quiet", status=0)
    said(capsys, "learn", clicks, "--schema", "clicks", "--model", model, "--quiet", status=0)
    assert main(["inspect", "--model", str(model), "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert all(entry["names"] for entry in facts["largest_weights"])


def test_the_live_line_fits_beside_its_bar() -> None:
    shown: list[str] = []
    metrics = SimpleNamespace(log_loss=0.123456, calibration=1.00012)
    trainer = SimpleNamespace(
        run_metrics=metrics, rows=12_345_678, rejected=0, nonzero_weights=123_456, source=None, started=0.0,
        options=SimpleNamespace(clock=lambda: 15.5),
    )  # fmt: skip
    progress = SimpleNamespace(show=lambda text, fraction: shown.append(text))
    learn_report.report(cast(Any, trainer), cast(Any, progress))
    assert len(shown[0]) + len("======== ") <= 80


def test_a_seed_that_does_nothing_is_accepted_and_not_shown(
    model: Path, events: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("learn", "score", "inspect", "serve", "warmup"):
        assert name in COMMANDS
        with pytest.raises(SystemExit):
            main([name, "--help"])
        assert "--seed" not in capsys.readouterr().out
    said(capsys, "score", events, "--model", model, "--seed", 3, "--quiet", status=0)
