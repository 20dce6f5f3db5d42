"""What every learner promises. Learners are discovered, so a new file is held to all of it at once."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from ftrl_engine import Batch, build
from ftrl_engine.errors import ConfigError, DataError
from ftrl_engine.jit import COMPILED
from ftrl_engine.learners.base import MAX_SLOTS, Learner, Parameter, find_learner, learner_names
from tests.oracles.events import N_SLOTS, Event, events, importances, labels, pack, summed

NAMES = learner_names()
PARAMETERS = [(name, parameter) for name in NAMES for parameter in find_learner(name).parameters]

every_learner = pytest.mark.parametrize("name", NAMES)
# Plain Python runs the same kernels a thousand times more slowly.
few = settings() if COMPILED else settings(max_examples=6)


def oracle_of(name: str) -> Any:
    return importlib.import_module(f"tests.oracles.{name}")


def settings_of(name: str) -> st.SearchStrategy[dict[str, Any]]:
    ranges = oracle_of(name).RANGES

    def choices(parameter: Parameter) -> st.SearchStrategy[Any]:
        if isinstance(parameter.default, str):
            return st.sampled_from(parameter.rule.split("|"))
        lo, hi = ranges[parameter.name]
        if isinstance(lo, int):
            return st.integers(lo, hi)
        return st.sampled_from([lo, hi]) | st.floats(lo, hi)

    return st.fixed_dictionaries({p.name: choices(p) for p in find_learner(name).parameters})


def learners_of(name: str) -> st.SearchStrategy[Callable[[], Learner]]:
    return settings_of(name).map(lambda chosen: lambda: build(name, N_SLOTS, **chosen))


def stands(learner: Learner) -> tuple[bytes, bytes]:
    """Everything a learner knows."""
    return learner.state.tobytes(), learner.scalars.tobytes()


def compare_with_oracle(learner: Learner, oracle: Any, rows: Sequence[Event]) -> None:
    margins = learner.learn(pack(rows, learner.n_slots))
    expected = [oracle.learn(summed(row), label, importance) for row, label, importance in rows]
    assert_allclose(margins, expected, rtol=1e-9, atol=1e-12)
    weights = np.zeros(learner.n_slots)
    for slot, weight in oracle.weights().items():
        weights[slot] = weight
    found = np.zeros(learner.n_slots)
    at, values = learner.weights()
    found[at] = values
    assert_allclose(found, weights, rtol=1e-9, atol=1e-12)
    assert_allclose(learner.intercept, oracle.intercept.margin, rtol=1e-9, atol=1e-12)


@every_learner
def test_has_an_oracle(name: str) -> None:
    path = Path(__file__).parent / "oracles" / f"{name}.py"
    assert path.is_file(), f"learner {name} needs tests/oracles/{name}.py"
    numeric = {p.name for p in find_learner(name).parameters if not isinstance(p.default, str)}
    assert oracle_of(name).RANGES.keys() == numeric


@every_learner
@few
@given(data=st.data())
def test_kernel_equals_oracle(name: str, data: st.DataObject) -> None:
    chosen = data.draw(settings_of(name))
    rows = data.draw(events)
    compare_with_oracle(build(name, N_SLOTS, **chosen), oracle_of(name).Oracle(**chosen), rows)


@every_learner
def test_kernel_equals_oracle_on_rows_longer_than_any_buffer(name: str) -> None:
    """Lengths around the prefetch distance, the scratch arrays' first size and the unrolled sum."""
    rng = np.random.default_rng(5)
    lengths = [0, 1, 3, 4, 5, 63, 64, 65, 111, 112, 113, 0, 400, 2, 129] if COMPILED else [5, 0, 66]
    rows: list[Event] = []
    for length in lengths:
        values = rng.normal(size=length) / 8 if rng.random() < 0.5 else np.ones(length)
        row = zip(rng.integers(0, 600, length).tolist(), values.tolist(), strict=True)
        rows.append((list(row), float(rng.integers(2)), 1.0))
    l1 = {parameter.name: 1e-3 for parameter in find_learner(name).parameters if parameter.name == "l1"}
    chosen = build(name, 600, alpha=0.05, **l1).settings
    compare_with_oracle(build(name, 600, **chosen), oracle_of(name).Oracle(**chosen), rows)


@pytest.mark.skipif(not COMPILED, reason="this is the plain run itself")
def test_kernels_equal_oracles_in_plain_python() -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", __file__, "-k"]
    done = subprocess.run(
        [*command, "test_kernel_equals_oracle or any_split or exactly_zero"],
        env=os.environ | {"NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout[-4000:]
    assert f"{4 * len(NAMES)} passed" in done.stdout


@every_learner
@few
@given(data=st.data())
def test_any_split_of_the_events_gives_the_same_bytes(name: str, data: st.DataObject) -> None:
    make = data.draw(learners_of(name))
    rows = data.draw(events)
    whole, batch = make(), pack(rows)
    margins = whole.learn(batch)
    cuts = sorted(data.draw(st.sets(st.integers(0, len(rows)))) | {0, len(rows)})
    apart, sliced = make(), make()
    packed = [apart.learn(pack(rows[a:b])) for a, b in itertools.pairwise(cuts)]
    shared = [sliced.learn(batch.rows(a, b)) for a, b in itertools.pairwise(cuts)]
    assert stands(apart) == stands(sliced) == stands(whole)
    if rows:
        assert np.concatenate(packed).tobytes() == np.concatenate(shared).tobytes() == margins.tobytes()


@every_learner
@given(data=st.data())
def test_state_and_scalars_are_all_there_is_to_save(name: str, data: st.DataObject) -> None:
    make = data.draw(learners_of(name))
    first, second = data.draw(events), data.draw(events)
    one, other = make(), make()
    one.learn(pack(first))
    other.state[:], other.scalars[:] = one.state, one.scalars
    assert one.learn(pack(second)).tobytes() == other.learn(pack(second)).tobytes()
    assert stands(one) == stands(other)
    assert one.intercept == other.intercept


@every_learner
@given(data=st.data())
def test_margins_are_those_that_learning_would_return(name: str, data: st.DataObject) -> None:
    learner = data.draw(learners_of(name))()
    for row in data.draw(events):
        batch = pack([row])
        before = stands(learner)
        asked = learner.margins(batch)
        assert stands(learner) == before
        assert asked.tobytes() == learner.learn(batch).tobytes()


@every_learner
def test_a_weight_is_exactly_zero_until_earned_and_comes_back_to_it(name: str) -> None:
    oracle = oracle_of(name)
    sparse, comes_back = oracle.SPARSE is not None, getattr(oracle, "COMES_BACK", oracle.SPARSE is not None)
    learner = build(name, 2, intercept="none", **(oracle.SPARSE or {}))
    click: Event = ([(0, 1.0)], 1.0, 1.0)
    quiet: Event = ([(0, 1.0)], 0.0, 1.0)
    faint: Event = ([(1, 0.01)], 1.0, 1.0)
    learner.learn(pack([faint, *[click] * 40], 2))
    at, weights = learner.weights()
    assert at.tolist() == ([0] if sparse else [0, 1])
    assert weights[0] > 0.0
    for _ in range(200):
        learner.learn(pack([quiet], 2))
        if len(learner.weights()[0]) == 0:
            break
    if not comes_back:
        assert learner.weights()[0].tolist() == at.tolist()
        return
    assert learner.weights()[0].tolist() == []
    assert learner.margins(pack([quiet], 2))[0] == 0.0


@every_learner
@given(data=st.data())
def test_a_repeated_slot_acts_as_the_sum_of_its_values(name: str, data: st.DataObject) -> None:
    make = data.draw(learners_of(name))
    rows = data.draw(events)
    merged: list[Event] = []
    for features, label, importance in rows:
        x = summed(features)
        if 0.0 not in x.values():  # values that cancel leave a feature that is 0
            merged.append((list(x.items()), label, importance))
    rows = [row for row in rows if 0.0 not in summed(row[0]).values()]
    repeated, once = make(), make()
    assert repeated.learn(pack(rows)).tobytes() == once.learn(pack(merged)).tobytes()
    assert stands(repeated) == stands(once)


@every_learner
@given(data=st.data())
def test_empty_rows_change_no_weight(name: str, data: st.DataObject) -> None:
    """An empty row is an event all the same: it moves the intercept, and without one nothing at all."""
    chosen = data.draw(settings_of(name))
    rows = data.draw(events)
    places = data.draw(st.lists(st.integers(0, len(rows)), max_size=4))
    empty: Event = ([], data.draw(labels), data.draw(importances))
    padded = list(rows)
    for place in places:
        padded.insert(place, empty)
    one, other = (build(name, N_SLOTS, **(chosen | {"intercept": "none"})) for _ in range(2))
    one.learn(pack(rows))
    other.learn(pack(padded))
    assert stands(one) == stands(other)
    learner = build(name, N_SLOTS, **chosen)
    learner.learn(pack(rows))
    state, weights, intercept = learner.state.tobytes(), learner.weights(), learner.intercept
    assert learner.learn(pack([empty])).tolist() == [intercept]
    assert learner.state.tobytes() == state
    assert [part.tobytes() for part in learner.weights()] == [part.tobytes() for part in weights]


@every_learner
def test_an_empty_batch_changes_nothing(name: str) -> None:
    learner = build(name, N_SLOTS)
    learner.learn(pack([([(1, 1.0)], 1.0, 1.0)]))
    before = stands(learner)
    assert len(learner.learn(pack([]))) == len(learner.margins(pack([]))) == 0
    assert stands(learner) == before


@every_learner
@given(rows=events)
def test_a_batch_is_never_modified(name: str, rows: list[Event]) -> None:
    batch = pack(rows)
    learner = build(name, N_SLOTS)
    before = {field: np.copy(getattr(batch, field)) for field in Batch.__slots__}
    learner.learn(batch)
    learner.margins(batch)
    for field, array in before.items():
        assert np.array_equal(getattr(batch, field), array, equal_nan=True), field


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("field", ["values", "labels", "importance"])
def test_what_is_not_finite_stops_at_the_border(field: str, bad: float) -> None:
    arrays = {"values": [1.0, 2.0], "labels": [0.0, 1.0], "importance": [1.0, 1.0]}
    assert len(Batch([0, 1, 2], [3, 4], **arrays, n_slots=N_SLOTS)) == 2
    arrays[field][1] = bad
    with pytest.raises(DataError, match=rf"{field} .*{bad}"):
        Batch([0, 1, 2], [3, 4], **arrays, n_slots=N_SLOTS)


def test_values_whose_sum_is_not_finite_stop_at_the_border() -> None:
    with pytest.raises(DataError, match="row 1"):
        Batch([0, 1, 3, 4], [2, 1, 1, 2], [1.0, 9e49, 9e49, 1.0], [1.0, 1.0, 0.0], n_slots=N_SLOTS)


@every_learner
@pytest.mark.parametrize(("value", "importance"), [(1e200, 1.0), (1.0, 1e200), (-1e308, 1e308)])
def test_no_finite_event_can_poison_a_model(name: str, value: float, importance: float) -> None:
    learner = build(name, N_SLOTS)
    huge: Event = ([(1, value), (2, value)], 1.0, importance)
    for _ in range(3):
        with contextlib.suppress(DataError):
            learner.learn(pack([huge]))
    learner.learn(pack([([(1, 1.0), (2, 1.0)], 0.0, 1.0)]))
    assert np.isfinite(learner.state).all()
    assert np.isfinite(learner.scalars).all()
    assert np.abs(learner.weights()[1]).max(initial=0.0) < 1e30


@every_learner
def test_batches_it_cannot_take_are_refused_with_the_reason(name: str) -> None:
    learner = build(name, N_SLOTS)
    with pytest.raises(DataError, match="needs labels"):
        learner.learn(Batch([0, 1], [3], n_slots=N_SLOTS))
    wide = Batch([0, 1], [3], labels=[1.0], n_slots=N_SLOTS + 1)
    for method in (learner.learn, learner.margins):
        with pytest.raises(DataError, match=f"{N_SLOTS + 1} slots, more than the {N_SLOTS}"):
            method(wide)
    assert stands(learner) == stands(build(name, N_SLOTS))


BAD = {
    "> 0": [0.0, -1.0, np.nan, np.inf, 10**400, "1", None, True, 1j, [1.0]],
    ">= 0": [-1e-9, np.nan, np.inf, -np.inf, 10**400, "1", None, False, np.complex128(1)],
    "in [0, 1]": [-1e-9, 1.0001, np.nan, np.inf, "1", None, True],
    ">= 0 and whole": [-1.0, 0.5, np.nan, np.inf, "1", None, True],
    ">= 1 and whole": [0.0, 1.5, np.nan, np.inf, 10**400, "1", None, True],
}
BAD_WORD = ["", "None", "base_rate|plain", None, 0, True, ["none"], np.array([1.0, 2.0])]


@pytest.mark.parametrize(("name", "parameter"), PARAMETERS, ids=lambda value: getattr(value, "name", value))
def test_every_bad_parameter_is_refused_with_name_rule_and_value(name: str, parameter: Parameter) -> None:
    word = isinstance(parameter.default, str)
    for bad in BAD_WORD if word else BAD[parameter.rule]:
        with pytest.raises(ConfigError) as refused:
            build(name, N_SLOTS, **{parameter.name: bad})
        message = str(refused.value)
        rule = parameter.rule.replace("|", ", ") if word else parameter.rule
        assert message.startswith(parameter.name)
        assert rule in message
        assert repr(bad) in message


@every_learner
@given(data=st.data())
def test_good_parameters_are_kept_as_given(name: str, data: st.DataObject) -> None:
    chosen = data.draw(settings_of(name))
    assert build(name, N_SLOTS, **chosen).settings == chosen
    defaults = {parameter.name: parameter.default for parameter in find_learner(name).parameters}
    some = dict(data.draw(st.lists(st.sampled_from(sorted(chosen.items())))))
    assert build(name, N_SLOTS, **some).settings == defaults | some


@every_learner
def test_unknown_parameters_and_learners_are_refused_with_what_there_is(name: str) -> None:
    with pytest.raises(ConfigError, match=r"no parameter 'lambda1'; it has .*intercept_rate"):
        build(name, N_SLOTS, lambda1=1.0)
    for wrong in ("", "base", "intercept", "rows", "steps", name.upper(), "../" + name):
        with pytest.raises(ConfigError, match=f"one of .*{name}.*got {wrong!r}"):
            build(wrong, N_SLOTS)


@every_learner
@pytest.mark.parametrize("bad", [0, -1, MAX_SLOTS + 1, 1.0, "8", True, None])
def test_a_bad_number_of_slots_is_refused(name: str, bad: Any) -> None:
    with pytest.raises(ConfigError, match=f"n_slots must be .*got {bad!r}"):
        build(name, bad)


@every_learner
def test_threads_may_ask_for_margins_at_the_same_time(name: str) -> None:
    random = np.random.default_rng(0)
    slots = np.concatenate([random.choice(N_SLOTS, 8, replace=False) for _ in range(4000)])
    batches = [
        Batch(np.arange(1001) * 8, part, None, random.integers(0, 2, 1000), n_slots=N_SLOTS)
        for part in slots.reshape(4, -1)
    ]
    learner = build(name, n_slots=N_SLOTS)
    learner.learn(batches[0])
    wanted = [learner.margins(batch) for batch in batches]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(learner.margins, batches * 50))
    assert all(np.array_equal(margins, wanted[i % 4]) for i, margins in enumerate(found))


def test_what_is_no_batch_is_refused() -> None:
    learner: Any = build("ftrl_proximal", n_slots=N_SLOTS)
    for other in (None, np.eye(2), {"user": "u1"}):
        with pytest.raises(DataError, match="takes a Batch, got"):
            learner.learn(other)
        with pytest.raises(DataError, match="takes a Batch, got"):
            learner.margins(other)


@pytest.mark.parametrize("slots", [[[0, 1]], [-1], [N_SLOTS], [0.5]])
def test_weights_are_asked_for_by_slot(slots: Any) -> None:
    with pytest.raises(DataError, match="slots must be"):
        build("ftrl_proximal", n_slots=N_SLOTS).weights_at(np.array(slots))


def test_a_rate_must_have_a_reciprocal() -> None:
    with pytest.raises(ConfigError, match=r"alpha must be at least 2\.2"):
        build("ftrl_proximal", n_slots=N_SLOTS, alpha=1e-310)
