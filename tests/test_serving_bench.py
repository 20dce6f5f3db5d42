"""The parts of `ftrl bench --serving` that need neither a load nor a quiet machine."""

from __future__ import annotations

import importlib.util
import json
import os
import sys
from itertools import islice
from pathlib import Path

import pytest

from bench import machine, serving_apps, serving_case, serving_speed

REQUEST = b'{"context": {"f0": "v1", "f1": "v2"}, "candidates": [{"f2": "v3"}, {"f2": "v4"}]}'


def test_events_have_thirty_fields_and_are_always_the_same() -> None:
    first, again = (list(islice(serving_case.events(100), 100)) for _ in range(2))
    assert first == again
    assert {len(event) for event in first} == {1 + serving_case.FIELDS}
    assert {event["click"] for event in first} == {0, 1}


def test_rows_are_joined_with_their_context() -> None:
    seen: list[object] = []

    def score(rows: object) -> list[float]:
        seen.append(rows)
        return [0.5, 0.25]

    assert json.loads(serving_apps.scoring(score)(REQUEST)) == {"scores": [0.5, 0.25]}
    assert seen == [[{"f0": "v1", "f1": "v2", "f2": "v3"}, {"f0": "v1", "f1": "v2", "f2": "v4"}]]


@pytest.mark.parametrize(("name", "module"), [("vw", "pylibvw"), ("sklearn", "sklearn")])
def test_rivals_give_probabilities(name: str, module: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(module) is None:
        pytest.skip(f"{module} is not installed")
    serving_case.write_events(tmp_path / "events.jsonl", 2000)
    reply = {"vw": serving_apps.vw, "sklearn": serving_apps.sklearn}[name](str(tmp_path / "events.jsonl"))
    scores = json.loads(reply(REQUEST))["scores"]
    assert len(scores) == 2
    assert all(0.0 <= score <= 1.0 for score in scores)
    assert len(json.loads(reply(b'{"context": {"f0": "v1"}}'))["scores"]) == 1


def test_stolen_time_is_known_on_linux(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = machine.stolen_seconds(), machine.stolen_seconds()
    if sys.platform == "linux":
        assert first is not None
        assert second is not None
        assert 0.0 <= first <= second < first + 1.0
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "cpu  1 2 3 4 5 6 7 250 0 0\n")
    assert machine.stolen_seconds() == 250 / os.sysconf("SC_CLK_TCK")
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: "something else")
    assert machine.stolen_seconds() is None


def test_without_wrk_the_group_is_skipped(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    (row,) = serving_speed.run(quick=True)
    assert row["skipped"] == "there is no wrk"
