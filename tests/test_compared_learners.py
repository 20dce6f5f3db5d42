"""The learners beside FTRL-Proximal: numbers of other programs, and the mathematics they share."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ftrl_engine import Batch, build
from ftrl_engine.learners.base import Learner
from ftrl_engine.learners.steps import grown, shrunk
from ftrl_engine.losses import sigmoid
from tests.oracles.events import N_SLOTS, Event, events, pack, summed

rates = st.floats(0.02, 2.0)
penalties = st.floats(0.001, 0.2)
FAR = 1e9  # a theta that no weight reaches


def dense_weights(learner: Learner) -> NDArray[np.float64]:
    weights = np.zeros(learner.n_slots)
    at, values = learner.weights()
    weights[at] = values
    return weights


def make(name: str, **chosen: float) -> Learner:
    return build(name, N_SLOTS, intercept="none", **chosen)


def gradients(margins: Sequence[float], rows: Sequence[Event]) -> NDArray[np.float64]:
    """float64[rows, N_SLOTS], from the margins before each row's own update."""
    found = np.zeros((len(rows), N_SLOTS))
    for row, margin, (features, label, importance) in zip(found, margins, rows, strict=True):
        for slot, value in summed(features).items():
            row[slot] = importance * (sigmoid(float(margin)) - label) * value
    return found


def step(learner: Learner, g: Sequence[float]) -> None:
    """One event with these gradients: a negative one whose importance times its prediction is 1."""
    row = [(slot, value) for slot, value in enumerate(g)]
    margin = learner.margins(pack([(row, 0.0, 1.0)], len(g)))[0]
    learner.learn(pack([(row, 0.0, 1.0 / sigmoid(margin))], len(g)))


# The tests of TensorFlow's optimizers: two variables of two elements with constant gradients.
GRADIENTS = [0.1, 0.2, 0.01, 0.02]
START = [1.0, 2.0, 4.0, 3.0]
TENSORFLOW = [
    ("adagrad_fobos", [0.0] * 4, 3, 0.0, [-2.60260963, -4.29698515, -0.28432083, -0.56694895]),
    ("adagrad_fobos", START, 3, 0.0, [-1.60261, -2.296985, 3.715679, 2.433051]),
    ("adagrad_fobos", START, 10, 0.001, [-6.663634, -9.190331, 2.959304, 1.029232]),
    ("adagrad_rda", [0.0] * 4, 1, 0.0, [-0.904534, -1.603567, -0.094821, -0.189358]),
    ("adagrad_rda", [0.0] * 4, 1, 0.001, [-0.895489, -1.59555, -0.085339, -0.17989]),
]


@pytest.mark.parametrize(("name", "start", "steps", "l1", "expected"), TENSORFLOW)
def test_tensorflow_proximal_adagrad_and_adagrad_dual_averaging(
    name: str, start: list[float], steps: int, l1: float, expected: list[float]
) -> None:
    """Rate 3, an accumulator that begins at 0.1; through the whole kernel."""
    learner = build(name, 4, alpha=3.0, beta=0.0, l1=l1, intercept="none")
    learner.state[:, 0], learner.state[:, 1] = start, 0.1
    for _ in range(steps):
        step(learner, GRADIENTS)
    assert_allclose(learner.weights()[1], expected, rtol=5e-6)


@pytest.mark.parametrize("name", ["fobos", "truncated_gradient", "sgd_l1_subgradient"])
def test_tensorflow_proximal_gradient_descent(name: str) -> None:
    learner = build(name, 4, alpha=3.0, power=0.0, l1=0.0, intercept="none")
    learner.state[:, 0] = START
    for _ in range(3):
        step(learner, GRADIENTS)
    assert_allclose(learner.weights()[1], [0.1, 0.2, 3.91, 2.82], rtol=1e-9)


@given(st.floats(-5, 5), st.floats(0, 5))
def test_shrinking_is_the_arg_min_and_growing_undoes_it(w: float, by: float) -> None:
    best = minimize_scalar(
        lambda v: 0.5 * (v - w) ** 2 + by * abs(v), bounds=(-6, 6), options={"xatol": 1e-9}
    )
    assert shrunk(w, by) == pytest.approx(best.x, abs=1e-6)
    assert shrunk(grown(w, by), by) == pytest.approx(w, abs=1e-14)


@given(events.filter(len), rates, penalties, st.sampled_from([0.0, 0.05]))
def test_rda_is_the_arg_min_of_the_papers_objective(
    rows: list[Event], alpha: float, l1: float, rho: float
) -> None:
    """gbar w + l1 |w| + (gamma / sqrt t) (w^2 / 2 + rho |w|), with gamma = 1 / alpha."""
    learner = make("rda", alpha=alpha, l1=l1, rho=rho)
    g = gradients(learner.learn(pack(rows)).tolist(), rows)
    t = sum(bool(summed(features)) for features, _, _ in rows)
    assume(t > 0)
    mean, strength = g.sum(axis=0) / t, 1.0 / (alpha * math.sqrt(t))
    for i, w in enumerate(dense_weights(learner).tolist()):
        check_arg_min(w, float(mean[i]), l1 + strength * rho, strength)


@given(events.filter(len), rates, st.floats(0.05, 2.0), penalties)
def test_adagrad_rda_is_the_arg_min_of_the_papers_objective(
    rows: list[Event], alpha: float, beta: float, l1: float
) -> None:
    """G w + t l1 |w| + (beta + sqrt n) / (2 alpha) w^2."""
    learner = make("adagrad_rda", alpha=alpha, beta=beta, l1=l1)
    g = gradients(learner.learn(pack(rows)).tolist(), rows)
    t = sum(bool(summed(features)) for features, _, _ in rows)
    strength = (beta + np.sqrt((g**2).sum(axis=0))) / alpha
    for i, w in enumerate(dense_weights(learner).tolist()):
        check_arg_min(w, float(g[:, i].sum()), t * l1, float(strength[i]))


def check_arg_min(w: float, slope: float, l1: float, strength: float) -> None:
    """w is the arg-min of slope w + l1 |w| + strength w^2 / 2."""

    def objective(v: float) -> float:
        return slope * v + l1 * abs(v) + 0.5 * strength * v * v

    reach = abs(w) + 1.0
    best = minimize_scalar(objective, bounds=(-reach, reach), options={"xatol": 1e-9, "maxiter": 500})
    assert w == pytest.approx(best.x, abs=3e-7 * reach)
    assert objective(w) <= best.fun + 1e-12


@given(events.filter(len), rates, st.floats(0.05, 2.0), penalties)
def test_ftrl_proximal_of_2011_is_the_arg_min_of_its_objective(
    rows: list[Event], alpha: float, beta: float, lam: float
) -> None:
    """g_1:t w + t lambda |w| + 1/2 sum_s sigma_s (w - w_s)^2 + beta / (2 alpha) w^2."""
    learner = make("ftrl_proximal", alpha=alpha, beta=beta, l1=0.0, l2=0.0, l1_per_event=lam)
    points, margins = [], []
    for row in rows:
        points.append(dense_weights(learner))
        margins += learner.learn(pack([row])).tolist()
    g = gradients(margins, rows)
    t = sum(bool(summed(features)) for features, _, _ in rows)
    roots = np.sqrt(np.cumsum(g**2, axis=0))
    sigmas = np.diff(roots, axis=0, prepend=0.0) / alpha
    slopes = g.sum(axis=0) - (sigmas * np.array(points)).sum(axis=0)
    strength = roots[-1] / alpha + beta / alpha
    for i, w in enumerate(dense_weights(learner).tolist()):
        check_arg_min(w, float(slopes[i]), t * lam, float(strength[i]))


@given(events, st.floats(0.02, 0.8), st.floats(0, 1), st.floats(0, 0.3))
def test_truncating_every_weight_at_every_event_is_fobos(
    rows: list[Event], alpha: float, power: float, l1: float
) -> None:
    one = make("truncated_gradient", alpha=alpha, power=power, l1=l1, every=1, theta=FAR)
    other = make("fobos", alpha=alpha, power=power, l1=l1)
    assert_allclose(one.learn(pack(rows)), other.learn(pack(rows)), rtol=1e-9, atol=1e-12)
    assert_allclose(dense_weights(one), dense_weights(other), rtol=1e-9, atol=1e-12)


@given(events, st.floats(0.02, 0.8), st.floats(0.01, 0.3), st.integers(1, 4))
def test_gravity_as_far_as_theta_is_rounding_to_zero(
    rows: list[Event], alpha: float, l1: float, every: int
) -> None:
    """T1(v, theta, theta) is T0: v beyond theta and 0 within."""
    theta = alpha * every * l1
    learner = make("truncated_gradient", alpha=alpha, power=0.0, l1=l1, every=every, theta=theta)
    w = np.zeros(N_SLOTS)
    steps = 0
    for row in rows:
        w -= alpha * gradients(learner.learn(pack([row])).tolist(), [row])[0]
        steps += bool(summed(row[0]))
        if steps % every == 0:
            assume(np.abs(np.abs(w) - theta).min() > 1e-9)
            w[np.abs(w) <= theta] = 0.0
    assert_allclose(dense_weights(learner), w, rtol=1e-9, atol=1e-12)


@given(events, st.floats(0.02, 0.8), st.floats(0, 1))
def test_without_l1_all_with_one_rate_are_gradient_descent(
    rows: list[Event], alpha: float, power: float
) -> None:
    names = ["sgd_l1", "sgd_l1_subgradient", "fobos", "truncated_gradient"]
    learners = [make(name, alpha=alpha, power=power, l1=0.0) for name in names]
    margins = [learner.learn(pack(rows)) for learner in learners]
    for other in margins[1:]:
        assert_allclose(other, margins[0], rtol=1e-9, atol=1e-12)


@given(events, rates, st.floats(0.05, 2.0))
def test_without_l1_all_with_adaptive_rates_are_one(rows: list[Event], alpha: float, beta: float) -> None:
    """FTRL-Proximal, FOBOS and OGD differ in nothing but L1 (McMahan 2011, corollary 3)."""
    both = {"alpha": alpha, "beta": beta}
    expected = make("ftrl_proximal", l1=0.0, l2=0.0, **both).learn(pack(rows))
    for name, none in (("adagrad_fobos", "l1"), ("ogd_count", "count")):
        found = make(name, **both, **{none: 0.0}).learn(pack(rows))
        assert_allclose(found, expected, rtol=1e-9, atol=1e-12)


def test_penalties_fall_due_while_nothing_is_seen() -> None:
    """One event with slot 0, then thousands without it: it is taken back to 0 without being touched."""
    for name, chosen in (
        ("fobos", {"alpha": 0.1, "power": 0.0, "l1": 1e-3}),  # 0.05 / (0.1 l1) = 500 events
        ("truncated_gradient", {"alpha": 0.1, "power": 0.0, "l1": 1e-3}),
        ("adagrad_fobos", {"alpha": 0.1, "beta": 0.0, "l1": 1e-3}),  # 0.5 / l1 = 500 events
    ):
        learner = build(name, 2, intercept="none", **chosen)
        learner.learn(pack([([(0, 1.0)], 1.0, 1.0)], 2))
        others = Batch(np.arange(481), np.ones(480, dtype=np.int64), labels=np.arange(480) % 2, n_slots=2)
        learner.learn(others)
        assert learner.weights()[0].tolist()[0] == 0, name
        learner.learn(others.rows(0, 40))
        assert 0 not in learner.weights()[0].tolist(), name
        assert learner.margins(pack([([(0, 1.0)], 1.0, 1.0)], 2))[0] == 0.0


def test_ogd_count_learns_a_slot_from_the_event_after_the_kth_on() -> None:
    learner = build("ogd_count", 2, alpha=0.1, beta=1.0, count=3, intercept="none")
    click: Event = ([(0, 1.0)], 1.0, 1.0)
    ignored: Event = ([(0, 1.0)], 1.0, 0.0)
    assert learner.learn(pack([click, click, ignored, click, ignored], 2)).tolist() == [0.0] * 5
    assert learner.weights()[0].tolist() == []
    learner.learn(pack([click], 2))
    # As if it were the first event: g = -1/2, eta = alpha / (1 + 1/2).
    assert learner.weights()[1].tolist() == [pytest.approx(0.5 * 0.1 / 1.5, rel=1e-15)]
