"""Explanations: they add up to the scores, say what is known of each weight, and stay within limits."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import FeatureHasher, Schema, Snapshot, build
from ftrl_engine.errors import DataError
from ftrl_engine.losses import sigmoid
from serving import create_app
from serving.explain_route import MAX_AT_ONCE, ExplainAnswer
from serving.explanation import MAX_EXPLAINED_FEATURES, Explainer, Explanation
from serving.name_reader import NameReader
from serving.request_values import TooLargeError, decode_request
from serving.scorer import Scorer
from streams.names import Names
from tests.test_serving_app import ask, with_client
from tests.test_serving_scorer import CLOSED, SCHEMA, events, snapshot_of

LEARNER = {"name": "ftrl_proximal", "bits": 10, "alpha": 0.1, "beta": 1.0, "l1": 1.0, "l2": 1.0}


def explain(snapshot: Snapshot, body: dict[str, Any], names: Names | None = None) -> list[Explanation]:
    return Explainer(snapshot).explain(decode_request(json.dumps(body).encode(), 1000), names)


@given(events, st.lists(events, max_size=3), st.sampled_from([SCHEMA, CLOSED, Schema()]), st.booleans())
def test_contributions_add_up_to_the_score(
    context: dict[str, Any], candidates: list[dict[str, Any]], schema: Schema, counted: bool
) -> None:
    snapshot = snapshot_of(schema)
    if counted:
        counts = np.linspace(0, 1e6, len(snapshot.slots), dtype=np.float32)
        snapshot = replace(snapshot, counts=counts, provenance={"learner": LEARNER})
    body = json.dumps({"context": context, "candidates": candidates}).encode()
    try:
        scores = Scorer(snapshot).score(body).scores
    except DataError:
        return
    found = Explainer(snapshot).explain(decode_request(body, 100), None)
    assert [one.score for one in found] == pytest.approx(scores, abs=1e-9, rel=1e-9)
    for one in found:
        parts = [part.contribution for part in one.contributions]
        assert sum(parts) + one.intercept == pytest.approx(one.margin, abs=1e-9, rel=1e-9)
        assert one.score == sigmoid(one.margin)
        assert [abs(part) for part in parts] == sorted(map(abs, parts), reverse=True)
        for part in one.contributions:
            assert part.contribution == part.weight * part.value
            assert snapshot.weights[part.slot] == np.float32(part.weight)
            assert (part.count is None) == (not counted)
        check_uncertainty(one, counted)


def check_uncertainty(one: Explanation, counted: bool) -> None:
    if not counted:
        assert one.uncertainty is None
        return
    assert one.uncertainty is not None
    assert one.uncertainty.features_without_count == 0
    assert one.uncertainty.margin_at_most == (one.uncertainty.margin or 0.0)
    low, high = one.uncertainty.score
    assert low <= one.score <= high


def test_what_is_known_of_each_feature() -> None:
    schema = Schema.from_dict({"fields": {"price": {"kind": "number"}}})
    hasher = FeatureHasher(schema, 10)
    slots = {
        name: hasher.transform([{name: value}]).slots[0] for name, value in (("user", "u1"), ("price", 2))
    }
    assert len(set(slots.values())) == 2
    order = sorted(slots, key=lambda name: slots[name])
    weight = {"user": -1.5, "price": 0.25}
    count = {"user": 9.0, "price": 4.0}
    snapshot = Snapshot(
        np.array([slots[name] for name in order], dtype=np.uint32),
        np.array([weight[name] for name in order], dtype=np.float32),
        -2.0,
        10,
        schema,
        {"learner": LEARNER},
        np.array([count[name] for name in order], dtype=np.float32),
    )
    (one,) = explain(snapshot, {"context": {"user": "u1", "price": 3, "item": "new"}})
    user, price, item = one.contributions
    assert (user.name, user.fields, user.slot, user.value) == ("user=u1", ("user",), slots["user"], 1.0)
    assert (user.weight, user.contribution, user.count) == (-1.5, -1.5, 9.0)
    assert (price.name, price.value, price.contribution) == ("price", 3.0, 0.75)
    assert (item.name, item.weight, item.count, item.confidence) == ("item=new", 0.0, None, None)
    # The rate of a weight is 1 / ((beta + sqrt n) / alpha + l2).
    new, of_user, of_price = 1 / 11, 1 / 41, 1 / 31
    assert user.confidence == pytest.approx(1 - of_user / new)
    assert one.margin == pytest.approx(-2.75)
    assert one.uncertainty is not None
    assert one.uncertainty.margin == pytest.approx(of_user + 9 * of_price)
    assert one.uncertainty.margin_at_most == pytest.approx(of_user + 9 * of_price + new)
    assert one.uncertainty.features_without_count == 1
    reach = of_user + 9 * of_price + new
    assert one.uncertainty.score == pytest.approx((sigmoid(-2.75 - reach), sigmoid(-2.75 + reach)))


def test_without_counts_everything_may_be_new() -> None:
    snapshot = replace(snapshot_of(Schema()), provenance={"learner": LEARNER})
    (one,) = explain(snapshot, {"context": {"a": "x", "b": "y"}})
    assert one.uncertainty is not None
    assert one.uncertainty.margin is None
    assert one.uncertainty.margin_at_most == pytest.approx(2 / 11)
    assert one.uncertainty.features_without_count == 2
    for learner in ({"name": "sgd_l1"}, {"name": "unheard of"}, {"name": "ftrl_proximal"}, None, 7):
        (one,) = explain(replace(snapshot, provenance={"learner": learner}), {"context": {"a": "x"}})
        assert one.uncertainty is None


def test_features_that_share_a_slot_are_named() -> None:
    snapshot = snapshot_of(Schema())
    hasher = FeatureHasher(Schema(), snapshot.bits)
    slot = hasher.slot("a", "x")
    twin = next(f"y{i}" for i in range(10**6) if hasher.slot("b", f"y{i}") == slot)
    names = Names.of({slot: ["a=x", "c=z"], slot + 1: ["d=w"]})
    (one,) = explain(snapshot, {"context": {"a": "x", "b": twin}}, names)
    shared = {part.name: part.shared_with for part in one.contributions}
    assert shared == {"a=x": [f"b={twin}", "c=z"], f"b={twin}": ["a=x", "c=z"]}
    (alone,) = explain(snapshot, {"context": {"a": "x"}})
    assert alone.contributions[0].shared_with == []


def test_the_uncertainty_of_a_repeated_slot_is_that_of_the_sum() -> None:
    snapshot = replace(snapshot_of(Schema()), provenance={"learner": LEARNER})
    (one,) = explain(snapshot, {"context": {"a": ["x", "x", "x"]}})
    assert [(part.name, part.value) for part in one.contributions] == [("a=x", 3.0)]
    assert one.uncertainty is not None
    assert one.uncertainty.margin_at_most == pytest.approx(9 / 11)


def test_more_features_than_can_be_explained() -> None:
    snapshot = snapshot_of(SCHEMA)
    many = [f"t{i}" for i in range(200)]
    for body in (
        {"context": {"user": many, "item": many}},
        {"candidates": [{"tags": "|".join(many)}] * 51},
        {"context": {"other": [str(i) for i in range(MAX_EXPLAINED_FEATURES + 1)]}},
        {"context": {"other": many, "amount": 0}, "candidates": [{}] * 51},
    ):
        with pytest.raises(TooLargeError, match=f"more than {MAX_EXPLAINED_FEATURES} features"):
            explain(snapshot, body)


def test_numbers_too_large_to_square() -> None:
    snapshot = replace(snapshot_of(SCHEMA), provenance={"learner": LEARNER})
    (one,) = explain(snapshot, {"context": {"amount": 1e200}})
    assert one.uncertainty is not None
    assert one.uncertainty.margin_at_most is None
    assert json.loads(msgspec.json.encode(one))["uncertainty"]["margin_at_most"] is None


# The route.


def learned(model: Path) -> Snapshot:
    """A model that has learned something, and the names of its features."""
    learner = build("ftrl_proximal", n_slots=1 << 12, l1=0.01)
    hasher = FeatureHasher(Schema(), 12)
    rows: list[dict[str, Any]] = [
        {"user": f"u{i % 5}", "item": f"i{i % 7}", "click": i % 5 // 3} for i in range(200)
    ]
    learner.learn(hasher.transform(rows))
    provenance = {
        "rows": 200,
        "learner": {"name": "ftrl_proximal", **learner.settings},
        "published_at": time.time(),
    }
    snapshot = Snapshot.of(learner, 12, Schema(), provenance)
    (model / "snapshots").mkdir(parents=True)
    snapshot.save(model / "snapshots" / "200.safetensors")
    Names.of({hasher.slot("user", "u4"): ["user=u4", "item=other"]}).save(
        model / "names.safetensors", Schema(), 12
    )
    return snapshot


def test_route(tmp_path: Path) -> None:
    learned(tmp_path)
    body = {"context": {"user": "u4"}, "candidates": [{"item": "i1"}, {"item": "i2", "user": "u0"}]}

    async def do(client: httpx.AsyncClient) -> None:
        answer = await client.post("/explain", json=body)
        assert answer.status_code == 200
        found = msgspec.json.decode(answer.content, type=ExplainAnswer)
        scored = (await client.post("/score", json=body)).json()
        assert [one.score for one in found.explanations] == pytest.approx(scored["scores"], abs=1e-9)
        assert found.model.version == scored["model"]["version"]
        first, second = found.explanations
        user = next(part for part in first.contributions if part.fields == ("user",))
        assert user.shared_with == ["item=other"]
        assert user.weight > 0
        assert user.count is not None
        assert user.confidence is not None
        assert 0 < user.confidence < 1
        assert first.uncertainty is not None
        assert {part.name for part in second.contributions} == {"user=u0", "item=i2"}
        counts = (await client.get("/metrics")).text
        assert 'ftrl_requests_total{route="/explain",status="200"} 1.0' in counts
        # Explaining is no scoring: those counts are of /score alone.
        assert "ftrl_candidates_total 2.0" in counts

    with_client(create_app(tmp_path), do)


def test_refusals(tmp_path: Path) -> None:
    async def do(client: httpx.AsyncClient) -> None:
        for body, status, what in (
            (b"{", 400, "JSON"),
            (b'{"context": {"a": [[1]]}}', 400, "'a'"),
            (json.dumps({"candidates": [{}] * 101}).encode(), 413, "100"),
            (json.dumps({"context": {"a": list(range(11_000))}}).encode(), 413, "features"),
            (b'{"context": {"x": "%s"}}' % (b"y" * (1 << 20)), 413, "bytes"),
        ):
            answer = await client.post("/explain", content=body)
            assert (answer.status_code, set(answer.json())) == (status, {"error"})
            assert what in answer.json()["error"]
        assert (await client.get("/explain")).headers["allow"] == "POST"

    learned(tmp_path)
    with_client(create_app(tmp_path), do)
    assert ask(create_app(tmp_path / "none"), "POST", "/explain", json={"context": {}}).status_code == 503


def test_so_many_at_once_and_no_more(tmp_path: Path) -> None:
    import asyncio

    learned(tmp_path)
    body = {"context": {"a": list(range(5000))}}

    async def do(client: httpx.AsyncClient) -> None:
        await client.post("/explain", json={"context": {}})
        answers = await asyncio.gather(*(client.post("/explain", json=body) for _ in range(3 * MAX_AT_ONCE)))
        statuses = [answer.status_code for answer in answers]
        assert set(statuses) == {200, 503}
        assert {answer.headers.get("retry-after") for answer in answers if answer.status_code == 503} == {"1"}
        assert (await client.post("/explain", json=body)).status_code == 200

    with_client(create_app(tmp_path), do)


def test_names_are_read_when_they_change_and_never_needed(tmp_path: Path) -> None:
    now = 0.0
    snapshot = snapshot_of(Schema())
    reader = NameReader(tmp_path, lambda: now)

    def look(at: float) -> tuple[str, ...] | None:
        nonlocal now
        now = at
        names = reader.names(snapshot)
        return None if names is None else names[7]

    path = tmp_path / "names.safetensors"
    assert look(0) is None
    Names.of({7: ["a"]}).save(path, snapshot.schema, snapshot.bits)
    assert look(1) is None, "it does not look again at once"
    assert look(3) == ("a",)
    Names.of({7: ["a", "b"]}).save(path, snapshot.schema, snapshot.bits)
    assert look(6) == ("a", "b")
    path.write_bytes(path.read_bytes()[:-1])
    assert look(9) is None
    Names.of({7: ["a"]}).save(path, snapshot.schema, snapshot.bits + 1)
    assert look(12) is None, "names of another model say nothing"
