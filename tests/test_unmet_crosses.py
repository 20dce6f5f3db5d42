"""A cross of a field that never occurs has no feature, and whoever learns by it is told so."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ftrl_engine import cli
from ftrl_engine.schema import Schema
from streams.codecs.base import open_codec
from tests.blocks import make_block

SCHEMA = """
label = "y"
columns = ["y", "a", "b", "c"]
crosses = [["a", "b"], ["b", "c"], ["a", "c", "typo"]]
"""
# c never has a value: an empty column is none.
TEXTS = {
    "jsonl": b'{"y":1,"a":"x"}\n{"y":0,"b":"z"}\n{"y":1,"a":"x","c":null}\n',
    "tsv": b"1\tx\t\t\n0\t\tz\t\n1\tx\t\t\n",
    "csv": b"1,x,,\n0,,z,\n1,x,,\n",
    "vw": b"1 |a x\n-1 |b z\n1 |a x\n",
}


@pytest.fixture
def schema(tmp_path: Path) -> Path:
    path = tmp_path / "crossed.toml"
    path.write_text(SCHEMA)
    return path


@pytest.mark.parametrize("name", TEXTS)
def test_a_codec_knows_what_it_never_met(schema: Path, name: str) -> None:
    codec = open_codec(name, Schema.load(schema), 18)
    assert codec.unmet() == {"a", "b", "c", "typo"}
    first, rest = TEXTS[name].split(b"\n", 1)
    list(codec.encode(make_block([first])))
    assert codec.unmet() == {"b", "c", "typo"}
    # What another thread has met is met.
    list(codec.twin().encode(make_block(rest.splitlines())))
    assert codec.unmet() == {"c", "typo"}


def learn(capsys: pytest.CaptureFixture[str], *words: object) -> tuple[dict[str, Any], list[str]]:
    """The JSON and the warnings on stderr."""
    assert cli.main(["learn", *map(str, words), "--json"]) == 0
    printed = capsys.readouterr()
    return json.loads(printed.out), [line for line in printed.err.splitlines() if "warning" in line]


def test_learning_says_once_which_cross_had_no_value(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events, model = tmp_path / "e.jsonl", tmp_path / "model"
    events.write_bytes(TEXTS["jsonl"] * 100)
    result, told = learn(capsys, events, "--model", model, "--schema", schema, "--passes", 2)
    assert result["rows"] == 600
    assert result["warnings"] == [
        "cross b*c had no value in any event: 'c' occurred in none of 600; check the name in the schema",
        "cross a*c*typo had no value in any event: 'c' and 'typo' occurred in none of 600; "
        "check the name in the schema",
    ]
    assert told == [f"warning: {text}" for text in result["warnings"]]
    result, told = learn(capsys, events, "--model", model)
    assert "warnings" not in result, "nothing was read"
    assert told == []


def test_nobody_is_warned_without_reason(
    tmp_path: Path, schema: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    events = tmp_path / "e.jsonl"
    line = b'{"y":1,"a":"x"}\n'
    # One event in many thousands is enough.
    events.write_bytes(line * 20_000 + b'{"y":0,"a":1,"b":2,"c":3,"typo":4}\n' + line * 20_000)
    result, told = learn(capsys, events, "--model", tmp_path / "model", "--schema", schema)
    assert result["rows"] == 40_001
    assert "warnings" not in result
    assert told == []
