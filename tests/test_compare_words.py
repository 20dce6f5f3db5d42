"""What ``ftrl compare`` says: its first words, what can be compared, and the commands that use it."""

from __future__ import annotations

import html
import json
import shlex
from pathlib import Path
from typing import Any

import pytest

from bench import compare_command
from bench.report.conclusions import not_first
from bench.report.headline import headline, headline_figures
from bench.report.markdown import markdown
from bench.report.page import page
from ftrl_engine import cli
from ftrl_engine.jit import COMPILED

pytestmark = pytest.mark.skipif(not COMPILED, reason="needs compiled learners")

ONLY = "ftrl_proximal_2011,sgd_l1,rda,ogd_count"


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> str:
    """results.json of a report on few events."""
    folder = tmp_path_factory.mktemp("compared")
    clicks = folder / "clicks.jsonl"
    words = ["simulate", "--to", str(clicks), "--rows", "2000", "--ctr", "0.2", "--users", "300"]
    assert cli.main([*words, "--items", "200", "--quiet"]) == 0
    words = ["compare", str(clicks), "--schema", "clicks", "--only", ONLY, "--budget", "13", "--quiet"]
    assert cli.main([*words, "--report", str(folder / "report")]) == 0
    return (folder / "report" / "results.json").read_text()


@pytest.fixture
def found(results: str) -> dict[str, Any]:
    """The results, for one test to change."""
    changed: dict[str, Any] = json.loads(results)
    return changed


def test_the_report_gives_the_commands_and_its_true_numbers(found: dict[str, Any]) -> None:
    found["about"]["replicates"] = 321
    found["learn"]["ftrl_proximal"] = "ftrl learn 'a b.jsonl' --model model"
    sparse = {"ratio": 0.4, "interval": [0.3, 0.5], "level": 0.4}
    found["nonzeros_at_equal_loss"]["ftrl_proximal_2011"] |= sparse
    for text in (markdown(found), html.unescape(page(found))):
        assert "with replacement, 321 times" in text
        assert "a thousand" not in text
        assert found["learn"]["ftrl_proximal"] in text
        assert found["learn"]["ftrl_proximal_2011"] in text
        assert "To turn it on: --l1 0 --set l1_per_event=VALUE" in text
        assert "It is not the default because" in text


def test_where_it_does_not_win_each_thing_is_said_once(found: dict[str, Any]) -> None:
    for rows in found["levels"].values():
        for row in rows:
            row[1:] = [100.0, 1000.0]
    (said,) = [text for text in not_first(found) if "log losses in the table" in text]
    assert "RDA (at 6)" in said


@pytest.mark.parametrize(
    ("ratio", "words"),
    [
        ({"ratio": None, "interval": None, "gap": 0.003, "gap_interval": [0.001, 0.005]},
         "SGD+L1 never gets as accurate with any setting tried"),
        ({"ratio": None, "interval": None, "gap": 0.003, "gap_interval": [-0.001, 0.005]},
         "SGD+L1 gets nearly as accurate, and the difference may be chance"),
        ({"ratio": 2.5, "interval": [1.5, 3.5]}, "SGD+L1 needs 2.50 times as many to be as accurate"),
        ({"ratio": 1.1, "interval": [0.9, None]}, "SGD+L1 needs about as many to be as accurate"),
        ({"ratio": 0.5, "interval": [0.4, 0.6]}, "SGD+L1 is as accurate with fewer, 0.50 times as many"),
    ],
)  # fmt: skip
def test_the_first_sentence_has_plain_words(found: dict[str, Any], ratio: dict[str, Any], words: str) -> None:
    found["contenders"]["ftrl_proximal"]["nonzero_weights"] = 12345
    found["nonzeros_at_equal_loss"]["sgd_l1"] |= ratio
    first = headline(found)
    assert first.startswith(f"On these events FTRL-Proximal needs about 12,000 weights; {words}")
    assert "[" not in first
    figures = headline_figures(found)
    assert "12,345 non-zero weights" in figures
    assert (f"{ratio['ratio']:.2f} × [" if ratio["ratio"] else "stays 0.00300 [") in figures
    assert first in page(found)
    assert figures in page(found)


def test_the_summary_says_what_can_be_compared_and_loses_no_text(
    found: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    reason = "river is not installed; pip install 'ftrl-engine[bench]'"
    found["contenders"]["river_ftrl"] = {"title": "River", "skipped": reason}
    ratio = {"ratio": None, "interval": None, "level": 0.4, "gap": 0.0032, "gap_interval": [0.001, 0.005]}
    found["nonzeros_at_equal_loss"]["rda"] |= ratio
    compare_command._print(found)
    text = " ".join(capsys.readouterr().out.split())
    assert f"river_ftrl skipped: {reason}" in text
    assert "not reached, +0.0032" in text
    assert "weights (those that are not zero) are not to be compared from row to row" in text
    assert "its lowest log loss is 0.001 higher" in text


@pytest.mark.parametrize("name", ["ftrl_proximal", "ftrl_proximal_2011", "sgd_l1", "ogd_count"])
def test_the_command_to_learn_gives_the_model_that_was_compared(
    name: str, found: dict[str, Any], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert set(found["learn"]) == set(found["contenders"])
    words = shlex.split(found["learn"][name])
    assert words[0] == "ftrl"
    words[words.index("--model") + 1] = str(tmp_path / "model")
    assert cli.main([*words[1:], "--json", "--quiet"]) == 0
    learned = json.loads(capsys.readouterr().out)
    facts = found["contenders"][name]
    assert learned["log_loss"] == pytest.approx(facts["log_loss"], rel=1e-9)
    assert learned["nonzero_weights"] == facts["nonzero_weights"]
