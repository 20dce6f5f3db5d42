"""ftrl warmup: what is compiled ahead is what the commands need."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ftrl_engine import cli, jit
from ftrl_engine.jit import COMPILED
from serving import warmup_command

pytestmark = pytest.mark.skipif(not COMPILED, reason="nothing is compiled")


def test_a_share_compiles_into_the_cache(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["warmup", "--formats", "libsvm,jsonl,tsv", "--json", "--quiet"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cache"] == str(jit.CACHE)
    assert found["seconds"] > 0
    assert jit.CACHE is not None
    kernels = {path.name.split("-")[0] for path in jit.CACHE.glob("*.o")}
    for name in (
        "libsvm.encode_libsvm",
        "json_objects.encode_json",
        "ftrl_proximal.learn_rows",
        "request_answer.answer_request",
        "request_rows.score_request",
        "score_counts.count_scores",
    ):
        assert any(kernel.endswith(name) for kernel in kernels), name


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--formats", "xml"], "--formats: unknown 'xml'; known are csv, jsonl"),
        (["--learners", "adam"], "--learners: unknown 'adam'; known are ftrl_proximal"),
        (["--formats", ","], "--formats: unknown ','"),
        (["--jobs", "0"], "--jobs must be between 1 and 64, got 0"),
    ],
)
def test_a_bad_flag_is_refused(flags: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["warmup", *flags]) == cli.USAGE
    assert message in capsys.readouterr().err


def test_without_a_cache_nothing_is_compiled(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(jit, "CACHE", None)
    assert cli.main(["warmup"]) == cli.FAILED
    assert "set FTRL_CACHE_DIR" in capsys.readouterr().err


def test_every_step_is_in_one_share_and_no_share_is_empty() -> None:
    for jobs in (1, 2, 3, 64):
        shares = warmup_command._shares(["csv", "jsonl", "tsv"], ["ftrl_proximal", "rda"], jobs)
        assert len(shares) <= jobs
        assert all(shares)
        assert sorted(step for share in shares for step in share) == [
            "csv:ftrl_proximal",
            "csv:rda",
            "jsonl:ftrl_proximal",
            "serve",
            "tsv:ftrl_proximal",
        ]


def test_a_share_that_fails_is_told(tmp_path: Path) -> None:
    with pytest.raises(Exception, match="jsonl:nothing failed"):
        warmup_command._compile(str(tmp_path), ["jsonl:nothing"])
