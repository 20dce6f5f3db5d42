"""What a learner has seen of a slot, and how far one more event can move a margin."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ftrl_engine import Batch, Schema, Snapshot, build, container
from ftrl_engine.learners.base import Learner, find_learner, learner_names
from tests.oracles.events import N_SLOTS, Event, events, pack

ALL = np.arange(N_SLOTS, dtype=np.uint32)
settings = st.fixed_dictionaries(
    {
        "alpha": st.sampled_from([0.05, 1.0, 5.0]),
        "beta": st.sampled_from([0.0, 1.0]),
        "l1": st.sampled_from([0.0, 0.02, 1.0]),
        "l2": st.sampled_from([0.0, 1.0]),
    }
)


@pytest.mark.parametrize("name", learner_names())
@given(rows=events)
def test_weights_of_some_slots_are_those_of_all(name: str, rows: list[Event]) -> None:
    learner = build(name, N_SLOTS)
    learner.learn(pack(rows))
    slots, weights = learner.weights()
    dense = np.zeros(N_SLOTS)
    dense[slots] = weights
    before = learner.state.tobytes()
    assert learner.weights_at(ALL[::-1]).tolist() == dense[::-1].tolist()
    assert learner.weights_at(ALL[:0]).tolist() == []
    assert (learner.n_slots, learner.state.tobytes()) == (N_SLOTS, before)


@pytest.mark.parametrize("name", learner_names())
def test_a_learner_that_counts_has_rates(name: str) -> None:
    learner = build(name, N_SLOTS)
    counts = learner.counts_at(ALL)
    if counts is None:
        assert learner.rates(np.zeros(1), learner.settings) is None
        return
    assert (counts == 0).all()
    rates = learner.rates(np.array([0.0, 1.0, 1e6]), learner.settings)
    assert rates is not None
    assert (np.diff(rates) < 0).all()


@given(rows=events, chosen=settings)
def test_counts_are_sums_of_squared_gradients(rows: list[Event], chosen: dict[str, float]) -> None:
    learner = build("ftrl_proximal", N_SLOTS, **chosen)
    sums = np.zeros(N_SLOTS)
    for row in rows:
        batch = pack([row])
        margin = learner.learn(batch)[0]
        assert batch.labels is not None
        g = batch.importance[0] * (1 / (1 + np.exp(-margin)) - batch.labels[0])
        sums[batch.slots] += (g * batch.values) ** 2
    counts = learner.counts_at(ALL)
    assert counts is not None
    assert_allclose(counts, sums, rtol=1e-9)


@given(rows=events, asked=events.filter(len), chosen=settings)
def test_no_event_moves_its_margin_further_than_the_uncertainty(
    rows: list[Event], asked: list[Event], chosen: dict[str, float]
) -> None:
    """|change of w.x| <= sum rate_i |g_i x_i|, whatever the penalties."""
    learner = build("ftrl_proximal", N_SLOTS, **chosen)
    learner.learn(pack(rows))
    batch = pack(asked[:1])
    x, slots = batch.values, batch.slots
    before = _weighted(learner, batch)
    counts = learner.counts_at(slots)
    assert counts is not None
    rates = learner.rates(counts, learner.settings)
    margin = learner.learn(batch)[0]
    assert batch.labels is not None
    g = batch.importance[0] * (1 / (1 + np.exp(-margin)) - batch.labels[0]) * x
    assert abs(_weighted(learner, batch) - before) <= np.sum(rates * np.abs(g * x)) * (1 + 1e-9) + 1e-12


def _weighted(learner: Learner, batch: Batch) -> float:
    dense = np.zeros(N_SLOTS)
    slots, weights = learner.weights()
    dense[slots] = weights
    return float(dense[batch.slots] @ batch.values)


def trained() -> Learner:
    learner = build("ftrl_proximal", N_SLOTS, l1=0.0)
    learner.learn(pack([([(1, 1.0), (2, 0.5)], 1.0, 1.0), ([(1, 1.0)], 0.0, 2.0)]))
    return learner


def test_a_snapshot_keeps_the_counts_of_its_slots(tmp_path: Path) -> None:
    learner = trained()
    snapshot = Snapshot.of(learner, 4, Schema(), {})
    assert snapshot.slots.tolist() == [1, 2]
    assert snapshot.counts is not None
    assert snapshot.counts.tolist() == learner.state[[1, 2], 1].astype(np.float32).tolist()
    snapshot.save(tmp_path / "1.safetensors")
    loaded = Snapshot.load(tmp_path / "1.safetensors")
    assert loaded.counts is not None
    assert loaded.counts.tobytes() == snapshot.counts.tobytes()
    sgd = build("sgd_l1", N_SLOTS)
    assert Snapshot.of(sgd, 4, Schema(), {}).counts is None


def test_a_snapshot_without_counts_loads_and_wrong_counts_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "1.safetensors"
    arrays, texts = Snapshot.of(trained(), 4, Schema(), {}).parts()
    whole = dict(arrays)
    del whole["counts"]
    container.write(path, "snapshot", whole, texts)
    assert Snapshot.load(path).counts is None
    for wrong in (
        np.ones(3, dtype=np.float32),
        np.ones(2),
        np.array([1, -1], dtype=np.float32),
        np.array([1, np.inf], dtype=np.float32),
    ):
        container.write(path, "snapshot", arrays | {"counts": wrong}, texts)
        with pytest.raises(Exception, match=r"1\.safetensors: not a complete snapshot.*counts"):
            Snapshot.load(path)


def test_settings_in_the_provenance_give_the_rates() -> None:
    learner = trained()
    rates = find_learner("ftrl_proximal").rates(np.array([4.0]), {"name": "x", **learner.settings})
    assert rates is not None
    assert rates.tolist() == [1 / ((1 + 2) / 0.1 + 1)]
