"""``ftrl compare`` as a whole, on few simulated events."""

from __future__ import annotations

import csv
import json
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from bench.comparison.outside.base import program_names
from bench.comparison.protocol_2011 import unit_length
from bench.comparison.trial import Trial
from bench.report import plots
from bench.report.folder import write
from bench.report.page import page
from ftrl_engine import cli
from ftrl_engine.jit import COMPILED
from ftrl_engine.learners.base import learner_names
from tests.hashed_events import hashed

pytestmark = pytest.mark.skipif(not COMPILED, reason="needs compiled learners")

ROWS = 3000
CONTRACT = {
    "settings", "log_loss", "log_loss_interval", "auc", "normalized_entropy", "calibration",
    "nonzero_weights", "frontier", "rows_per_second",
}  # fmt: skip


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """CTR 20 %, so that there is something to learn from few events."""
    path = tmp_path_factory.mktemp("clicks") / "clicks.jsonl"
    words = ["simulate", "--to", str(path), "--rows", str(ROWS), "--ctr", "0.2", "--users", "300"]
    assert cli.main([*words, "--items", "200", "--quiet"]) == 0
    return path


def compare(capsys: pytest.CaptureFixture[str], *words: str) -> dict[str, Any]:
    assert cli.main(["compare", *words, "--budget", "13", "--json", "--quiet"]) == 0
    (line,) = capsys.readouterr().out.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


def test_the_json_is_that_of_the_contract(clicks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = compare(capsys, str(clicks), "--schema", "clicks", "--no-programs")
    assert set(found) == {"data", "contenders", "nonzeros_at_equal_loss", "report"}
    assert found["report"] is None
    assert found["data"]["rows"] == ROWS
    assert found["data"]["label_mean"] == pytest.approx(0.2, abs=0.05)
    assert set(found["contenders"]) == {*learner_names(), "ftrl_proximal_2011"}
    for facts in found["contenders"].values():
        assert set(facts) == CONTRACT
        low, high = facts["log_loss_interval"]
        assert low < facts["log_loss"] < high
        assert 0.3 < facts["log_loss"] < 0.6
        assert facts["rows_per_second"] > 0
        losses = [loss for _, loss in facts["frontier"]]
        assert losses == sorted(losses, reverse=True)
        assert facts["log_loss"] <= losses[-1] * 1.005 * (1 + 1e-12)
    assert set(found["nonzeros_at_equal_loss"]) == set(found["contenders"]) - {"ftrl_proximal"}
    for ratio in found["nonzeros_at_equal_loss"].values():
        assert (ratio["ratio"] is None) == ("gap" in ratio)
        if ratio["ratio"] is None:
            assert ratio["gap"] > 0
            assert ratio["interval"] is None
        else:
            low, high = ratio["interval"]
            assert low <= ratio["ratio"] * 1.5


def without_times(found: dict[str, Any]) -> dict[str, Any]:
    for facts in found["contenders"].values():
        facts.pop("rows_per_second", None)
    return found


def test_the_same_seed_gives_the_same_figures(clicks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [str(clicks), "--schema", "clicks", "--only", "sgd_l1,rda", "--shuffles", "2", "--limit", "1000"]
    one, again, other = (
        without_times(compare(capsys, *words, "--seed", seed, "--threads", threads))
        for seed, threads in (("1", "1"), ("1", "3"), ("2", "1"))
    )
    assert one == again
    assert one != other


def test_it_goes_on_where_it_was_interrupted(
    clicks: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = [str(clicks), "--schema", "clicks", "--no-programs", "--only", "rda"]
    fresh = without_times(compare(capsys, *words))
    run, passes = Trial._run_together, []

    def interrupted(self: Trial, *args: Any) -> Any:
        passes.append(len(args[0]))
        if len(passes) == 3:
            raise KeyboardInterrupt
        return run(self, *args)

    monkeypatch.setattr(Trial, "_run_together", interrupted)
    words += ["--work", str(tmp_path / "work")]
    assert cli.main(["compare", *words, "--budget", "13"]) == cli.INTERRUPTED
    told = capsys.readouterr().err.splitlines()[-1]
    assert told == (
        f"interrupted: what was finished is kept in {tmp_path / 'work'}; the same command goes on from there"
    )
    assert len(list((tmp_path / "work").iterdir())) == sum(passes[:2])
    assert without_times(compare(capsys, *words)) == fresh
    done = sum(passes)
    assert without_times(compare(capsys, *words)) == fresh
    assert sum(passes) == done


class Page(HTMLParser):
    """What a page would load, and whether its tags are closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in ("meta", "path", "rect", "circle"):
            self.open.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "href")]
        if tag in ("script", "link", "img", "iframe"):
            self.loads.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self.open and self.open[-1] == tag:
            self.open.pop()

    def handle_data(self, data: str) -> None:
        self.text += data


@pytest.fixture(scope="module")
def report(clicks: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("report") / "report"
    words = ["compare", str(clicks), "--schema", "clicks", "--no-programs", "--budget", "13", "--quiet"]
    assert cli.main([*words, "--report", str(directory)]) == 0
    return directory


def test_the_page_needs_nothing_else(report: Path) -> None:
    text = (report / "index.html").read_text()
    found = Page(text)
    assert found.loads == []
    assert found.open == []
    assert "url(http" not in text
    assert "@import" not in text
    for words in (
        "What to conclude", "Where FTRL-Proximal does not win", "SGD with the cumulative L1 penalty",
        "SGD + L1, cumulative penalty",
        "Weights needed for the same log loss", "Calibration", "Log loss as events come in", "To do it again",
        "ftrl compare", "digest", "prefers-color-scheme: dark",
    ):  # fmt: skip
        assert words in text
    assert "None" not in found.text
    assert "nan" not in found.text.lower().split()


def test_every_setting_that_was_tried_is_in_the_report(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    with open(report / "grid.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == sum(len(facts["grid"]) for facts in results["contenders"].values())
    page_text = (report / "index.html").read_text()
    for facts in results["contenders"].values():
        assert 11 <= len(facts["grid"]) <= 13
        assert f"{facts['title']}: {len(facts['grid'])} settings" in page_text
        assert sum(tried.get("chosen", False) for tried in facts["grid"]) == 1
    with open(report / "contenders.csv", newline="") as file:
        lines = {line["contender"]: line for line in csv.DictReader(file)}
    chosen = results["contenders"]["ftrl_proximal"]
    assert float(lines["ftrl_proximal"]["log_loss"]) == chosen["log_loss"]


def test_the_drawings_are_whole_and_lie_inside_their_frames(report: Path) -> None:
    names = {path.stem for path in report.glob("*.svg")}
    assert names == {
        "frontier-learners", "frontier-auc", "learning-curves", "behind", "sparsity", "calibration",
        "nonzeros-at-equal-loss",
    }  # fmt: skip
    for name in names:
        root = ElementTree.fromstring((report / f"{name}.svg").read_text())
        _, _, width, height = map(float, root.attrib["viewBox"].split())
        space = "{http://www.w3.org/2000/svg}"
        texts = [text for text in root.iter(f"{space}text") if "x" in text.attrib]
        assert len(texts) > 4
        for text in texts:
            assert 0 <= float(text.attrib["x"]) <= width
            assert 0 <= float(text.attrib["y"]) <= height
        numbers = [
            float(n)
            for path in root.iter(f"{space}path")
            for n in re.findall(r"-?\d+\.?\d*", path.attrib["d"])
        ]
        assert numbers
        assert max(map(abs, numbers)) < 20 * width


def test_markdown_has_the_same_figures(report: Path) -> None:
    text = (report / "report.md").read_text()
    results = json.loads((report / "results.json").read_text())
    for facts in results["contenders"].values():
        assert f"| {facts['title']} |" in text
        assert f"{facts['log_loss']:.4f}" in text
    for name in re.findall(r"!\[[^]]*\]\(([^)]*)\)", text):
        assert (report / name).exists()


def test_a_report_without_matplotlib_has_no_png(
    report: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    results = json.loads((report / "results.json").read_text())
    monkeypatch.setattr(plots, "NEEDS", "no_such_module")
    write(results, tmp_path / "again")
    assert not list((tmp_path / "again").glob("*.png"))
    # Plain data is all that a report is made of.
    assert (tmp_path / "again" / "index.html").read_text() == (report / "index.html").read_text()


def test_plots_as_png(report: Path) -> None:
    pytest.importorskip("matplotlib")
    pictures = list(report.glob("*.png"))
    assert {path.stem for path in pictures} == {path.stem for path in report.glob("*.svg")}
    for path in pictures:
        assert path.read_bytes().startswith(b"\x89PNG")
        assert path.stat().st_size > 10_000


def test_the_command_in_the_report_gives_the_same_figures(
    report: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = json.loads((report / "results.json").read_text())
    words = results["about"]["command"].split()
    assert words[:2] == ["ftrl", "compare"]
    assert cli.main([*words[1:], "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["contenders"]["rda"]["log_loss"] == results["contenders"]["rda"]["log_loss"]
    assert (
        found["nonzeros_at_equal_loss"]["rda"]["ratio"] == results["nonzeros_at_equal_loss"]["rda"]["ratio"]
    )


def test_text_from_outside_is_escaped(report: Path) -> None:
    results = json.loads((report / "results.json").read_text())
    results["data"]["source"] = ["<script>alert(1)</script>"]
    results["contenders"]["rda"]["title"] = "<b>&"
    assert "<script>" not in page(results)
    assert "<b>" not in page(results)


@pytest.mark.parametrize("missing", [True, False])
def test_a_program_that_cannot_take_part_is_skipped(
    clicks: Path,
    missing: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from bench.comparison.outside import sklearn_sgd_l1

    if missing:
        monkeypatch.setattr(sklearn_sgd_l1, "NEEDS", "no_such_module")
    else:
        monkeypatch.setattr(sklearn_sgd_l1, "NEEDS", "json")
        (tmp_path / "sklearn").mkdir()
        (tmp_path / "sklearn" / "__init__.py").write_text("raise SystemExit('no memory left')\n")
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    words = [
        str(clicks),
        "--schema",
        "clicks",
        "--only",
        "sklearn_sgd_l1",
        "--report",
        str(tmp_path / "report"),
    ]
    found = compare(capsys, *words)
    facts = found["contenders"]["sklearn_sgd_l1"]
    assert set(facts) == {"skipped"}
    reason = "no_such_module is not installed" if missing else "failed: no memory left"
    assert facts["skipped"].startswith(reason)
    assert "sklearn_sgd_l1" not in found["nonzeros_at_equal_loss"]
    assert "did not take part" in (tmp_path / "report" / "index.html").read_text()


def test_the_terminal_has_a_table(clicks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", str(clicks), "--schema", "clicks", "--only", "rda", "--budget", "13", "--quiet"]
    assert cli.main(words) == 0
    text = capsys.readouterr().out
    assert "3,000 events" in text
    assert any(line.startswith("ftrl_proximal ") for line in text.splitlines())
    assert any(line.startswith("rda ") for line in text.splitlines())
    assert f"\n  ftrl learn {clicks} --schema clicks --model model --alpha " in text, (
        "in one line, to be copied"
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--budget", "11"], "--budget must be between 12 and 400, got 11"),
        (["--shuffles", "101"], "--shuffles must be between 0 and 100, got 101"),
        (["--tolerance", "2"], "--tolerance must be between 0.0 and 1.0, got 2.0"),
        (["--bits", "29"], "--bits must be between 1 and 28, got 29"),
        (["--only", "rda,perceptron"], "--only must name contenders out of ftrl_proximal, "),
    ],
)
def test_a_bad_flag_is_refused(
    clicks: Path, words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["compare", str(clicks), *words]) == cli.USAGE
    assert message in capsys.readouterr().err


def test_the_protocol_of_2011(clicks: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["compare", str(clicks), "--schema", "clicks", "--protocol", "2011", "--limit", "1000", "--quiet"]
    assert cli.main([*words, "--shuffles", "2", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert list(found["totals"]) == ["0.05", "0.3", "0.6", "1"]
    for methods in found["totals"].values():
        assert set(methods) == {"ftrl_proximal", "adagrad_rda", "adagrad_fobos"}
        for facts in methods.values():
            assert 0.3 <= facts["gamma"] <= 1.9
            assert len(facts["auc_of_passes"]) == 2
            assert facts["auc"] == pytest.approx(sum(facts["auc_of_passes"]) / 2)
            assert 0.0 < facts["density"] <= 1.0
    strict = found["totals"]["0.3"]
    assert strict["adagrad_fobos"]["density"] > strict["ftrl_proximal"]["density"]
    assert strict["ftrl_proximal"]["density"] < found["totals"]["0.05"]["ftrl_proximal"]["density"]
    # In the order of the source: one pass, rates as for the paper's advertisements.
    assert cli.main([*words, "--json"]) == 0
    ordered = json.loads(capsys.readouterr().out)["totals"]["0.05"]["ftrl_proximal"]
    assert len(ordered["auc_of_passes"]) == 1
    assert 0.03 <= ordered["gamma"] <= 0.2
    assert cli.main([*words, "--shuffles", "1"]) == 0
    assert "adagrad_fobos" in capsys.readouterr().out


def test_rows_of_unit_length(tmp_path: Path) -> None:
    path = tmp_path / "rows.libsvm"
    path.write_text("1 3:3 5:4\n0\n1 5:1\n0 7:-2\n")
    found = unit_length(hashed(path, tmp_path / "scratch", "libsvm"))
    assert found.batch.values.tolist() == pytest.approx([0.6, 0.8, 1.0, -1.0])
    assert found.labels.tolist() == [1.0, 0.0, 1.0, 0.0]


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from ftrl_engine.cli import main\n"
        "try: main(['compare', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'numba', 'rich', 'subprocess') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "--report DIR" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


def test_programs_are_known() -> None:
    expected = ["datatable_ftrl", "river_ftrl", "sklearn_sgd_l1", "vw_ftrl", "vw_sgd_l1"]
    assert program_names() == expected
