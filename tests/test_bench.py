"""``ftrl bench``: every group end to end on few rows, fair turns, and contenders that learn the same.

No figure is asserted: times on a shared machine say nothing.
"""

from __future__ import annotations

import importlib.util
import io
import json
import math
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pytest

from bench import bench_command, speed, worker
from bench.contenders import base, c_reference, plain_loop
from bench.groups import kernel as kernel_group
from bench.hashed_rows import HashedRows
from bench.inputs import Inputs
from bench.machine import facts
from bench.result import Lane, Outcome, Result, require_all_rows, require_equal, results_of_module
from bench.speed import Bench, run_process
from bench.table import factor_of, print_results
from ftrl_engine import cli, jit
from ftrl_engine.errors import FtrlError
from ftrl_engine.learners.base import build
from tests.bench_here import check, run_here

pytestmark = pytest.mark.skipif(not jit.COMPILED, reason="the speed of plain Python is of no interest")

ROWS = 2000
# The others have tests of their own.
GROUPS = [name for name in bench_command.GROUPS if name not in ("growth", "kafka", "serving")]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setattr(speed, "run_process", run_here)
    return Bench(Inputs(tmp_path), ROWS, runs=1, quick=True)


@pytest.mark.parametrize("group", GROUPS)
def test_every_group_gives_results_in_the_form_of_the_contract(group: str, bench: Bench) -> None:
    results = bench_command.measure([group], bench)
    rows = json.loads(json.dumps([result.to_dict() for result in results]))
    for row in rows:
        check(row, group)
    ours = [row for row in rows if row["contender"] == ("floor" if group == "limit" else "ftrl-engine")]
    assert ours
    assert not any("skipped" in row for row in ours)
    assert not any(result.wrong for result in results)
    names = [(row["name"], row["contender"]) for row in rows]
    assert len(set(names)) == len(names)


@pytest.mark.slow
def test_the_command_prints_one_json_object(tmp_path: Path) -> None:
    command = [
        sys.executable,
        "-m",
        "ftrl_engine",
        "bench",
        "--limit",
        "--quick",
        "--rows",
        str(ROWS),
        "--json",
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=250, check=False)
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    found = json.loads(line)
    assert set(found) == {"machine", "results"}
    assert found["machine"]["cores"] >= 1
    for row in found["results"]:
        check(row, "limit")
        assert row["runs"] == 3


def test_the_command_prints_a_table(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_command, "measure", lambda groups, bench: [
        Result.of("kernel", "learn", "ftrl-engine", "rows/s", [6e6, 4e6, 5e6]),
        Result.of("kernel", "learn", "plain-loop", "rows/s", [2e6]),
        Result("kernel", "learn", "c-reference", "rows/s", skipped="no C compiler"),
    ])  # fmt: skip
    with redirect_stdout(io.StringIO()) as stdout:
        assert cli.main(["bench", "--kernel", "--quiet"]) == 0
    text = stdout.getvalue()
    row = next(line for line in text.splitlines() if "ftrl-engine" in line)
    assert row.replace("│", " ").split() == [
        "learn", "ftrl-engine", "5,000,000", "4,000,000", "6,000,000", "rows/s", "2.50"
    ]  # fmt: skip
    assert "c-reference skipped: no C compiler" in text


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; from ftrl_engine.cli import main\n"
        "try: main(['bench', '--help'])\n"
        "except SystemExit: pass\n"
        "print([name for name in ('numpy', 'numba', 'rich', 'subprocess') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True
    )
    assert "--file-to-model" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--rows", "0"], "--rows must be between 1 and 100,000,000, got 0"),
        (["--runs", "2"], "--runs must be between 3 and 1000, got 2"),
        (["--seed", "-1"], "--seed must be between 0 and 2**63 - 1, got -1"),
    ],
)
def test_a_bad_flag_is_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["bench", *flags]) == cli.USAGE
    assert message in capsys.readouterr().err


def test_a_missing_rival_is_skipped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec
    absent = ("pylibvw", "river")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in absent else find(name))
    results = bench_command.measure(["file_to_model"], bench)
    skipped = {result.contender: result.skipped for result in results if result.skipped is not None}
    assert skipped["vw"] == "pylibvw is not installed; pip install 'ftrl-engine[bench]'"
    assert "river" in skipped
    assert any(result.contender == "ftrl-engine" and result.median > 0 for result in results)


def test_without_a_c_compiler_the_reference_is_skipped(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(c_reference, "COMPILERS", ("no-such-compiler",))
    results = kernel_group.measure(bench)
    reasons = {result.contender: result.skipped for result in results}
    assert reasons["c-reference"] == "no C compiler"
    assert reasons["ftrl-engine"] is None


def test_contenders_take_turns(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    order = []

    def note(command: list[str]) -> Outcome:
        order.append(command[0])
        return Outcome(1.0)

    monkeypatch.setattr(speed, "run_process", note)
    lanes = bench.race_commands({name: lambda name=name: [name] for name in ("floor", "plain-loop")}, "it", 3)  # type: ignore[misc]
    assert order == ["floor", "plain-loop", "plain-loop", "floor", "floor", "plain-loop"]
    assert [len(lane.outcomes) for lane in lanes] == [3, 3]


def test_a_rival_that_fails_is_skipped_and_ours_is_an_error(tmp_path: Path) -> None:
    bench = Bench(Inputs(tmp_path), ROWS, runs=3)
    fail = [sys.executable, "-c", "import sys; sys.exit('no memory left')"]
    (lane,) = bench.race_commands({"plain-loop": lambda: fail}, "it")
    assert lane.skipped == "failed with exit status 1: no memory left"
    with pytest.raises(FtrlError, match="no memory left"):
        bench.race_commands({"ftrl-engine": lambda: fail}, "it")


def test_a_process_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed, "TIMEOUT_SECONDS", 0.2)
    sleep = [sys.executable, "-c", "import time; time.sleep(60)"]
    (lane,) = Bench(Inputs(tmp_path), ROWS, runs=1).race_commands({"floor": lambda: sleep}, "it")
    assert lane.skipped is not None
    assert lane.skipped.startswith("took longer than")


def test_the_json_line_of_a_process_is_read(tmp_path: Path) -> None:
    talk = [sys.executable, "-c", 'print(\'hello\'); print(\'{"measures": {"x": 2.5}, "peak_mb": 7}\')']
    outcome = run_process(talk)
    assert outcome.measures == {"x": 2.5}
    assert outcome.peak_mb == 7
    assert outcome.seconds > 0


def test_a_worker_says_what_it_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["worker", "orjson", "parse_jsonl", '{"file": "no such file"}'])
    with pytest.raises(FileNotFoundError):
        worker.main()
    assert worker.peak_mb() > 10
    assert worker.cpu_seconds() > 0


def lanes_with(**losses: float) -> list[Lane]:
    return [
        Lane(name.replace("_", "-"), [Outcome(1.0, {"log_loss": x, "rows": 5})]) for name, x in losses.items()
    ]


def test_another_result_is_not_compared() -> None:
    lanes = lanes_with(plain_loop=0.5, ftrl_engine=0.5 + 1e-10, c_reference=0.5 + 1e-8, floor=math.nan)
    require_equal(lanes, "log_loss", "plain-loop", 1e-9)
    assert [lane.wrong for lane in lanes] == [False, False, True, True]
    assert lanes[2].skipped == "wrong result: log_loss 0.50000001, but plain-loop has 0.5"


def test_a_wrong_result_fails_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = Result("kernel", "learn", "c-reference", "rows/s", skipped="wrong result: ...", wrong=True)
    monkeypatch.setattr(bench_command, "measure", lambda groups, bench: [wrong])
    with redirect_stdout(io.StringIO()):
        assert cli.main(["bench", "--kernel", "--quiet", "--json"]) == cli.FAILED


def test_rows_that_ours_did_not_take_are_an_error() -> None:
    require_all_rows(lanes_with(ftrl_engine=0.5), {"rows": 5})
    require_all_rows(lanes_with(river=0.5), {"rows": 6})
    with pytest.raises(FtrlError, match="took 5 of 6 rows"):
        require_all_rows(lanes_with(ftrl_engine=0.5), {"rows": 6})


def test_factors_are_better_above_one() -> None:
    def two(unit: str) -> list[Result]:
        return [Result.of("g", "n", "ours", unit, [2.0]), Result.of("g", "n", "theirs", unit, [1.0])]

    for unit, factor in (("rows/s", 2.0), ("us", 0.5), ("ms p99", 0.5), ("MB", 0.5), ("% stolen", None)):
        assert factor_of(two(unit)[0], "theirs", two(unit)) == factor
    assert factor_of(two("s")[0], "nobody", two("s")) is None


def test_the_rows_of_another_module_are_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "measured_elsewhere.py").write_text(
        "def run(rows, quick):\n"
        "    return [{'group': 'kafka', 'name': 'n', 'contender': 'c', 'unit': 'rows/s', 'median': rows,\n"
        "             'min': 1.0, 'max': 9000.0, 'runs': 3}]\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    (result,) = results_of_module("measured_elsewhere", "kafka", "n", 2000, True)
    assert (result.median, result.runs) == (2000, 3)
    (result,) = results_of_module("bench.measured_nowhere", "kafka", "n", 2000, True)
    assert result.skipped == "there is no bench.measured_nowhere in this version"


def test_every_contender_takes_part_somewhere() -> None:
    functions = {
        "limit_cells", "limit_scan", "learn_rows", "score_rows", "learn_file", "score_file",
        "learn_format", "from_gzip", "learn_one", "score_one",
        "parse_tsv", "parse_csv", "parse_jsonl", "parse_libsvm", "parse_vw",
    }  # fmt: skip
    part = {name: {f for f in functions if name in base.contenders_for(f)} for name in base.contender_names()}
    assert all(part.values()), part
    assert part["ftrl-engine"] == functions - {"limit_cells", "limit_scan"}


@pytest.fixture(scope="module")
def hashed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Inputs(tmp_path_factory.mktemp("hashed"), seed=7).hashed(3000, 12)


def test_the_baseline_and_the_reference_learn_what_the_learner_learns(hashed: Path) -> None:
    rows = HashedRows.load(hashed, 12)
    learner = build(
        "ftrl_proximal", n_slots=1 << 12, alpha=base.ALPHA, beta=base.BETA, l1=base.L1, l2=base.L2
    )
    margins = learner.learn(rows.batch())
    np.testing.assert_allclose(plain_loop.learn(rows)[0], margins, rtol=1e-9, atol=1e-12)
    if c_reference.compiler() is not None:
        library = c_reference.open_library(hashed.parent)
        np.testing.assert_allclose(c_reference.learn(library, rows)[0], margins, rtol=1e-9, atol=1e-12)


def test_the_machine_is_described() -> None:
    found = facts()
    assert json.loads(json.dumps(found)) == found
    assert found["packages"]["numpy"] == np.__version__


def test_the_table_names_the_machine() -> None:
    from rich.console import Console

    console = Console(file=io.StringIO(), width=120)
    print_results(facts(), [], console)
    assert f"Python {sys.version.split()[0]}" in console.file.getvalue()  # type: ignore[attr-defined]
