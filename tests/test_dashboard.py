"""docs/grafana-dashboard.json: it queries metrics that are there, and shows all that are."""

from __future__ import annotations

import json
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving.metrics import Metrics
from serving.score_counts import SCORE_BUCKETS
from serving.scorer import Scored
from serving.server_state import FeedbackState, LearnerState, ServerState
from serving.store import SnapshotStore

DASHBOARD = Path(__file__).resolve().parent.parent / "docs" / "grafana-dashboard.json"
PROVENANCE: dict[str, Any] = {
    "rows": 5,
    "metrics": {"log_loss": 0.25, "auc": 0.75, "calibration": 1.5},
    "source": {"lag": 7, "lost": 1, "last_event_age": 2.5},
}


def metrics_of(model: Path) -> Metrics:
    (model / "snapshots").mkdir()
    empty = Snapshot(np.empty(0, np.uint32), np.empty(0, np.float32), 0.0, 8, Schema(), PROVENANCE)
    empty.save(model / "snapshots" / "5.safetensors")
    store = SnapshotStore(model)
    store.refresh()
    state = ServerState(learner=LearnerState("log:x"), feedback=FeedbackState("log:x"))
    metrics = Metrics(store, lambda: 0.0, state=state)
    metrics.count_request("other", 404)
    return metrics


def samples(metrics: Metrics) -> dict[str, float]:
    """By name, and for a bucket by name and bound."""
    families = text_string_to_metric_families(metrics.text()[0].decode())
    return {
        sample.name + sample.labels.get("le", ""): sample.value
        for family in families
        for sample in family.samples
    }


def names(metrics: Metrics) -> set[str]:
    families = text_string_to_metric_families(metrics.text()[0].decode())
    return {sample.name for family in families for sample in family.samples if sample.name[:5] == "ftrl_"}


def test_the_dashboard_queries_what_is_there_and_leaves_nothing_out(tmp_path: Path) -> None:
    panels = json.loads(DASHBOARD.read_text())["panels"]
    queries = [target["expr"] for panel in panels for target in panel["targets"]]
    queried = set(re.findall(r"\bftrl_[a-z_]+", " ".join(queries)))
    there = names(metrics_of(tmp_path))
    assert queried <= there
    # Of a histogram, its sum is in no panel.
    assert {name for name in there - queried if not name.endswith(("_sum", "_count"))} == set()


def test_the_dashboard_is_whole() -> None:
    board = json.loads(DASHBOARD.read_text())
    panels = board["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    variables = {variable["name"] for variable in board["templating"]["list"]}
    for panel in panels:
        assert panel["datasource"]["uid"] == "${datasource}"
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        for target in panel["targets"]:
            for left, right in ("()", "{}", "[]"):
                assert target["expr"].count(left) == target["expr"].count(right)
            assert set(re.findall(r'"\$(\w+)"', target["expr"])) <= variables
    for one, other in combinations([panel["gridPos"] for panel in panels], 2):
        beside = one["x"] + one["w"] <= other["x"] or other["x"] + other["w"] <= one["x"]
        above = one["y"] + one["h"] <= other["y"] or other["y"] + other["h"] <= one["y"]
        assert beside or above


def test_what_a_snapshot_says_of_its_learner_is_exposed(tmp_path: Path) -> None:
    found = samples(metrics_of(tmp_path))
    assert (found["ftrl_learner_lag"], found["ftrl_learner_lost"]) == (7, 1)
    assert found["ftrl_learner_event_age_seconds"] == 2.5
    assert (found["ftrl_model_log_loss"], found["ftrl_model_calibration"]) == (0.25, 1.5)


@given(requests=st.lists(st.lists(st.floats(0, 1), max_size=40), max_size=5))
def test_the_distribution_of_scores(
    tmp_path_factory: pytest.TempPathFactory, requests: list[list[float]]
) -> None:
    metrics = metrics_of(tmp_path_factory.mktemp("model"))
    for scores in requests:
        metrics.count_scores(Scored(np.array([2.0, 3.0, *scores])), 0.001)
    found, given = samples(metrics), [score for scores in requests for score in scores]
    assert found["ftrl_unknown_fields_total"] == 2 * len(requests)
    assert found["ftrl_missing_fields_total"] == 3 * len(requests)
    assert found["ftrl_candidates_total"] == found["ftrl_score_probability_count"] == len(given)
    for name in ("ftrl_scores_sum_total", "ftrl_score_probability_sum"):
        assert found[name] == pytest.approx(sum(given))
    for bound in SCORE_BUCKETS:
        expected = sum(score <= bound for score in given)
        assert found[f"ftrl_score_probability_bucket{bound}"] == expected
