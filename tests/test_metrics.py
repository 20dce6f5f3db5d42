"""Progressive against exact ranks and plain sums, and the laws of streaming."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError, DataError
from ftrl_engine.histogram import FINEST, LIMIT
from ftrl_engine.jit import COMPILED
from ftrl_engine.metrics import CAPACITY, Progressive

Floats = NDArray[np.float64]
Events = tuple[Floats, Floats, Floats]

FEW = 16  # so few bins that a short stream coarsens many times
ROWS = 200_000 if COMPILED else 4_000


def exact_auc(margins: Floats, labels: Floats, importance: Floats | None = None) -> float:
    """Weighted share of (negative, positive) pairs in the right order, ties half."""
    amounts = np.ones(margins.size) if importance is None else importance
    _, rank = np.unique(margins, return_inverse=True)
    negatives = np.bincount(rank, amounts * (1.0 - labels))
    positives = np.bincount(rank, amounts * labels)
    below = np.cumsum(negatives) - negatives
    return float(positives @ (below + negatives / 2.0) / (positives.sum() * negatives.sum()))


@st.composite
def event_lists(draw: st.DrawFn, largest: int = 60) -> Events:
    rows = draw(st.integers(0, largest))
    seed = draw(st.integers(0, 2**32 - 1))
    spread = draw(st.sampled_from([1e-6, 0.1, 3.0, 400.0]))
    rng = np.random.default_rng(seed)
    margins = np.round(rng.normal(-1.0, spread, rows), draw(st.sampled_from([0, 1, 9])))
    amounts = rng.choice([0.0, 0.1, 1.0, 1 / 3, 7.5], rows)
    return margins, rng.integers(0, 2, rows).astype(float), amounts


def measured(*parts: Events, capacity: int = FEW) -> Progressive:
    metrics = Progressive(capacity)
    for part in parts:
        metrics.update(*part)
    return metrics


def as_bytes(metrics: Progressive) -> dict[str, bytes]:
    return {name: array.tobytes() for name, array in metrics.arrays().items()}


def calibrated(rate: float, rows: int, seed: int = 0) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(seed)
    margins = rng.normal(math.log(rate / (1.0 - rate)), 1.0, rows)
    return margins, (rng.random(rows) < 1.0 / (1.0 + np.exp(-margins))).astype(float)


@given(event_lists())
def test_sums_equal_plain_sums(events: Events) -> None:
    margins, labels, amounts = events
    summary = measured(events).summary()
    total, positives = math.fsum(amounts), math.fsum(amounts * labels)
    towards = np.where(labels == 1.0, margins, -margins)
    loss = math.fsum(amounts * np.logaddexp(0.0, -towards))
    predicted = math.fsum(amounts * np.exp(-np.logaddexp(0.0, -margins)))
    assert summary["rows"] == margins.size
    if total == 0.0:
        assert (summary["log_loss"], summary["label_mean"]) == (None, None)
    else:
        assert summary["log_loss"] == pytest.approx(loss / total, rel=1e-12)
        assert summary["label_mean"] == pytest.approx(positives / total, rel=1e-12)
    if positives == 0.0:
        assert summary["calibration"] is None
    else:
        assert summary["calibration"] == pytest.approx(predicted / positives, rel=1e-12)
    if 0.0 < positives < total:
        rate = positives / total
        entropy = -rate * math.log(rate) - (1 - rate) * math.log(1 - rate)
        assert summary["normalized_entropy"] == pytest.approx(loss / total / entropy, rel=1e-9)
    else:
        assert summary["normalized_entropy"] is None


@given(event_lists())
def test_auc_is_exact_while_the_bins_suffice_and_within_its_bound_after(events: Events) -> None:
    margins, labels, amounts = events
    auc, error = measured(events, capacity=FEW).auc()
    fine, no_error = measured(events, capacity=64).auc()
    if amounts @ labels == 0.0 or amounts @ (1.0 - labels) == 0.0:
        assert (auc, error, fine, no_error) == (None, None, None, None)
        return
    assert auc is not None
    assert error is not None
    # Beyond the limit the probability is 0 or 1 to the last bit, and all margins are one score.
    exact = exact_auc(np.clip(margins, -LIMIT, LIMIT), labels, amounts)
    assert abs(auc - exact) <= error + 1e-12
    assert no_error == 0.0
    assert fine == pytest.approx(exact, abs=1e-12)


@pytest.mark.parametrize("rate", [0.002, 0.02, 0.5])
@pytest.mark.parametrize("spread", [1e-6, 0.001, 0.01, 1.0])
@pytest.mark.parametrize("shape", ["one cluster", "two clusters", "outliers", "many zeros"])
def test_auc_is_right_at_any_rate_and_however_tightly_scores_cluster(
    rate: float, spread: float, shape: str
) -> None:
    rng = np.random.default_rng(7)
    labels = (rng.random(ROWS) < rate).astype(float)
    margins = math.log(rate / (1.0 - rate)) + spread * (rng.normal(0.0, 1.0, ROWS) + labels)
    if shape == "two clusters":
        margins[::2] += 4.0  # a multiple of the table's span: both clusters ask for the same cells
    if shape == "outliers":
        margins[::200] = rng.normal(0.0, 100.0, margins[::200].size)
    if shape == "many zeros":
        margins[: ROWS // 3] = 0.0
    margins = np.round(margins, 11)  # closer ones are one score, by definition
    metrics = Progressive()
    metrics.update(margins, labels)
    auc, error = metrics.auc()
    assert auc is not None
    assert error is not None
    assert error < 1e-4
    assert abs(auc - exact_auc(margins, labels)) < min(error, 5e-6) + 1e-12
    assert (metrics.arrays()["grid"][0] < FINEST) == COMPILED


def test_many_equal_scores_of_zero_are_ties_without_error() -> None:
    metrics = Progressive(FEW)
    metrics.update(np.linspace(-3.0, 3.0, 100), np.zeros(100))
    metrics.update(np.zeros(10), np.ones(10))
    auc, error = metrics.auc()
    assert auc == pytest.approx(0.5, abs=1e-12)
    assert error == 0.0


@settings(deadline=None)
@given(event_lists(), st.data())
def test_any_split_gives_the_same_bytes(events: Events, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, events[0].size))
    parts = [tuple(column[piece] for column in events) for piece in (slice(0, cut), slice(cut, None))]
    split = Progressive(FEW)
    for margins, labels, amounts in parts:
        split.update(margins, labels, amounts)
    assert as_bytes(split) == as_bytes(measured(events))


def test_row_by_row_gives_the_same_bytes() -> None:
    margins, labels = calibrated(0.3, 300)
    single = Progressive(FEW)
    for i in range(300):
        single.update(margins[i : i + 1], labels[i : i + 1])
    whole = Progressive(FEW)
    whole.update(margins, labels)
    assert as_bytes(single) == as_bytes(whole)


@given(event_lists(), event_lists())
def test_merge_is_commutative_and_equals_updating_with_both(first: Events, second: Events) -> None:
    ours, theirs, before = measured(first), measured(second), as_bytes(measured(second))
    mirrored = theirs.copy()
    mirrored.merge(ours)
    ours.merge(theirs)
    assert as_bytes(theirs) == before
    assert as_bytes(ours) == as_bytes(mirrored)
    both = measured(first, second).arrays()
    merged = ours.arrays()
    for name in ("grid", "bins"):
        np.testing.assert_array_equal(merged[name], both[name])
    for name in ("totals", "counts"):
        np.testing.assert_allclose(merged[name], both[name], rtol=1e-13)


@given(event_lists())
def test_the_bins_do_not_depend_on_the_order_of_events(events: Events) -> None:
    forward, backward = measured(events), measured(tuple(column[::-1] for column in events))  # type: ignore[arg-type]
    for name in ("grid", "bins"):
        np.testing.assert_array_equal(forward.arrays()[name], backward.arrays()[name])


@given(event_lists(), event_lists())
def test_arrays_round_trip_and_continue_to_the_byte(first: Events, second: Events) -> None:
    metrics = measured(first)
    loaded = Progressive.from_arrays(metrics.arrays())
    assert as_bytes(loaded) == as_bytes(metrics)
    assert loaded.summary() == metrics.summary()
    loaded.update(*second)
    assert as_bytes(loaded) == as_bytes(measured(first, second))
    assert as_bytes(metrics) == as_bytes(measured(first))


def test_arrays_stay_small_and_copies_are_independent() -> None:
    margins, labels = calibrated(0.02, ROWS)
    metrics = Progressive()
    metrics.update(margins, labels)
    assert sum(array.nbytes for array in metrics.arrays().values()) <= 24 * CAPACITY + 100
    copied, before = metrics.copy(), as_bytes(metrics)
    copied.update(margins[:10], labels[:10])
    metrics.arrays()["totals"][:] = -1.0
    assert as_bytes(metrics) == before != as_bytes(copied)


def test_undefined_quantities_are_none() -> None:
    nothing = dict.fromkeys(
        ["log_loss", "auc", "auc_error", "normalized_entropy", "calibration", "label_mean"]
    )
    empty = Progressive(FEW)
    empty.update([], [])
    assert empty.summary() == {"rows": 0, **nothing}
    assert empty.reliability() == []
    empty.update([1.0, -1.0], [1.0, 0.0], [0.0, 0.0])
    assert empty.summary() == {"rows": 2, **nothing}
    positives = Progressive(FEW)
    positives.update([0.0, 0.0], [1.0, 1.0])
    expected = {"log_loss": math.log(2.0), "calibration": 0.5, "label_mean": 1.0}
    assert positives.summary() == {"rows": 2, **nothing, **expected}
    negatives = Progressive(FEW)
    negatives.update([0.0], [0.0])
    assert negatives.summary() == {"rows": 1, **nothing, "log_loss": math.log(2.0), "label_mean": 0.0}


@given(event_lists())
def test_importance_zero_only_counts_as_a_row(events: Events) -> None:
    margins, labels, amounts = events
    kept = amounts > 0.0
    full, less = measured(events), measured((margins[kept], labels[kept], amounts[kept]))
    assert full.rows == margins.size
    assert {**full.summary(), "rows": less.rows} == less.summary()
    np.testing.assert_array_equal(full.arrays()["bins"], less.arrays()["bins"])


def test_huge_margins_are_counted() -> None:
    metrics = Progressive()
    metrics.update([1e3, -1e3, 1e300, -1e3], [1.0, 0.0, 1.0, 1.0])
    summary = metrics.summary()
    assert summary["log_loss"] == 250.0
    assert summary["calibration"] == pytest.approx(2 / 3)
    assert summary["auc"] == pytest.approx(2.5 / 3)


@pytest.mark.parametrize(
    ("margins", "labels", "importance", "message"),
    [
        ([0.0, math.nan], [0.0, 1.0], None, "margins must be finite, got nan in row 1"),
        ([-math.inf, 0.0], [0.0, 1.0], None, "margins must be finite, got -inf in row 0"),
        ([0.0, 0.0], [0.0, -1.0], None, "labels must be 0 or 1, got -1.0 in row 1"),
        ([0.0, 0.0], [math.nan, 1.0], None, "labels must be 0 or 1, got nan in row 0"),
        ([0.0, 0.0], [0.0, 1.0], [1.0, -2.0], "importance must be finite and >= 0, got -2.0 in row 1"),
        ([0.0, 0.0], [0.0, 1.0], [math.nan, 1.0], "importance must be finite and >= 0, got nan in row 0"),
        ([0.0, 0.0], [0.0, 1.0], [math.inf, 1.0], "importance must be finite and >= 0, got inf in row 0"),
        ([0.0, 0.0], [0.0], None, r"labels must have one value for each of the 2 margins, got shape \(1,\)"),
        ([0.0, 0.0], [0.0, 1.0], [], r"importance must have one value .* 2 margins, got shape \(0,\)"),
        ([[0.0]], [0.0], None, r"margins must have one dimension, got shape \(1, 1\)"),
    ],
)
def test_refused_values_are_named_and_change_nothing(
    margins: list[float], labels: list[float], importance: list[float] | None, message: str
) -> None:
    metrics = measured((np.array([0.5]), np.array([1.0]), np.array([2.0])))
    before = as_bytes(metrics)
    with pytest.raises(DataError, match=message):
        metrics.update(margins, labels, importance)
    assert as_bytes(metrics) == before


def test_bad_capacities_and_foreign_arrays_are_refused() -> None:
    for capacity in (0, 2, 24, 2**25):
        with pytest.raises(ConfigError, match=f"capacity must be a power of two .* got {capacity}"):
            Progressive(capacity)
    with pytest.raises(ConfigError, match="capacity 16 and 32"):
        Progressive(16).merge(Progressive(32))
    with pytest.raises(ConfigError, match="bins must be at least 1, got 0"):
        Progressive(FEW).reliability(bins=0)
    arrays = measured((np.arange(5.0), np.ones(5), np.ones(5))).arrays()
    with pytest.raises(DataError, match="metrics need the arrays"):
        Progressive.from_arrays({name: arrays[name] for name in ("totals", "bins", "counts")})
    with pytest.raises(DataError, match="metrics need the arrays"):
        Progressive.from_arrays({**arrays, "bins": arrays["bins"][1:]})
    with pytest.raises(DataError, match="capacity 4 hold at most as many bins, got 5"):
        Progressive.from_arrays({**arrays, "grid": np.array([FINEST, 4])})


def test_inputs_may_be_read_only_and_strided_and_are_not_changed() -> None:
    table = np.column_stack(calibrated(0.2, 100))
    before = table.copy()
    table.flags.writeable = False
    strided, plain = Progressive(FEW), Progressive(FEW)
    strided.update(table[:, 0], table[:, 1])
    plain.update(table[:, 0].copy(), table[:, 1].copy())
    assert as_bytes(strided) == as_bytes(plain)
    np.testing.assert_array_equal(table, before)


@pytest.mark.parametrize("rate", [0.002, 0.2])
def test_reliability_groups_rising_predictions_with_nearly_equal_importance(rate: float) -> None:
    margins, labels = calibrated(rate, ROWS)
    metrics = Progressive()
    metrics.update(margins, labels)
    groups = metrics.reliability(bins=20)
    order = np.argsort(margins)
    predictions = 1.0 / (1.0 + np.exp(-margins[order]))
    assert len(groups) == 20
    assert sum(importance for _, _, importance in groups) == ROWS
    assert sum(observed * importance for _, observed, importance in groups) == pytest.approx(labels.sum())
    for i, (predicted, observed, importance) in enumerate(groups):
        part = slice(i * ROWS // 20, (i + 1) * ROWS // 20)
        assert importance == pytest.approx(ROWS / 20, rel=0.01)
        assert predicted == pytest.approx(predictions[part].mean(), rel=0.01)
        assert observed == pytest.approx(labels[order][part].mean(), abs=0.01)
    total = sum(predicted * importance for predicted, _, importance in groups)
    assert total == pytest.approx(predictions.sum(), rel=1e-4)
