"""Numbers that others have published or that their programs give, and the mathematics behind them."""

from __future__ import annotations

import gzip
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

from ftrl_engine import Batch, build
from ftrl_engine.learners.base import Learner
from ftrl_engine.learners.ftrl_proximal import next_z, weight
from ftrl_engine.losses import sigmoid
from tests.oracles.events import N_SLOTS, Event, events, pack, summed
from tests.oracles.ftrl_proximal import Oracle

TRACE: list[Event] = [
    ([(0, 1.0), (1, 1.0)], 1.0, 1.0),
    ([(0, 1.0), (2, 0.5)], 0.0, 1.0),
    ([(0, 1.0), (1, 1.0), (2, 2.0)], 1.0, 1.0),
    ([(1, 1.0)], 0.0, 1.0),
    ([(0, 1.0)], 1.0, 1.0),
]
TRACE_P = [0.5, 0.5074497797764443, 0.499474698711796, 0.5147318246141906, 0.5067380738138705]
TRACE_Z = [-1.085216145257641, -0.6463186251295066, -0.6217465293237762]
TRACE_N = [1.00133818404966, 0.7654744285003013, 1.06647862866738]


def probabilities(margins: Iterable[float]) -> list[float]:
    return [sigmoid(float(margin)) for margin in margins]


def test_algorithm_1_trace() -> None:
    chosen = {"alpha": 0.1, "beta": 1.0, "l1": 0.05, "l2": 0.1}
    learner = build("ftrl_proximal", 3, intercept="none", **chosen)
    assert_allclose(probabilities(learner.learn(pack(TRACE, 3))), TRACE_P, rtol=1e-13)
    assert_allclose(learner.state, np.column_stack([TRACE_Z, TRACE_N]), rtol=1e-13)
    oracle = Oracle(**chosen, intercept="none", intercept_rate=1.0)
    assert_allclose(probabilities(oracle.learn(summed(x), y) for x, y, _ in TRACE), TRACE_P, rtol=1e-13)
    assert_allclose([oracle.z[i] for i in range(3)], TRACE_Z, rtol=1e-13)


# Two variables of two elements with constant gradients, rate 3, initial n 0.1.
TENSORFLOW_GRADIENTS = [0.1, 0.2, 0.01, 0.02]
TENSORFLOW = [
    ([0.0] * 4, 3, 0.0, 0.0, 0.0, [-2.60260963, -4.29698515, -0.28432083, -0.56694895]),
    ([1.0, 2.0, 4.0, 3.0], 3, 0.0, 0.0, 0.0, [-2.55607247, -3.98729396, -0.28232238, -0.56096673]),
    ([1.0, 2.0, 4.0, 3.0], 10, 0.001, 0.0, 0.0, [-7.66718769, -10.91273689, -0.93460727, -1.86147261]),
    ([1.0, 2.0, 4.0, 3.0], 10, 0.001, 2.0, 0.0, [-0.24059935, -0.46829352, -0.02406147, -0.04830509]),
    ([1.0, 2.0, 4.0, 3.0], 10, 0.001, 2.0, 0.1, [-0.22578995, -0.44345796, -0.14378493, -0.13229476]),
]


@pytest.mark.parametrize(("start", "steps", "l1", "l2", "shrinkage", "expected"), TENSORFLOW)
def test_tensorflow_apply_ftrl(
    start: list[float], steps: int, l1: float, l2: float, shrinkage: float, expected: list[float]
) -> None:
    """Its l2 is half of ours; its first step starts from w, not from z; shrinkage enters z alone."""
    for w, g, last in zip(start, TENSORFLOW_GRADIENTS, expected, strict=True):
        z, n = 0.0, 0.1
        for _ in range(steps):
            root, next_root = math.sqrt(n), math.sqrt(n + g * g)
            z = next_z(z, g + 2.0 * shrinkage * w, root, next_root, 1.0 / 3.0, w)
            n += g * g
            w = weight(z, next_root, 1.0 / 3.0, 0.0, l1, 2.0 * l2)
        assert w == pytest.approx(last, rel=1e-6)


def test_tensorflow_apply_ftrl_through_the_whole_kernel() -> None:
    """Its first row: an importance of g / p makes the gradient of a negative event the one wanted."""
    learner = build("ftrl_proximal", 4, alpha=3.0, beta=0.0, l1=0.0, l2=0.0, intercept="none")
    learner.state[:, 1] = 0.1
    for _ in range(3):
        for slot, g in enumerate(TENSORFLOW_GRADIENTS):
            asked = learner.margins(pack([([(slot, 1.0)], 0.0, 1.0)], 4))[0]
            learner.learn(pack([([(slot, 1.0)], 0.0, g / sigmoid(asked))], 4))
    assert_allclose(learner.weights()[1], TENSORFLOW[0][-1], atol=1e-6)


def vw_rows(path: Path) -> Iterator[tuple[float, dict[str, float]]]:
    """The label and the features of each line; the one without a name is the constant."""
    with gzip.open(path, "rt") as lines:
        for line in lines:
            label, *features = line.replace("|features", "").split()
            pairs = (feature.split(":") for feature in features)
            yield float(label), {i: float(x) for i, x in pairs} | {"": 1.0}


class SquaredLoss:
    """FTRL-Proximal as Vowpal Wabbit runs it by default, on our scalar functions."""

    def __init__(self, alpha: float, l1: float) -> None:
        self.alpha, self.l1 = alpha, l1
        self.z: dict[str, float] = defaultdict(float)
        self.n: dict[str, float] = defaultdict(float)

    def weight(self, i: str) -> float:
        return weight(self.z[i], math.sqrt(self.n[i]), 1.0 / self.alpha, 0.0, self.l1, 0.0)

    def predict(self, x: dict[str, float]) -> float:
        """Clipped to the range of the labels."""
        return min(1.0, max(0.0, math.fsum(self.weight(i) * x[i] for i in x)))

    def learn(self, x: dict[str, float], y: float) -> float:
        p = self.predict(x)
        for i in x:
            w, g = self.weight(i), 2.0 * (p - y) * x[i]
            root, next_root = math.sqrt(self.n[i]), math.sqrt(self.n[i] + g * g)
            self.z[i] = next_z(self.z[i], g, root, next_root, 1.0 / self.alpha, w)
            self.n[i] += g * g
        return p


@pytest.mark.parametrize(
    ("name", "first", "loss"),
    [
        # The regression test of Vowpal Wabbit scores the events it has learned from.
        ("0001.dat.gz", [0.148139, 0.149886, 0.146102, 0.146261, 0.146004], 0.340300),
        ("0001.test.dat.gz", [0.146636, 0.152522, 0.145806, 0.145806, 0.145882], 0.420429),
    ],
)
def test_vowpal_wabbit_regression_run(shared_data: Path, name: str, first: list[float], loss: float) -> None:
    """``vw --ftrl --ftrl_alpha .01 --ftrl_beta 0 --l1 2 -d 0001.dat``, then ``-t`` on a file."""
    folder = shared_data / "vw"
    model = SquaredLoss(alpha=0.01, l1=2.0)
    losses = [(model.learn(x, y) - y) ** 2 for y, x in vw_rows(folder / "0001.dat.gz")]
    assert len(losses) == 200
    assert np.mean(losses) == pytest.approx(0.379717, abs=1e-6)
    assert sum(model.weight(i) != 0.0 for i in list(model.z)) == 32
    scored = [(model.predict(x), y) for y, x in vw_rows(folder / name)]
    assert_allclose([p for p, _ in scored[:5]], first, atol=2e-6)
    assert np.mean([(p - y) ** 2 for p, y in scored]) == pytest.approx(loss, abs=1e-6)


def test_vowpal_wabbit_itself_gives_the_same_margins() -> None:
    vowpalwabbit = pytest.importorskip("vowpalwabbit", reason="Vowpal Wabbit is not installed")
    rng = np.random.default_rng(7)
    rows: list[Event] = []
    for _ in range(300):
        x = zip(rng.choice(60, 8, replace=False).tolist(), rng.normal(size=8).round(3).tolist(), strict=True)
        rows.append((list(x), float(rng.random() < 0.4), 1.0))
    flags = "--ftrl --loss_function logistic --ftrl_alpha .1 --ftrl_beta 1 --l1 .05 --l2 .1 --noconstant"
    vw = vowpalwabbit.Workspace(flags + " -b 10 --quiet")
    theirs = []
    for features, label, _ in rows:
        example = vw.example(f"{2 * label - 1} | " + " ".join(f"{i}:{x}" for i, x in features))
        vw.learn(example)
        theirs.append(example.get_partial_prediction())
        vw.finish_example(example)
    vw.finish()
    learner = build("ftrl_proximal", 64, alpha=0.1, beta=1.0, l1=0.05, l2=0.1, intercept="none")
    ours = learner.learn(pack(rows, 64))
    assert np.abs(ours).max() > 0.5
    assert_allclose(ours, theirs, rtol=0, atol=1e-6)


positive = st.floats(0.02, 2.0)
penalty = st.just(0.0) | st.floats(0.01, 2.0)


def make(**chosen: float) -> Learner:
    return build("ftrl_proximal", N_SLOTS, intercept="none", **chosen)


def dense_weights(learner: Learner) -> NDArray[np.float64]:
    weights = np.zeros(N_SLOTS)
    at, values = learner.weights()
    weights[at] = values
    return weights


def history(learner: Learner, rows: Sequence[Event]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """float64[rows, slots] twice: the gradient of every event and the weights it was taken at."""
    gradients, points = [], []
    for features, label, importance in rows:
        points.append(dense_weights(learner))
        margin = learner.learn(pack([(features, label, importance)]))[0]
        x = np.zeros(N_SLOTS)
        for slot, value in summed(features).items():
            x[slot] = value
        gradients.append(importance * (sigmoid(margin) - label) * x)
    return np.array(gradients), np.array(points)


@given(events.filter(len), positive, st.floats(0.05, 2.0), penalty, penalty)
def test_closed_form_is_the_arg_min_of_the_papers_objective(
    rows: list[Event], alpha: float, beta: float, l1: float, l2: float
) -> None:
    learner = make(alpha=alpha, beta=beta, l1=l1, l2=l2)
    gradients, points = history(learner, rows)
    roots = np.sqrt(np.cumsum(gradients**2, axis=0))
    sigmas = np.diff(roots, axis=0, prepend=0.0) / alpha
    found = dense_weights(learner)
    for i in np.flatnonzero(gradients.any(axis=0)).tolist():

        def objective(w: float, i: int = i) -> float:
            proximal = (sigmas[:, i] * (w - points[:, i]) ** 2).sum()
            ridge = (l2 + beta / alpha) * w * w
            return float(gradients[:, i].sum() * w + 0.5 * (proximal + ridge) + l1 * abs(w))

        reach = abs(found[i]) + 1.0
        best = minimize_scalar(
            objective, bounds=(-reach, reach), method="bounded", options={"xatol": 1e-9, "maxiter": 500}
        )
        assert found[i] == pytest.approx(best.x, abs=3e-7 * reach)
        assert objective(found[i]) <= best.fun + 1e-12


@given(events, positive, st.floats(0.05, 2.0), penalty)
def test_without_l1_it_is_gradient_descent_with_the_rate_of_equation_2(
    rows: list[Event], alpha: float, beta: float, l2: float
) -> None:
    """w <- w - g / ((beta + sqrt n)/alpha + l2) with the current g in n: l2 only slows, it decays nothing."""
    w, n = np.zeros(N_SLOTS), np.zeros(N_SLOTS)
    margins = []
    for features, label, importance in rows:
        x = np.zeros(N_SLOTS)
        for slot, value in summed(features).items():
            x[slot] = value
        margins.append(w @ x)
        g = importance * (1.0 / (1.0 + np.exp(-margins[-1])) - label) * x
        n += g * g
        w -= g / ((beta + np.sqrt(n)) / alpha + l2)
    learner = make(alpha=alpha, beta=beta, l1=0.0, l2=l2)
    assert_allclose(learner.learn(pack(rows)), margins, rtol=1e-9, atol=1e-12)
    assert_allclose(dense_weights(learner), w, rtol=1e-9, atol=1e-12)


@given(events, positive, st.floats(0.0, 2.0), penalty, penalty)
def test_l2_is_beta_by_another_name(
    rows: list[Event], alpha: float, beta: float, l1: float, l2: float
) -> None:
    one = make(alpha=alpha, beta=beta, l1=l1, l2=l2)
    other = make(alpha=alpha, beta=beta + alpha * l2, l1=l1, l2=0.0)
    assert_allclose(one.learn(pack(rows)), other.learn(pack(rows)), rtol=1e-9, atol=1e-12)
    assert_allclose(dense_weights(one), dense_weights(other), rtol=1e-9, atol=1e-12)


@given(events, positive, st.floats(0.05, 2.0))
def test_plain_intercept_is_an_unregularised_feature_that_is_always_there(
    rows: list[Event], alpha: float, beta: float
) -> None:
    other = build("ftrl_proximal", N_SLOTS + 1, intercept="none", alpha=alpha, beta=beta, l1=0.0, l2=0.0)
    padded = [([*features, (N_SLOTS, 1.0)], label, importance) for features, label, importance in rows]
    expected = other.learn(pack(padded, N_SLOTS + 1))
    one = build("ftrl_proximal", N_SLOTS, intercept="plain", alpha=alpha, beta=beta, l1=0.0, l2=0.0)
    assert_allclose(one.learn(pack(rows)), expected, rtol=1e-9, atol=1e-12)


@given(positive, st.floats(0.0, 2.0), st.floats(0.01, 3.0), penalty, st.floats(0.0, 100.0))
def test_a_weight_is_exactly_zero_up_to_l1_and_continuous_there(
    alpha: float, beta: float, l1: float, l2: float, root: float
) -> None:
    for sign in (1.0, -1.0):
        assert weight(sign * l1, root, 1.0 / alpha, beta, l1, l2) == 0.0
        assert sign * weight(sign * l1 * (1.0 + 1e-9), root + 1.0, 1.0 / alpha, beta, l1, l2) < 0.0
    assert weight(-0.0, root, 1.0 / alpha, beta, 0.0, l2) == 0.0


@pytest.mark.parametrize("importance", [0.0, 1e-170])
def test_without_beta_a_gradient_of_almost_nothing_poisons_nothing(importance: float) -> None:
    """Its square is 0, and the rate alpha / sqrt n has no value yet."""
    learner = build("ftrl_proximal", 1, alpha=0.1, beta=0.0, l1=0.0, l2=0.0, intercept="plain")
    rows: list[Event] = [([(0, 1.0)], 1.0, times) for times in (importance, 1.0, 1.0)]
    margins = learner.learn(pack(rows, 1))
    assert np.abs(margins[:2]).max() < 1e-9
    # Both the feature and the intercept have then made the first step, alpha.
    assert margins[2] == pytest.approx(0.2)
    assert np.isfinite(learner.state).all()


@pytest.mark.parametrize(
    ("intercept", "overall"),
    # The way of Algorithm 1 from one half down to 0.001 costs it 500 predicted clicks of 30 000.
    [("none", 0.02), ("base_rate", 0.01)],
)
def test_calibration_holds_over_thirty_million_events(intercept: str, overall: float) -> None:
    """One click in a thousand and one constant feature: float32 state drifts away by tens of per cent."""
    learner = build("ftrl_proximal", 1, intercept=intercept)
    rng = np.random.default_rng(11)
    rows = 1_000_000
    batch = Batch(np.arange(rows + 1), np.zeros(rows, dtype=np.int64), n_slots=1)
    sums = np.zeros((30, 2))
    for part in range(30):
        batch.labels = (rng.random(rows) < 0.001).astype(np.float64)
        sums[part] = (1.0 / (1.0 + np.exp(-learner.learn(batch)))).sum(), batch.labels.sum()
    predicted, observed = sums[-10:].sum(axis=0)
    assert predicted / observed == pytest.approx(1.0, abs=0.01)
    predicted, observed = sums.sum(axis=0)
    assert predicted / observed == pytest.approx(1.0, abs=overall)


@pytest.mark.parametrize("rate", [0.002, 0.05, 0.5])
def test_base_rate_intercept_is_calibrated_from_the_first_events_on(rate: float) -> None:
    """Predicted clicks stay within a few of the observed, in each stream and much closer on average."""
    rng = np.random.default_rng(13)
    rows = int(20 / rate)
    excess = np.zeros((200, rows))
    for stream in excess:
        labels = (rng.random(rows) < rate).astype(np.float64)
        margins = build("ftrl_proximal", 1).learn(Batch(np.zeros(rows + 1), [], labels=labels, n_slots=1))
        stream[:] = np.cumsum(1.0 / (1.0 + np.exp(-margins)) - labels)
    assert np.abs(excess).max() < 8.0
    assert np.abs(excess.mean(axis=0)).max() < 1.5
