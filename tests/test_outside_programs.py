"""Programs outside beside the learners: the same slots, predictions from before, penalties that add up."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from bench.comparison.events import Events
from bench.comparison.method import Configuration
from bench.comparison.outcome import Outcome
from bench.comparison.outside import datatable_ftrl, river_ftrl, sklearn_sgd_l1, vw_sgd_l1, vw_text
from bench.comparison.outside.base import Rows, Skipped, find_program, log_odds, missing, program_names
from bench.comparison.program import Program
from bench.comparison.trial import Trial
from ftrl_engine import Batch, build
from ftrl_engine.jit import COMPILED
from ftrl_engine.losses import sigmoid
from tests.hashed_events import clicks as clicks
from tests.hashed_events import events as events

pytestmark = pytest.mark.skipif(not COMPILED, reason="needs compiled learners")


def needs(name: str) -> None:
    reason = missing(name)
    if reason is not None:
        pytest.skip(reason)


def rows(count: int, n_slots: int = 200, seed: int = 0) -> Rows:
    """Rows of five different slots, of which every second one says something."""
    rng = np.random.default_rng(seed)
    slots = np.array([rng.choice(n_slots, 5, replace=False) for _ in range(count)], dtype=np.uint32)
    truth = np.where(np.arange(n_slots) % 2 == 0, 1.0, -1.0) * 0.8
    labels = (rng.random(count) < 1 / (1 + np.exp(-truth[slots].sum(axis=1)))).astype(np.float64)
    return Rows(np.arange(count + 1) * 5, slots.ravel(), None, labels, None, n_slots)


def as_batch(given: Rows) -> Batch:
    return Batch(
        given.indptr, given.slots, given.values, given.labels, given.importance, n_slots=given.n_slots
    )


@pytest.mark.parametrize("name", program_names())
def test_every_program_is_complete(name: str) -> None:
    module = find_program(name)
    assert module.METHOD.name == name
    assert module.METHOD.learner is None
    assert module.MOST_ROWS >= 1000
    assert module.NOTE
    assert module.PACKAGE


@pytest.mark.parametrize("name", ["vw_ftrl", "datatable_ftrl"])
def test_ftrl_elsewhere_is_ours_in_single_precision(name: str, tmp_path: Path) -> None:
    """The same algorithm on the same slots: the same margins, as far as float32 and parts of 20 go."""
    needs(name)
    given = rows(2000)
    module = find_program(name)
    l2 = {"vw_ftrl": {"l2": 1.0}, "datatable_ftrl": {}}[name]
    settings = dict(module.METHOD.configuration(0.1, 0.5, 2000, None).settings) | l2
    run = module.open_rows(given, tmp_path)(settings)
    # Both have a feature that is always on in place of an intercept.
    always = np.concatenate([given.slots.reshape(-1, 5), np.full((2000, 1), 200)], axis=1)
    learner = build("ftrl_proximal", 201, alpha=0.1, l1=0.5, intercept="none")
    margins = learner.learn(Batch(np.arange(2001) * 6, always.ravel(), labels=given.labels, n_slots=201))
    if name == "vw_ftrl":
        assert_allclose(run.margins, margins, atol=2e-5)
    else:
        assert np.abs(run.margins - margins).mean() < 0.05
    ours = learner.weights()[0]
    assert abs(run.nonzeros - len(ours[ours < 200])) <= 1


def test_vw_is_what_its_command_line_says(tmp_path: Path) -> None:
    needs("vw_sgd_l1")
    if importlib.util.find_spec("vowpalwabbit") is None:
        pytest.skip("the package around the compiled module is not here")
    given = rows(500)
    settings = {"learning_rate": 0.3, "l1": 1e-4}
    run = vw_sgd_l1.open_rows(given, tmp_path)(settings)
    command = [
        sys.executable, "-m", "vowpalwabbit", "-d", str(tmp_path / "rows.vw"), "--loss_function", "logistic",
        "-b", str(vw_text.bits_for(200)), "--learning_rate", "0.3", "--l1", "1e-4",
        "--no_bias_regularization",
    ]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    line = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("average loss"))
    losses = np.logaddexp(0.0, run.margins) - given.labels * run.margins
    assert losses.mean() == pytest.approx(float(line.split("=")[1]), abs=1e-5)


def test_vw_keeps_slots_apart_from_its_constant() -> None:
    for n_slots in (1, 2, 200, 1 << 16, 116_061, 158_929, 1 << 22):
        bits = vw_text.bits_for(n_slots)
        assert n_slots <= 1 << bits
        assert 11650396 % (1 << bits) >= n_slots


def test_the_text_for_vw_has_values_and_importance(tmp_path: Path) -> None:
    given = Rows(
        np.array([0, 2, 3]), np.array([4, 0, 1], dtype=np.uint32), np.array([1.0, 0.5, -2.0]),
        np.array([1.0, 0.0]), np.array([1.0, 3.0]), 5,
    )  # fmt: skip
    vw_text.write_rows(given, tmp_path / "rows.vw")
    assert (tmp_path / "rows.vw").read_text() == "1 1.0 | 4:1.0 0:0.5\n-1 3.0 | 1:-2.0\n"


def test_scikit_learn_keeps_its_penalty_and_predicts_before_it_learns(tmp_path: Path) -> None:
    needs("sklearn_sgd_l1")
    given = rows(1500)
    run = sklearn_sgd_l1.open_rows(given, tmp_path)({"eta0": 0.3, "alpha": 3e-3, "power_t": 0.5})
    # With the same rates and the same cumulative penalty our learner ends about as sparse: a penalty that
    # was forgotten between parts would leave several times as many.
    learner = build("sgd_l1", 200, alpha=0.3, power=0.5, l1=3e-3)
    learner.learn(as_batch(given))
    assert 0.6 < run.nonzeros / len(learner.weights()[0]) < 1.6
    assert [count for count, _ in run.curve] == sorted(count for count, _ in run.curve)
    changed = given.labels.copy()
    changed[1000:] = 1.0 - changed[1000:]
    other = sklearn_sgd_l1.open_rows(
        Rows(given.indptr, given.slots, None, changed, None, 200), tmp_path
    )({"eta0": 0.3, "alpha": 3e-3, "power_t": 0.5})  # fmt: skip
    assert_allclose(run.margins[:1000], other.margins[:1000])
    assert not np.allclose(run.margins[1200:], other.margins[1200:])


@pytest.mark.parametrize("name", program_names())
def test_no_prediction_knows_a_later_label(name: str, tmp_path: Path) -> None:
    needs(name)
    given = rows(400)
    changed = given.labels.copy()
    changed[300:] = 1.0 - changed[300:]
    module = find_program(name)
    settings = module.METHOD.configuration(0.2, 0.5, 400, 0.5 if module.METHOD.power else None).settings
    found = []
    for number, labels in enumerate((given.labels, changed)):
        directory = tmp_path / str(number)
        directory.mkdir()
        one = Rows(given.indptr, given.slots, None, labels, None, 200)
        found.append(module.open_rows(one, directory)(settings).margins)
    assert_allclose(found[0][:300], found[1][:300])
    assert not np.allclose(found[0][350:], found[1][350:])


def test_river_keeps_weights_that_should_be_zero(tmp_path: Path) -> None:
    """The note in the report is true: more non-zeros than Algorithm 1 leaves."""
    needs("river_ftrl")
    given = rows(1500)
    run = river_ftrl.open_rows(given, tmp_path)({"alpha": 0.1, "l1": 4.0, "beta": 1.0, "l2": 1.0})
    learner = build("ftrl_proximal", 200, alpha=0.1, l1=4.0)
    learner.learn(as_batch(given))
    assert run.nonzeros > len(learner.weights()[0])


def test_datatable_takes_rows_of_one_length_only(tmp_path: Path) -> None:
    ragged = Rows(np.array([0, 1, 5]), np.arange(5, dtype=np.uint32), None, np.ones(2), None, 5)
    with pytest.raises(Skipped, match="differing numbers of features"):
        datatable_ftrl.open_rows(ragged, tmp_path)
    valued = Rows(np.array([0, 1]), np.zeros(1, dtype=np.uint32), np.array([0.5]), np.ones(1), None, 1)
    with pytest.raises(Skipped, match="takes no feature values"):
        datatable_ftrl.open_rows(valued, tmp_path)
    weighted = Rows(np.array([0, 1]), np.zeros(1, dtype=np.uint32), None, np.ones(1), np.array([2.0]), 1)
    with pytest.raises(Skipped, match="takes no importance"):
        datatable_ftrl.open_rows(weighted, tmp_path)


def test_a_slot_that_two_features_share_is_given_twice() -> None:
    given = Rows(
        np.array([0, 3, 5]), np.array([7, 8, 9, 7, 8], dtype=np.uint32), np.array([1.0, 1.0, 1.0, 2.0, 1.0]),
        np.ones(2), None, 10,
    )  # fmt: skip
    table = datatable_ftrl._table(given)
    assert table.tolist() == [[7, 8, 9, 13], [7, 7, 8, 13]]


def test_log_odds_are_finite() -> None:
    found = log_odds(np.array([0.0, 0.25, 1.0]))
    assert np.isfinite(found).all()
    assert sigmoid(found[1]) == pytest.approx(0.25)


def one_outcome(name: str, events: Events, directory: Path, **more: object) -> Outcome:
    module = find_program(name)
    method = module.METHOD
    configuration = method.configuration(0.1, 0.5, len(events), 0.5 if method.power else None)
    trial = Trial(events, {}, **more)  # type: ignore[arg-type]
    with Program(name, trial, directory) as program:
        (found,) = program.run([configuration])
    return found


@pytest.mark.parametrize("shuffles", [0, 2])
def test_a_process_is_measured_like_a_learner(events: Events, shuffles: int, tmp_path: Path) -> None:
    needs("vw_ftrl")
    found = one_outcome("vw_ftrl", events, tmp_path, shuffles=shuffles)
    trial = Trial(events, {"ftrl_proximal": "ftrl_proximal"}, shuffles=shuffles, curves=True)
    settings = {"alpha": 0.1, "l1": 0.5, "l2": 0.0}
    (ours,) = trial.run([Configuration("ftrl_proximal", settings, 0.1, 0.5)])
    assert found.blocks is not None
    assert ours.blocks is not None
    assert_allclose(found.blocks.sums[:, [0, 3]], ours.blocks.sums[:, [0, 3]])
    assert found.log_loss == pytest.approx(ours.log_loss, rel=0.15)
    assert found.nonzeros == pytest.approx(ours.nonzeros, rel=0.2)
    assert [point.events for point in found.curve] == [point.events for point in ours.curve]
    assert found.seconds > 0
    assert found.peak_mb > 10


def test_settings_that_a_program_refuses_fail_alone(events: Events, tmp_path: Path) -> None:
    needs("sklearn_sgd_l1")
    method = find_program("sklearn_sgd_l1").METHOD
    good = method.configuration(0.1, 0.5, len(events), 0.5)
    bad = method.configuration(-1.0, 0.5, len(events), 0.5)
    with Program("sklearn_sgd_l1", Trial(events.head(300), {}), tmp_path) as program:
        outcomes = list(program.run([bad, good]))
    assert outcomes[0].failed is not None
    assert outcomes[0].log_loss == np.inf
    assert outcomes[1].failed is None


def test_a_program_that_hangs_is_ended(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bench.comparison.program.TIMEOUT_SECONDS", 0.01)
    with pytest.raises(Skipped, match="took longer than"):
        one_outcome("river_ftrl", events, tmp_path)


def test_the_process_answers_in_json(tmp_path: Path, events: Events) -> None:
    events.head(100).save(tmp_path / "order-0")
    command = [
        sys.executable, "-m", "bench.comparison.outside.process", "no_such_program", str(tmp_path), "5"
    ]  # fmt: skip
    done = subprocess.run(
        command,
        input='{"settings": {}, "order": 0}\n',
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    reply = json.loads(done.stdout)
    assert reply["skipped"].startswith("no_such_program cannot be imported")
