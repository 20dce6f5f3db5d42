"""The command line as users meet it: learn, score, inspect, and how they fail."""

from __future__ import annotations

import json
import os
import re
import resource
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from ftrl_engine.cli import main
from ftrl_engine.learners import learner_names

FTRL = [sys.executable, "-m", "ftrl_engine"]
SUMMARY = {
    "rows", "rejected", "log_loss", "auc", "normalized_entropy", "calibration", "label_mean",
    "nonzero_weights", "slots_touched", "seconds", "rows_per_second", "positions", "model", "learner",
}  # fmt: skip


def ftrl(*words: object, status: int = 0, stdin: bytes | None = None) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run([*FTRL, *map(str, words)], capture_output=True, input=stdin, timeout=240)
    assert done.returncode == status, done.stderr.decode()
    assert b"Traceback" not in done.stderr
    return done


def ftrl_json(*words: object, stdin: bytes | None = None) -> Any:
    out = ftrl(*words, "--json", stdin=stdin).stdout
    assert out.count(b"\n") == 1, "one JSON object on stdout, nothing else"
    return json.loads(out)


def refusal(*words: object, status: int) -> str:
    """The one line on stderr."""
    text = ftrl(*words, status=status).stderr.decode()
    lines = [line for line in text.splitlines() if not line.startswith("compiling")]
    assert len(lines) == 1, text
    return lines[0]


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clicks") / "clicks.jsonl"
    ftrl("simulate", "--to", path, "--rows", 20_000, "--seed", 5, "--quiet")
    return path


@pytest.fixture(scope="module")
def model(clicks: Path) -> Path:
    path = clicks.parent / "model"
    ftrl("learn", clicks, "--model", path, "--quiet")
    return path


def test_help_is_complete_and_fast() -> None:
    seconds = []
    for _ in range(3):
        started = time.monotonic()
        text = ftrl("--help").stdout.decode()
        seconds.append(time.monotonic() - started)
    from ftrl_engine.cli import COMMANDS

    assert min(seconds) < 0.5
    for name in COMMANDS:
        assert f"\n  {name} " in text
        started = time.monotonic()
        assert b"--" in ftrl(name, "--help").stdout
        seconds.append(time.monotonic() - started)
    assert sorted(seconds)[len(seconds) // 2] < 0.5


def test_learn_json_has_the_names_of_the_contract(clicks: Path, tmp_path: Path) -> None:
    result = ftrl_json("learn", clicks, "--model", tmp_path / "m")
    assert set(result) >= SUMMARY
    assert result["rows"] == 20_000
    assert result["rejected"] == 0
    assert result["learner"]["name"] == "ftrl_proximal"
    assert result["positions"] == {str(clicks.resolve()): clicks.stat().st_size}
    assert abs(result["calibration"] - 1) < 0.05
    assert 0.5 < result["auc"] < 1


def test_scores_are_the_learners_next_predictions(clicks: Path, model: Path, tmp_path: Path) -> None:
    from ftrl_engine import Schema
    from streams.codecs.base import open_codec
    from streams.model_directory import ModelDirectory
    from streams.newest import read_newest
    from streams.source import open_source

    out = tmp_path / "scores.txt"
    result = ftrl_json("score", clicks, "--model", model, "--output", out, "--limit", 1000)
    assert result["rows"] == 1000
    scores = [float(line) for line in out.read_text().splitlines()]
    learner, _, _ = read_newest(ModelDirectory.open(model))
    source = open_source(str(clicks))
    block = source.poll(1.0)
    assert block is not None
    part = next(open_codec("jsonl", Schema.load("auto"), 22).encode(block))
    batch = part.batch.rows(0, 1000)
    import numpy as np

    expected = 1 / (1 + np.exp(-learner.margins(batch)))
    np.testing.assert_allclose(scores, expected, rtol=1e-5, atol=1e-7)
    source.close()


def test_scores_keep_the_order_and_mark_what_cannot_be_read(model: Path, clicks: Path) -> None:
    lines = clicks.read_bytes().splitlines(keepends=True)[:5]
    mixed = b"".join([b"{broken\n", lines[0], lines[1], b"[1]\n", b"{}\n", lines[2], b'{"click":7}\n'])
    out = ftrl("score", "-", "--model", model, "--format", "jsonl", stdin=mixed).stdout.decode().splitlines()
    assert [line == "nan" for line in out] == [True, False, False, True, False, False, True]
    alone = ftrl("score", "-", "--model", model, "--format", "jsonl", stdin=lines[2]).stdout.decode()
    assert alone.splitlines() == [out[5]]


def test_inspect_shows_the_largest_weights(model: Path) -> None:
    facts = ftrl_json("inspect", "--model", model, "--top", 3)
    weights = [abs(entry["weight"]) for entry in facts["largest_weights"]]
    assert len(weights) == 3
    assert weights == sorted(weights, reverse=True)
    assert facts["rows"] == 20_000
    shown = ftrl("inspect", "--model", model).stdout.decode()
    assert "largest weights above 0" in shown
    assert "largest weights below 0" in shown
    for sign, way in (("positive", 1), ("negative", -1)):
        entries = facts[f"largest_{sign}"]
        assert 0 < len(entries) <= 10
        assert [way * entry["weight"] for entry in entries] == sorted(
            (way * entry["weight"] for entry in entries), reverse=True
        )
        assert all(way * entry["weight"] > 0 for entry in entries)
    named = [entry for entry in facts["largest_weights"] if entry["names"]]
    assert named, "a run of a few seconds names its largest weights"
    assert facts["named_weights"] >= len(named)
    assert named[0]["names"][0].split("=")[0] in shown


def test_inspect_without_names_shows_slots(model: Path, tmp_path: Path) -> None:
    shutil.copytree(model, tmp_path / "m")
    names = tmp_path / "m" / "names.safetensors"
    names.write_bytes(names.read_bytes()[:-3])
    done = ftrl("inspect", "--model", tmp_path / "m")
    assert b"names.safetensors" in done.stderr
    assert b"shown by their slots" in done.stderr
    assert re.search(rb"slot \d+ .*[+-]\d\.\d{4}", done.stdout)
    names.unlink()
    done = ftrl("inspect", "--model", tmp_path / "m")
    assert done.stderr == b""
    assert ftrl_json("inspect", "--model", tmp_path / "m")["largest_weights"][0]["names"] == []


def test_standard_input(clicks: Path, tmp_path: Path) -> None:
    data = clicks.read_bytes()
    result = ftrl_json("learn", "-", "--format", "jsonl", "--model", tmp_path / "m", stdin=data)
    assert result["rows"] == 20_000
    again = ftrl_json("learn", "-", "--model", tmp_path / "m", stdin=data)
    assert again["rows"] == 20_000, "a pipe is new data every time"
    assert again["total"]["rows"] == 40_000


def test_several_passes(clicks: Path, tmp_path: Path) -> None:
    result = ftrl_json("learn", clicks, "--model", tmp_path / "m", "--passes", 3)
    assert result["rows"] == 60_000
    assert ftrl_json("learn", clicks, "--model", tmp_path / "m")["rows"] == 0
    once = ftrl_json("learn", clicks, "--model", tmp_path / "once")
    assert result["log_loss"] == once["log_loss"], "only the first pass is progressive"


def test_a_stopped_pass_goes_on_where_it_stood(clicks: Path, tmp_path: Path) -> None:
    ftrl_json("learn", clicks, "--model", tmp_path / "a", "--passes", 2)
    ftrl_json("learn", clicks, "--model", tmp_path / "b", "--passes", 2, "--limit", 25_000)
    assert ftrl_json("learn", clicks, "--model", tmp_path / "b")["rows"] == 15_000
    a, b = (tmp_path / name / "checkpoints" / "40000.safetensors" for name in "ab")
    assert a.read_bytes() == b.read_bytes()


OWN = {
    "adagrad_fobos": {"--alpha": 0.05, "--beta": 0.5, "--l1": 1e-4},
    "adagrad_rda": {"--alpha": 0.05, "--beta": 0.5, "--l1": 2e-5},
    "fobos": {"--l1": 1e-4, "power": 0.4},
    "ftrl_proximal": {"--l1": 0, "l1_per_event": 2e-5},
    "ogd_count": {"--alpha": 0.05, "count": 5},
    "rda": {"--l1": 2e-5, "rho": 0.005},
    "sgd_l1": {"--l1": 1e-5, "power": 0.4},
    "sgd_l1_subgradient": {"--l1": 1e-4, "power": 0.4},
    "truncated_gradient": {"--l1": 1e-4, "every": 20, "theta": 0.5},
}


@pytest.mark.parametrize("name", learner_names())
def test_every_learner_learns_with_its_own_parameters_and_resumes(
    name: str, clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def learn(model: str, *words: object) -> Any:
        source = ["learn", clicks, "--model", tmp_path / model, "--json", "--quiet"]
        assert main([*map(str, source), *map(str, words)]) == 0
        return json.loads(capsys.readouterr().out)

    flags: list[object] = ["--learner", name, "--bits", 18]
    for parameter, value in OWN.get(name, {}).items():
        flags += [parameter, value] if parameter.startswith("--") else ["--set", f"{parameter}={value}"]
    result = learn("whole", *flags)
    settings = {parameter.removeprefix("--"): value for parameter, value in OWN.get(name, {}).items()}
    assert result["learner"].items() >= (settings | {"name": name}).items()
    assert result["normalized_entropy"] < 1
    assert abs(result["calibration"] - 1) < 0.05
    if name == "sgd_l1_subgradient":
        assert result["nonzero_weights"] == result["slots_touched"]
    else:
        assert 0 < result["nonzero_weights"] < 0.9 * result["slots_touched"]
    learn("parts", *flags, "--limit", 7_001)
    assert learn("parts")["rows"] == 12_999
    whole, parts = (tmp_path / model / "checkpoints/20000.safetensors" for model in ("whole", "parts"))
    assert whole.read_bytes() == parts.read_bytes()


def test_help_names_every_learner() -> None:
    text = b" ".join(ftrl("learn", "--help").stdout.split())
    for name in learner_names():
        assert name.encode() in text


def test_a_flag_of_another_learner_is_refused(clicks: Path, tmp_path: Path) -> None:
    words = ("learn", clicks, "--model", tmp_path / "m", "--learner", "ogd_count")
    assert "no parameter 'l1'; it has alpha, beta, count" in refusal(*words, "--l1", 1, status=2)
    line = refusal(*words, "--set", "count=2.5", status=2)
    assert "count must be finite and >= 0 and whole, got 2.5" in line


def test_flags_that_contradict_the_model(model: Path, clicks: Path) -> None:
    line = refusal("learn", clicks, "--model", model, "--alpha", "0.5", status=2)
    assert "0.5" in line
    assert "0.1" in line
    assert "bits" in refusal("learn", clicks, "--model", model, "--bits", "20", status=2)
    assert "schema" in refusal("learn", clicks, "--model", model, "--schema", "criteo", status=2)
    ftrl("learn", clicks, "--model", model, "--alpha", "0.1", "--quiet")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--alpha", "-1"], "alpha must be finite and > 0, got -1.0"),
        (["--bits", "40"], "bits must be between 1 and 31, got 40"),
        (["--learner", "magic"], "learner must be one of"),
        (["--set", "nonsense=1"], "no parameter 'nonsense'"),
        (["--set", "nonsense"], "--set takes name=value"),
        (["--schema", "nowhere.toml"], "nowhere.toml"),
        (["--passes", "0"], "--passes must be between 1 and 1000, got 0"),
        (["--limit", "0"], "--limit must be at least 1, got 0"),
        (["--checkpoint-every", "soon"], "--checkpoint-every must be like"),
        (["--format", "xml"], "format must be one of"),
    ],
)
def test_wrong_flags_name_the_rule_and_leave_nothing(
    words: list[str], said: str, clicks: Path, tmp_path: Path
) -> None:
    assert said in refusal("learn", clicks, "--model", tmp_path / "m", *words, status=2)


def test_missing_things_are_one_clear_line(clicks: Path, tmp_path: Path) -> None:
    assert "nowhere.jsonl" in refusal(
        "learn", tmp_path / "nowhere.jsonl", "--model", tmp_path / "m", status=1
    )
    assert not (tmp_path / "m").exists(), "a wrong name leaves no model behind"
    assert "there is none" in refusal("score", clicks, "--model", tmp_path / "m", status=1)
    assert "there is none" in refusal("inspect", "--model", tmp_path / "m", status=1)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("precious")
    assert "not empty" in refusal("learn", clicks, "--model", tmp_path / "full", status=1)


def test_when_nothing_can_be_learned(tmp_path: Path) -> None:
    events = tmp_path / "events.jsonl"
    events.write_text('{"x": 1}\n{"x": 2}\n')
    line = refusal("learn", events, "--model", tmp_path / "m", "--quiet", status=1)
    assert "all 2 events were refused (no label: the event has none of the fields label" in line
    kept = [json.loads(line) for line in (tmp_path / "m" / "rejected.jsonl").read_text().splitlines()]
    assert [entry["position"] for entry in kept] == [0, 9]
    assert kept[0]["event"] == '{"x": 1}'


def test_a_first_run_that_refused_everything_can_be_mended(clicks: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    schema = tmp_path / "wrong.toml"
    schema.write_text('label = "clik"')
    assert "no label" in refusal("learn", clicks, "--model", model, "--schema", schema, "--quiet", status=1)
    schema.write_text('label = "click"')
    assert ftrl_json("learn", clicks, "--model", model, "--schema", schema)["rows"] == 20_000


def test_checkpoints_that_were_removed_are_not_a_new_model(clicks: Path, tmp_path: Path) -> None:
    model = tmp_path / "m"
    ftrl("learn", clicks, "--model", model, "--limit", "1000", "--quiet")
    for path in (model / "checkpoints").iterdir():
        path.unlink()
    line = refusal("learn", clicks, "--model", model, status=1)
    assert "has snapshots but no checkpoint" in line


def test_a_table_that_does_not_fit_names_its_size() -> None:
    from ftrl_engine import build
    from ftrl_engine.errors import ConfigError

    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (20 << 30, limits[1]))
    try:
        with pytest.raises(ConfigError, match=r"needs 32.0 GiB"):
            build("ftrl_proximal", n_slots=1 << 31)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


def test_usage_errors_exit_2() -> None:
    assert ftrl("learn", status=2).stdout == b""
    ftrl("nonsense", status=2)
    ftrl("learn", "x.jsonl", "--model", "m", "--nonsense", status=2)


def test_ten_rows_start_quickly(clicks: Path, tmp_path: Path) -> None:
    ten = tmp_path / "ten.jsonl"
    ten.write_bytes(b"".join(clicks.read_bytes().splitlines(keepends=True)[:10]))
    used = []
    for number in range(3):
        before = os.times()
        ftrl("learn", ten, "--model", tmp_path / f"m{number}", "--quiet")
        after = os.times()
        used.append(sum(after[2:4]) - sum(before[2:4]))
    # Seconds of the processor, which a busy machine does not stretch as much as those of the clock.
    assert min(used) < 2.5, "1.5 on an idle machine"


class TestRealData:
    """Every file of real data by one command; skipped where the data is not at hand."""

    def test_criteo(self, shared_data: Path, tmp_path: Path) -> None:
        result = ftrl_json(
            "learn", shared_data / "criteo/dac_60k.tsv.gz", "--schema", "criteo", "--model", tmp_path / "m"
        )
        assert (result["rows"], result["rejected"]) == (60_000, 0)
        assert result["log_loss"] <= 0.4556
        assert result["auc"] >= 0.756
        assert result["nonzero_weights"] <= 15_000
        assert abs(result["calibration"] - 1) <= 0.01

    def test_avazu(self, shared_data: Path, tmp_path: Path) -> None:
        result = ftrl_json(
            "learn", shared_data / "avazu/avazu_10k.csv.gz", "--schema", "avazu", "--model", tmp_path / "m"
        )
        assert (result["rows"], result["rejected"]) == (9_999, 0)
        assert result["log_loss"] < 0.44
        assert abs(result["calibration"] - 1) <= 0.05

    def test_a9a(self, shared_data: Path, tmp_path: Path) -> None:
        result = ftrl_json(
            "learn",
            shared_data / "a9a/a9a.gz",
            "--schema",
            "libsvm",
            "--model",
            tmp_path / "m",
            "--format",
            "libsvm",
        )
        assert (result["rows"], result["rejected"]) == (32_561, 0)
        assert result["log_loss"] < 0.345
        assert result["auc"] > 0.88

    def test_movielens(self, shared_data: Path, tmp_path: Path) -> None:
        result = ftrl_json(
            "learn", shared_data / "movielens/u.data.gz", "--schema", "movielens", "--model", tmp_path / "m"
        )
        assert (result["rows"], result["rejected"]) == (100_000, 0)
        assert result["log_loss"] < 0.63

    def test_vowpal_wabbit_text(self, shared_data: Path, tmp_path: Path) -> None:
        result = ftrl_json(
            "learn",
            shared_data / "vw/rcv1_small.dat.gz",
            "--schema",
            "vw",
            "--model",
            tmp_path / "m",
            "--l1",
            "0.1",
            "--alpha",
            "5",
        )
        assert (result["rows"], result["rejected"]) == (1_000, 0)
        assert result["auc"] > 0.8

    def test_ipinyou(self, shared_data: Path, tmp_path: Path) -> None:
        schema = tmp_path / "ipinyou.toml"
        schema.write_text(
            'label = "IsClick"\nignore = ["BidID", "URL", "PayingPrice", "BiddingPrice"]\n'
            '[fields]\nUserTag = { kind = "tokens", separator = "," }\n'
            'AdSlotWidth = { kind = "token" }\n'
        )
        result = ftrl_json(
            "learn",
            shared_data / "ipinyou/ipinyou_train.csv.gz",
            "--schema",
            schema,
            "--model",
            tmp_path / "m",
        )
        assert (result["rows"], result["rejected"]) == (2_363, 0)

    def test_parquet(self, shared_data: Path, tmp_path: Path) -> None:
        pytest.importorskip("pyarrow")
        schema = tmp_path / "attribution.toml"
        schema.write_text('label = "click"\nignore = ["orig_row"]\n')
        result = ftrl_json(
            "learn",
            shared_data / "criteo_attribution/small_train.parquet",
            "--schema",
            schema,
            "--model",
            tmp_path / "m",
        )
        assert (result["rows"], result["rejected"]) == (115_382, 0)
        assert abs(result["calibration"] - 1) <= 0.01

    def test_rare_clicks_are_calibrated(self, shared_data: Path, tmp_path: Path) -> None:
        schema = tmp_path / "talkingdata.toml"
        schema.write_text('label = "is_attributed"\ntimestamp = "click_time"\n')
        source = shared_data / "talkingdata/clicks_100k.csv.gz"
        best = None
        for alpha in ("0.1", "0.3", "1"):
            model = tmp_path / alpha
            words = ["learn", source, "--schema", schema, "--model", model, "--alpha", alpha]
            first = ftrl_json(*words, "--limit", "50000")
            second = ftrl_json("learn", source, "--model", model)
            assert second["rows"] == 50_000
            if best is None or second["total"]["log_loss"] < best[0]:
                best = (second["total"]["log_loss"], second["total"]["calibration"], second["calibration"])
            assert first["rows"] == 50_000
        assert best is not None
        assert best[0] <= 0.0106
        assert abs(best[1] - 1) <= 0.05
        assert abs(best[2] - 1) <= 0.06
