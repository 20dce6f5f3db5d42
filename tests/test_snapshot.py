"""A snapshot scores like the learner it was taken from, and is the same again after a file."""

from __future__ import annotations

import json
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray

from ftrl_engine import Batch, Schema, Snapshot, build, container
from ftrl_engine.errors import ConfigError, CorruptFileError, DataError
from ftrl_engine.learners.base import Learner, find_learner, learner_names
from ftrl_engine.losses import sigmoid
from tests.oracles.events import N_SLOTS, Event, events, pack

BITS = 4
assert 1 << BITS == N_SLOTS
SCHEMA = Schema.from_dict(
    {"name": "shop", "label": "bought", "crosses": [["shop", "größe"]], "fields": {"sum": {"kind": "number"}}}
)
PROVENANCE = {"rows": 17, "learner": "any", "positions": {"events.tsv": 12}, "metrics": {"auc": 0.7}}

every_learner = pytest.mark.parametrize("name", learner_names())


def trained(name: str, rows: list[Event]) -> Learner:
    """With so little l1 that most weights are not 0."""
    l1 = {parameter.name: 1e-3 for parameter in find_learner(name).parameters if parameter.name == "l1"}
    learner = build(name, N_SLOTS, **l1)
    learner.learn(pack(rows))
    return learner


def some() -> Snapshot:
    rows: list[Event] = [([(slot, 1.0 + slot), (7, 1.0)], float(slot % 2), 1.0) for slot in range(12)]
    return Snapshot.of(trained("ftrl_proximal", rows), BITS, SCHEMA, PROVENANCE)


def content(snapshot: Snapshot) -> tuple[Any, ...]:
    return (
        snapshot.slots.tobytes(),
        snapshot.weights.tobytes(),
        snapshot.intercept,
        snapshot.bits,
        snapshot.schema,
        snapshot.provenance,
    )


@every_learner
@given(rows=events, asked=events)
def test_scores_like_its_learner(name: str, rows: list[Event], asked: list[Event]) -> None:
    learner = trained(name, rows)
    snapshot = Snapshot.of(learner, BITS, SCHEMA, PROVENANCE)
    batch = pack(asked)
    expected = learner.margins(batch)
    # Each weight is rounded to 24 bits, so a margin is off by at most that share of its terms.
    at, weights = learner.weights()
    reach = float(np.abs(weights).max(initial=0.0)) * 9 * 2.0
    assert_allclose(snapshot.margins(batch), expected, rtol=1e-12, atol=reach * 2.0**-24 + 1e-15)
    probabilities = [sigmoid(float(margin)) for margin in snapshot.margins(batch)]
    assert_allclose(snapshot.score(batch), probabilities, rtol=1e-15)
    assert snapshot.slots.tolist() == at.tolist()
    assert snapshot.weights.tobytes() == weights.astype(np.float32).tobytes()
    assert snapshot.intercept == learner.intercept


@every_learner
@given(rows=events, asked=events)
def test_a_file_gives_it_back_to_the_bit(name: str, rows: list[Event], asked: list[Event]) -> None:
    snapshot = Snapshot.of(trained(name, rows), BITS, SCHEMA, PROVENANCE)
    with tempfile.TemporaryDirectory() as folder:
        path, again = Path(folder) / "17.safetensors", Path(folder) / "18.safetensors"
        assert snapshot.save(path) == path.stat().st_size
        loaded = Snapshot.load(path)
        loaded.save(again)
        assert path.read_bytes() == again.read_bytes()
    assert content(loaded) == content(snapshot)
    batch = pack(asked)
    assert loaded.margins(batch).tobytes() == snapshot.margins(batch).tobytes()
    assert loaded.score(batch).tobytes() == snapshot.score(batch).tobytes()


@given(
    st.sets(st.integers(0, 255), max_size=200),
    st.lists(st.integers(0, 255), max_size=60, unique=True),
)
def test_every_slot_finds_its_weight_however_crowded_the_table(present: set[int], asked: list[int]) -> None:
    """Slots a power of two apart start at the same cell and must be told apart by probing."""
    spread = 1 << 20
    slots = np.array(sorted(present), dtype=np.uint32) * np.uint32(spread)
    weights = np.arange(1, len(slots) + 1, dtype=np.float32)
    snapshot = Snapshot(slots, weights, 0.5, 28, SCHEMA)
    batch = Batch(np.arange(len(asked) + 1), np.array(asked, dtype=np.int64) * spread, n_slots=1 << 28)
    by_slot = dict(zip(sorted(present), weights.tolist(), strict=True))
    assert snapshot.margins(batch).tolist() == [by_slot.get(slot, 0.0) + 0.5 for slot in asked]


def test_the_highest_slot_of_the_largest_table_is_an_ordinary_one() -> None:
    last = (1 << 31) - 1
    snapshot = Snapshot(np.array([last], dtype=np.uint32), np.ones(1, dtype=np.float32), 0.0, 31, SCHEMA)
    batch = Batch([0, 1, 2], [last, last - 1], n_slots=1 << 31)
    assert snapshot.margins(batch).tolist() == [1.0, 0.0]


def test_weights_that_are_zero_in_float32_are_not_published() -> None:
    learner = build("ftrl_proximal", N_SLOTS, l1=0.0, l2=0.0, alpha=1.0)
    learner.state[3], learner.state[5] = (1e-60, 1.0), (-1.0, 1.0)
    assert learner.weights()[0].tolist() == [3, 5]
    snapshot = Snapshot.of(learner, BITS, SCHEMA, {})
    assert (snapshot.slots.tolist(), snapshot.weights.tolist()) == ([5], [0.5])


def test_a_model_without_weights_scores_its_intercept(tmp_path: Path) -> None:
    learner = build("ftrl_proximal", N_SLOTS)
    learner.learn(Batch([0, 0, 0], [], labels=[0.0, 0.0], n_slots=N_SLOTS))
    snapshot = Snapshot.of(learner, BITS, SCHEMA, {})
    snapshot.save(tmp_path / "empty.safetensors")
    loaded = Snapshot.load(tmp_path / "empty.safetensors")
    asked = pack([([(1, 1.0)], 0.0, 1.0), ([], 0.0, 1.0)])
    assert loaded.margins(asked).tolist() == [learner.intercept] * 2
    assert learner.intercept < 0.0
    assert (len(loaded.slots), loaded.rows, snapshot.rows) == (0, 0, 0)
    assert loaded.margins(pack([])).tolist() == []


def test_another_number_of_slots_is_refused() -> None:
    with pytest.raises(DataError, match=r"32 slots, this snapshot 2\*\*4"):
        some().margins(pack([], 32))
    with pytest.raises(ConfigError, match=r"bits must fit the learner's 16 slots, got 5"):
        Snapshot.of(build("ftrl_proximal", N_SLOTS), 5, SCHEMA, {})


def test_equal_models_give_equal_files(tmp_path: Path) -> None:
    one, other = some(), some()
    backwards = dict(reversed(PROVENANCE.items()))
    other = replace(other, provenance=backwards)
    one.save(tmp_path / "one")
    other.save(tmp_path / "other")
    assert (tmp_path / "one").read_bytes() == (tmp_path / "other").read_bytes()


@given(st.data())
def test_any_flipped_bit_and_any_cut_is_refused_by_name(data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "17.safetensors"
        some().save(path)
        whole = path.read_bytes()
        damaged = bytearray(whole)
        bit = data.draw(st.integers(0, 8 * len(whole) - 1))
        damaged[bit // 8] ^= 1 << bit % 8
        for bad in (bytes(damaged), whole[: data.draw(st.integers(0, len(whole) - 1))]):
            path.write_bytes(bad)
            with pytest.raises(CorruptFileError, match=r"17\.safetensors"):
                Snapshot.load(path)


GOOD: dict[str, NDArray[Any]] = {
    "slots": np.array([1, 5], dtype=np.uint32),
    "weights": np.array([0.5, -1.0], dtype=np.float32),
    "intercept": np.array([0.25]),
}
TEXTS = {"bits": "4", "schema": json.dumps(SCHEMA.to_dict()), "provenance": "{}"}


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("slots", np.array([1, 5, 6], dtype=np.uint32)),
        ("slots", np.array([5, 1], dtype=np.uint32)),
        ("slots", np.array([1, 1], dtype=np.uint32)),
        ("slots", np.array([1, 16], dtype=np.uint32)),
        ("slots", np.array([1, 5])),
        ("weights", np.array([[0.5, -1.0]], dtype=np.float32)),
        ("weights", None),
        ("intercept", np.array([])),
        ("bits", "four"),
        ("bits", "99"),
        ("schema", "{"),
        ("schema", '{"colour": 1}'),
        ("schema", "[1]"),
        ("provenance", None),
    ],
)
def test_a_valid_container_that_is_no_snapshot_is_refused(tmp_path: Path, part: str, value: Any) -> None:
    path = tmp_path / "17.safetensors"
    container.write(path, "snapshot", GOOD, TEXTS)
    assert Snapshot.load(path).slots.tolist() == [1, 5]
    arrays, texts = dict(GOOD), dict(TEXTS)
    place: dict[str, Any] = arrays if part in arrays else texts
    if value is None:
        del place[part]
    else:
        place[part] = value
    container.write(path, "snapshot", arrays, texts)
    with pytest.raises(CorruptFileError, match=r"17\.safetensors: not a complete snapshot"):
        Snapshot.load(path)


@pytest.mark.parametrize(
    ("slots", "weights", "message"),
    [
        (np.arange(9, dtype=np.uint32), np.ones(1, np.float32), "a weight for each slot, got 9 and 1"),
        (np.array([3, 2], np.uint32), np.ones(2, np.float32), "must rise and fit into 4 bits"),
        (np.array([2, 16], np.uint32), np.ones(2, np.float32), "must rise and fit into 4 bits"),
        (np.array([2, 3]), np.ones(2, np.float32), "slots uint32"),
        (np.array([2, 3], np.uint32), np.ones(2), "weights float32"),
    ],
)
def test_kernels_get_no_arrays_that_break_the_rules(
    slots: NDArray[Any], weights: NDArray[Any], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        Snapshot(slots, weights, 0.0, 4, Schema())


def test_a_directory_is_no_snapshot(tmp_path: Path) -> None:
    with pytest.raises(CorruptFileError, match="is a directory"):
        Snapshot.load(tmp_path)
