"""``ftrl bench --growth``: exponents of known curves, a tiny run, the page of plots. No time is asserted."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from contextlib import redirect_stdout
from dataclasses import replace
from io import StringIO
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from bench import bench_command, speed
from bench.groups import growth
from bench.inputs import Inputs
from bench.machine import facts
from bench.power_law import PowerLaw
from bench.report.growth_page import headline, page, write
from bench.result import Outcome, Result
from bench.speed import Bench
from ftrl_engine import cli, jit
from ftrl_engine.errors import DataError
from tests.bench_here import check, run_here

TINY = growth.Sizes(features=(4, 16), cells=2000, bits=(12, 14), rows=(20, 100, 400), warm=15)
EXPONENTS = (0.9, 1.1, 1.0)  # of the rounds of a made-up machine


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(growth, "QUICK", TINY)
    monkeypatch.setattr(growth, "BITS", 14)
    return Bench(Inputs(tmp_path), rows=2000, runs=3, quick=True)


@pytest.fixture
def results(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> list[Result]:
    """Of a machine whose times are power laws, with another exponent in each round."""
    rounds: dict[str, Iterator[float]] = {}

    def run(command: list[str]) -> Outcome:
        function, job = command[-2], json.loads(command[-1])
        exponent = next(rounds.setdefault(command[-1], iter(EXPONENTS)))
        if function == "learn_file_started":
            seconds = 0.5 + 1e-6 * job["rows"] ** exponent
            measures = {"rows": job["rows"], "seconds": seconds, "short_seconds": 0.5}
            return Outcome(seconds, measures, peak_mb=100.0)
        features = int(job["hashed"].rpartition("-")[2])
        return Outcome(1.0, {"rows_per_second": 1e8 / features**exponent})

    monkeypatch.setattr(speed, "run_process", run)
    return growth.measure(bench)


@pytest.mark.parametrize(("factor", "exponent"), [(3.0, 0.7), (1e-9, 1.0), (5.0, 0.0)])
def test_the_fit_finds_the_law(factor: float, exponent: float) -> None:
    sizes = [10, 30, 100, 1000]
    law = PowerLaw.fit(sizes, [factor * size**exponent for size in sizes])
    assert law.exponent == pytest.approx(exponent, abs=1e-12)
    assert law.factor == pytest.approx(factor)
    assert law(50.0) == pytest.approx(factor * 50.0**exponent)


def test_the_fit_is_that_of_least_squares() -> None:
    random = np.random.default_rng(0)
    sizes = np.geomspace(1, 1e6, 20)
    values = 2.0 * sizes**0.8 * np.exp(random.normal(0.0, 0.3, 20))
    slope, _ = np.polyfit(np.log(sizes), np.log(values), 1)
    assert PowerLaw.fit(sizes.tolist(), values.tolist()).exponent == pytest.approx(slope)


def test_exponents_are_those_of_the_rounds(results: list[Result]) -> None:
    exponents = [result for result in results if result.unit == "exponent"]
    assert [result.curve for result in exponents] == [growth.ROW, *3 * [growth.FILE]]
    assert exponents[2].name == f"{growth.FILE}: growth from 100 rows on"
    for result in exponents[:3]:
        assert (result.min, result.median, result.max) == pytest.approx((0.9, 1.0, 1.1))
        assert result.runs == 3
    assert exponents[3].name == f"{growth.FILE}: growth of what is added to 20 rows"
    assert exponents[3].median == pytest.approx(1.0)
    assert 0.85 < exponents[3].min < 1.0 < exponents[3].max < 1.15


def test_a_fixed_cost_is_no_growth() -> None:
    """It bends the curve in logarithms; what is added to the least size grows as it does."""
    sizes = {"10": 10, "100": 100, "300": 300, "1000": 1000}
    times = {name: [5.0 + 0.25 * size, 80.0 + 2.0 * size] for name, size in sizes.items()}
    whole, last, added = growth._exponents("curve", sizes, times)
    assert whole.max < last.max < 0.95
    assert (added.min, added.max) == pytest.approx((1.0, 1.0))
    times = {name: [3.0 + 0.25 * size**1.2] for name, size in sizes.items()}
    assert growth._exponents("curve", sizes, times)[-1].median == pytest.approx(1.2, abs=0.03)
    # A machine that is slow for the least size and fast for all others.
    times = {name: [1.0 if size > 10 else 2.0] for name, size in sizes.items()}
    assert growth._exponents("curve", sizes, times)[-1].median == pytest.approx(0.0)


def test_figures_lie_on_their_curves(results: list[Result]) -> None:
    found = {result.name: result for result in results}
    assert found["learn one row: 16 features"].median == pytest.approx(16 * 0.01)
    assert found["learn one row: 16 features"].size == 16
    assert found[f"{growth.FILE}: 400 rows"].median == pytest.approx(400e-6)
    assert found[f"{growth.MEMORY}: 20 rows"].median == pytest.approx(100.0 - 16 * 2**14 / 1e6)
    assert found[f"{growth.LOG_SLOTS}: 2^12 slots"].size == 1 << 12


@pytest.mark.skipif(not jit.COMPILED, reason="the speed of plain Python is of no interest")
def test_a_tiny_run_gives_results_in_the_form_of_the_contract(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(speed, "run_process", run_here)
    found = bench_command.measure(["growth"], replace(bench, runs=1, most_rows=150))
    rows = json.loads(json.dumps([result.to_dict() for result in found]))
    for row in rows:
        if row["unit"] == "exponent":
            assert set(row) == {"group", "name", "contender", "unit", "median", "min", "max", "runs"}
            assert math.isfinite(row["median"])
        else:
            check(row, "growth")
    names = [row["name"] for row in rows]
    assert [name for name in names if name.startswith(growth.ROW)] == [
        "learn one row: 4 features", "learn one row: 16 features", "learn one row: growth"
    ]  # fmt: skip
    added = "growth of what is added to 20 rows"
    assert [name for name in names if name.startswith(growth.FILE)] == [
        f"{growth.FILE}: {what}" for what in ("20 rows", "100 rows", "150 rows", "growth", added)
    ]
    assert len(set(names)) == len(names) == 2 + 1 + 2 * 2 + 2 * 3 + 2
    assert not list(bench.inputs.directory.iterdir())


def test_sizes_take_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    order: list[int] = []

    def run(command: list[str]) -> Outcome:
        order.append(json.loads(command[-1])["bits"])
        return Outcome(1.0)

    monkeypatch.setattr(speed, "run_process", run)
    lanes = bench.race_jobs("learn_rows", {"small": {"bits": 4}, "large": {"bits": 8}})
    assert order == [4, 8, 8, 4, 4, 8]
    assert {name: len(lane.outcomes) for name, lane in lanes.items()} == {"small": 3, "large": 3}


def test_the_page_is_whole_and_needs_nothing_else(results: list[Result]) -> None:
    text = page(facts(), results)
    drawings = [
        ElementTree.fromstring(drawing)
        for drawing in re.findall(r'<svg xmlns="[^"]*" viewBox="0 0 520 360".*?</svg>', text)
    ]
    assert [drawing.findtext("{*}title") for drawing in drawings] == [
        "Time of one row against its features",
        "Time from a file to a model against its rows",
        "Time of one feature against the slots of the table",
        "Peak memory beside the state table",
    ]
    marks = [len(drawing.findall(".//{*}path[{*}title]")) for drawing in drawings]
    assert marks == [2, 3, 4, 3]
    for drawing in drawings:
        labels = [label.text for label in drawing.iter() if label.get("class") == "label"]
        assert len(labels) == 2
        assert not any("nan" in (path.get("d") or "") for path in drawing.iter())
    assert "fit: time grows with rows^1.00 (0.90 to 1.10 by round)" in text
    assert "<script" not in text
    assert not re.search(r'(src|href)="', text)
    assert "its features to the power 1.00 (0.90 to 1.10 in 3 rounds)." in headline(results)
    powers = "(0.90 to 1.10 in 3 rounds; 1.00 from 100 rows on; 1.00 of what is added to 20 rows)"
    assert powers in headline(results)


def test_a_page_that_cannot_be_written_is_an_error(results: list[Result], tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"--plot .*: cannot be written .*; choose another place"):
        write(facts(), results, tmp_path)


def test_the_command_says_where_the_plot_is(
    results: list[Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench_command, "measure", lambda groups, bench: results)
    path = tmp_path / "growth.html"
    with redirect_stdout(StringIO()) as stdout:
        assert cli.main(["bench", "--growth", "--json", "--plot", str(path)]) == 0
    assert len(json.loads(stdout.getvalue())["results"]) == len(results)
    assert f"plot: {path}" in capsys.readouterr().err
    assert path.read_text(encoding="utf-8").startswith("<!doctype html>")


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--growth", "--rows", "5000"], "--rows must be at least 200,000 with --growth, got 5000; "),
        (["--kernel", "--plot", "x.html"], "got --plot x.html without it; add --growth"),
        (["--growth", "--plot", "x.png"], "--plot must end in .html, got x.png; "),
        (["--growth", "--plot", "no/such/x.html"], "a directory that exists, got no/such/x.html; make"),
    ],
)
def test_a_bad_flag_is_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *flags]) == cli.USAGE
    assert message in capsys.readouterr().err
