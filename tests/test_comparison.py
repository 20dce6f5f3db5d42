"""What `ftrl compare` is made of: events kept once, blocks, the search, frontiers and their intervals."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from numpy.typing import NDArray

from bench.comparison.clock import Remaining
from bench.comparison.contest import Contest
from bench.comparison.events import Events
from bench.comparison.frontier import frontier, needed
from bench.comparison.method import COUNT, PER_EVENT, TOTAL, Configuration, Method, learner_methods
from bench.comparison.outcome import Outcome, Store
from bench.comparison.resamples import Resamples, interval
from bench.comparison.search import LEAST_BUDGET, Found, search
from bench.comparison.standing import Standing, at_equal_auc, at_equal_loss, at_own_loss
from bench.comparison.tally import BLOCKS, GROUPS, Blocks, Tally, blocks_of
from bench.comparison.trial import Trial
from bench.inputs import Inputs
from ftrl_engine import Schema, build
from ftrl_engine.errors import DataError
from ftrl_engine.jit import COMPILED
from ftrl_engine.learners.base import learner_names
from ftrl_engine.metrics import Progressive
from streams.codecs.base import open_codec
from streams.source import SourceOptions, open_source
from tests.hashed_events import BITS, ROWS, hashed
from tests.hashed_events import clicks as clicks
from tests.hashed_events import events as events

pytestmark = pytest.mark.skipif(not COMPILED, reason="needs compiled learners")

FTRL = Method("ftrl_proximal", "FTRL-Proximal", "alpha", "l1", TOTAL, learner="ftrl_proximal")


def trial(events: Events, **more: object) -> Trial:
    return Trial(events, {m.name: m.learner or "" for m in learner_methods()}, **more)  # type: ignore[arg-type]


def test_a_learner_learns_the_same_from_renumbered_slots(clicks: Path, events: Events) -> None:
    """The same margins to the byte, and the same number of non-zeros, in a table without empty places."""
    schema = Schema.load("clicks")
    source = open_source(str(clicks), {}, SourceOptions())
    codec = open_codec("jsonl", schema, BITS)
    dense, full = build("ftrl_proximal", events.slots, l1=0.3), build("ftrl_proximal", 1 << BITS, l1=0.3)
    expected = []
    while (block := source.poll(1.0)) is not None:
        expected += [full.learn(part.batch) for part in codec.encode(block)]
    source.close()
    found = [dense.learn(batch) for _, batch in events.batches()]
    assert_array_equal(np.concatenate(found), np.concatenate(expected))
    assert 0 < len(dense.weights()[0]) == len(full.weights()[0])
    assert events.slots == len(np.unique(events.batch.slots)) < 1 << BITS


def test_the_digest_knows_the_events_and_not_how_they_were_read(
    clicks: Path, events: Events, tmp_path: Path
) -> None:
    again = hashed(clicks, tmp_path / "a", "clicks", block_bytes=1 << 16)
    assert again.digest == events.digest
    assert hashed(clicks, tmp_path / "b", "clicks", limit=ROWS - 1).digest != events.digest
    assert len(events.head(100)) == 100
    assert events.head(100).digest != events.digest


def test_values_and_importance_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "rows.libsvm"
    path.write_text("1 3:1 5:1\n0 3:0.5 900:-2\n1 5:1\n0 7:1\n")
    found = hashed(path, tmp_path / "scratch", "libsvm")
    assert found.batch.values.tolist() == [1.0, 1.0, 0.5, -2.0, 1.0, 1.0]
    assert found.batch.slots.tolist() == [0, 1, 0, 2, 1, 3]
    assert found.labels.tolist() == [1.0, 0.0, 1.0, 0.0]
    ((rows, batch),) = found.batches(np.array([2, 1, 3, 0]))
    assert rows.tolist() == [2, 1, 3, 0]
    assert batch.slots.tolist() == [1, 0, 2, 3, 0, 1]
    assert batch.values.tolist() == [1.0, 0.5, -2.0, 1.0, 1.0, 1.0]
    assert batch.labels is not None
    assert batch.labels.tolist() == [1.0, 0.0, 0.0, 1.0]


def test_events_without_a_label_are_an_error(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text('{"user": "a"}\n{"user": "b"}\n')
    with pytest.raises(DataError, match="no event can be learned from: 2 refused, the first because"):
        hashed(path, tmp_path / "scratch", "auto")


quarters = st.integers(-40, 40).map(lambda k: k / 4 + 0.1)
rows_of_blocks = st.lists(
    st.tuples(quarters, st.sampled_from([0.0, 1.0]), st.sampled_from([1.0, 2.0, 0.5])),
    min_size=4,
    max_size=40,
)


def tally(rows: Sequence[tuple[float, float, float]], blocks: int = 4) -> Blocks:
    margins, labels, importance = np.ascontiguousarray(np.array(rows).T)
    found = Tally(blocks)
    found.add(margins, labels, importance, blocks_of(np.arange(len(rows)), len(rows), blocks))
    return found.blocks()


@given(rows_of_blocks, st.lists(st.integers(0, 3), min_size=4, max_size=4).filter(any))
def test_mixtures_of_blocks_are_measured_as_if_their_rows_were_there(
    rows: list[tuple[float, float, float]], counts: list[int]
) -> None:
    found = tally(rows)
    blocks = blocks_of(np.arange(len(rows)), len(rows), 4)
    mixed = [row for block, row in zip(blocks.tolist(), rows, strict=True) for _ in range(counts[block])]
    resamples = Resamples(4, 0, 1)
    resamples.counts[:] = counts
    margins, labels, importance = np.array(mixed).T
    progressive = Progressive()
    progressive.update(margins, labels, importance)
    assert resamples.log_loss(found)[0] == pytest.approx(progressive.log_loss, rel=1e-12)
    auc, _ = progressive.auc()
    if auc is None:
        assert np.isnan(resamples.auc(found)[0])
    else:
        assert resamples.auc(found)[0] == pytest.approx(auc, abs=1e-12)


def test_blocks_say_what_progressive_says(events: Events) -> None:
    learner, progressive, found = build("ftrl_proximal", events.slots), Progressive(), Tally(BLOCKS)
    for rows, batch in events.batches():
        margins = learner.learn(batch)
        assert batch.labels is not None
        progressive.update(margins, batch.labels, batch.importance)
        found.add(margins, batch.labels, batch.importance, blocks_of(rows, len(events), BLOCKS))
    blocks = found.blocks()
    assert blocks.log_loss == pytest.approx(progressive.log_loss, rel=1e-12)
    assert blocks.calibration == pytest.approx(progressive.calibration, rel=1e-12)
    assert blocks.auc == pytest.approx(progressive.auc()[0], abs=2e-4)
    predicted, observed, amount = np.array(blocks.reliability()).T
    assert (np.diff(predicted) > 0).all()
    assert amount.sum() == len(events)
    assert (observed * amount).sum() == pytest.approx(events.labels.sum())
    assert (predicted * amount).sum() == pytest.approx(blocks.sums[:, 2].sum(), rel=0.002)


def test_a_margin_that_is_not_finite_ends_the_tally() -> None:
    found = Tally(2)
    ones = np.ones(3)
    found.add(np.array([0.0, np.nan, 0.0]), ones, ones, np.array([0, 0, 1]))
    assert found.diverged


def _loss(configuration: Configuration, best: float) -> float:
    return 0.5 + 0.1 * abs(math.log(configuration.rate / best)) + 0.001 * configuration.penalty


def run_search(method: Method, budget: int, best: float) -> list[Configuration]:
    """All configurations, where log loss is the distance to the rate ``best``."""
    one = search(method, budget, 1000, 1.0)
    stage, tried = next(one), []
    while True:
        tried += stage
        try:
            stage = one.send([Found(_loss(c, best), 1000.0 / (1.0 + c.penalty)) for c in stage])
        except StopIteration:
            return tried


@pytest.mark.parametrize("budget", [LEAST_BUDGET, 23, 24, 36, 100])
@pytest.mark.parametrize("method", learner_methods(), ids=lambda m: m.name)
def test_every_method_tries_as_much_around_its_best_rate(method: Method, budget: int) -> None:
    tried = run_search(method, budget, 0.07)
    assert budget - 4 < len(tried) <= budget
    assert len({configuration.key() for configuration in tried}) == len(tried)
    penalized = [c for c in tried if c.penalty > 0]
    assert len(penalized) >= budget // 2 - 1
    if method.power is None:
        nearest = min(penalized, key=lambda c: abs(math.log(c.rate / 0.07)))
        assert 0.6 < nearest.rate / 0.07 < 1.8
    if method.scale == PER_EVENT:
        assert penalized[0].settings[method.penalty] == penalized[0].penalty / 1000
    if method.scale == COUNT:
        assert all(c.penalty.is_integer() for c in tried)


def test_every_learner_takes_part() -> None:
    methods = learner_methods()
    assert methods[0].name == "ftrl_proximal"
    assert {method.learner for method in methods} == set(learner_names())
    assert {m.name: m.scale for m in methods}["ftrl_proximal"] == TOTAL
    assert {m.name: m.scale for m in methods}["rda"] == PER_EVENT


points = st.lists(st.tuples(st.integers(0, 60), st.floats(0.1, 2.0)), min_size=1, max_size=20)


@given(points)
def test_no_point_lies_below_the_frontier(found: list[tuple[int, float]]) -> None:
    nonzeros, losses = np.array(found, dtype=np.float64).T
    kept = frontier(nonzeros, losses)
    logs = np.log(np.maximum(nonzeros, 1.0))
    assert (np.diff(logs[kept]) > 0).all()
    assert (np.diff(losses[kept]) < 0).all()
    assert (np.diff(np.diff(losses[kept]) / np.diff(logs[kept])) > -1e-9).all()
    assert (losses >= np.interp(logs, logs[kept], losses[kept]) - 1e-9).all()


@given(points, st.floats(0.0, 2.5))
def test_needed_lies_between_the_points_around_the_level(
    found: list[tuple[int, float]], level: float
) -> None:
    nonzeros, losses = np.array(found, dtype=np.float64).T
    count = needed(nonzeros, losses, level)
    reached = np.maximum(nonzeros[losses <= level], 1.0)
    assert math.isinf(count) == (len(reached) == 0)
    if len(reached):
        assert count <= reached.min() * (1 + 1e-12)
        assert count >= max(1.0, nonzeros.min()) * (1 - 1e-12)


def test_needed_interpolates_the_logarithm() -> None:
    nonzeros, losses = np.array([100.0, 10000.0, 50.0]), np.array([0.5, 0.4, np.inf])
    assert needed(nonzeros, losses, 0.45) == pytest.approx(1000.0)
    assert needed(nonzeros, losses, 0.9) == pytest.approx(100.0)
    assert needed(nonzeros, losses, 0.39) == math.inf
    badly_chosen = np.append(nonzeros, 9999.0), np.append(losses, 0.449)
    assert needed(*badly_chosen, 0.45) == pytest.approx(1000.0)


def outcome(nonzeros: float, losses: NDArray[np.float64]) -> Outcome:
    """A configuration with these losses of four blocks of 10 events each."""
    sums = np.zeros((4, 4))
    sums[:, 0], sums[:, 1], sums[:, 3] = 10.0, 10.0 * losses, 5.0
    wins = np.full((4, 4), 25.0 * (1.0 - losses.mean()))
    return Outcome(
        Configuration("any", {"x": nonzeros}, 1.0, 0.0), Blocks(sums, wins, np.ones((2, GROUPS))), nonzeros
    )


def standing(*found: tuple[float, float], noise: float = 0.0) -> Standing:
    """Configurations of (non-zeros, log loss); all are disturbed alike."""
    shape = np.array([1.0, -1.0, 0.5, -0.5]) * noise
    made = Standing.of([outcome(n, loss + shape) for n, loss in found], Resamples(4, 0, 200))
    assert made is not None
    return made


def test_the_ratio_at_equal_loss() -> None:
    reference = standing((100, 0.45), (1000, 0.40), noise=0.2)
    assert (reference.best, reference.chosen) == (1, 1)
    assert reference.level == pytest.approx(0.402)
    twice = at_equal_loss(standing((200, 0.45), (2000, 0.40), noise=0.2), reference)
    assert twice.ratio == pytest.approx(2.0)
    # What disturbs both alike cancels: the interval is of the difference.
    assert twice.interval == pytest.approx((2.0, 2.0))
    assert twice.level == pytest.approx(0.402)
    never = at_equal_loss(standing((200, 0.45), (2000, 0.41), noise=0.2), reference)
    assert (never.ratio, never.interval) == (None, None)
    assert never.gap == pytest.approx(0.008)
    assert never.gap_interval == pytest.approx((0.008, 0.008))
    own = at_own_loss(standing((200, 0.45), noise=0.2), reference)
    assert own.level == pytest.approx(0.45 * 1.005)
    assert own.ratio == pytest.approx(2.0)


def test_an_interval_may_have_no_upper_end() -> None:
    reference = standing((100, 0.45), (1000, 0.40))
    jumpy = [outcome(200, np.full(4, 0.45)), outcome(2000, np.array([0.30, 0.50, 0.30, 0.48]))]
    contender = Standing.of(jumpy, Resamples(4, 0, 200))
    assert contender is not None
    found = at_equal_loss(contender, reference)
    assert found.ratio is not None
    assert found.interval is not None
    assert found.interval[1] is None


def test_at_equal_auc_more_is_better() -> None:
    reference = standing((100, 0.45), (1000, 0.40))
    found = at_equal_auc(standing((300, 0.45), (3000, 0.40)), reference)
    assert found.ratio == pytest.approx(3.0)
    assert found.level == pytest.approx(0.40 * 1.01)
    short = at_equal_auc(standing((300, 0.45)), reference)
    assert short.ratio is None
    assert short.gap == pytest.approx(0.45 - 0.40 * 1.01)


def test_the_sparsest_within_the_tolerance_is_chosen() -> None:
    found = standing((1000, 0.4000), (100, 0.4018), (10, 0.4030), (500, 0.3999))
    assert (found.best, found.chosen) == (3, 1)


def test_intervals_are_order_statistics() -> None:
    assert interval(np.arange(101.0)) == (2.0, 98.0)
    assert interval(np.array([1.0, np.inf])) == (1.0, None)
    assert interval(np.array([np.nan])) == (None, None)


def test_many_at_once_are_what_they_are_alone(events: Events) -> None:
    configurations = [
        m.configuration(0.1, 1.0, len(events), 0.5 if m.power else None) for m in learner_methods()
    ]
    together = list(trial(events, threads=2).run(configurations))
    for configuration, found in zip(configurations, together, strict=True):
        (alone,) = trial(events).run([configuration])
        assert found.blocks is not None
        assert alone.blocks is not None
        assert_array_equal(found.blocks.sums, alone.blocks.sums)
        assert_array_equal(found.blocks.wins, alone.blocks.wins)
        assert found.nonzeros == alone.nonzeros


def test_shuffles_are_other_orders_of_the_same_events(events: Events) -> None:
    configuration = FTRL.configuration(0.1, 0.5, len(events), None)
    one, again, other = (
        next(iter(trial(events, shuffles=2, seed=seed).run([configuration]))) for seed in (1, 1, 2)
    )
    assert one.blocks is not None
    assert again.blocks is not None
    assert other.blocks is not None
    assert_array_equal(one.blocks.sums, again.blocks.sums)
    assert one.log_loss != other.log_loss
    # Each block holds the same events in any order.
    assert_array_equal(one.blocks.sums[:, [0, 3]], other.blocks.sums[:, [0, 3]])


def test_a_learner_that_diverges_has_no_result(events: Events) -> None:
    configuration = Configuration("sgd_l1", {"alpha": 1e308, "power": 0.0, "l1": 0.0}, 1e308, 0.0)
    (found,) = trial(events).run([configuration])
    assert found.failed == "diverged"
    assert found.log_loss == math.inf


def test_the_curve_is_looked_at_on_the_way(events: Events) -> None:
    (found,) = trial(events, curves=True).run([FTRL.configuration(0.1, 0.5, len(events), None)])
    assert len(found.curve) == BLOCKS
    assert found.curve[-1].events == len(events)
    assert found.curve[-1].log_loss == pytest.approx(found.log_loss, rel=1e-12)
    assert found.curve[-1].nonzeros == found.nonzeros
    assert 0 < (found.curve[0].nonzeros or 0) < found.nonzeros


def test_the_store_keeps_outcomes_whole(events: Events, tmp_path: Path) -> None:
    store = Store(tmp_path, {"events": events.digest})
    configuration = FTRL.configuration(0.1, 0.5, len(events), None)
    (found,) = trial(events, curves=True).run([configuration])
    store.save(found)
    kept = store.load(configuration)
    assert kept is not None
    assert kept.blocks is not None
    assert found.blocks is not None
    assert_array_equal(kept.blocks.wins, found.blocks.wins)
    assert (kept.nonzeros, kept.seconds, kept.curve) == (found.nonzeros, found.seconds, found.curve)
    assert store.load(FTRL.configuration(0.2, 0.5, len(events), None)) is None
    assert Store(tmp_path, {"events": "others"}).load(configuration) is None
    store.save(Outcome(configuration, None, failed="diverged"))
    failed = store.load(configuration)
    assert failed is not None
    assert failed.failed == "diverged"
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-1])
    assert store.load(configuration) is None


def test_what_is_finished_is_not_done_again(
    events: Events, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Interrupted(Exception):
        pass

    methods = [FTRL, next(m for m in learner_methods() if m.name == "rda")]
    fresh = Contest(events, LEAST_BUDGET, tmp_path).learners(methods)
    run, learned = Trial.run, []

    def interrupted(self: Trial, configurations: Sequence[Configuration], report: object = None) -> object:
        learned.append(len(configurations))
        if len(learned) == 2:
            raise Interrupted
        return run(self, configurations)

    monkeypatch.setattr(Trial, "run", interrupted)
    contest = Contest(events, LEAST_BUDGET, tmp_path, work=tmp_path / "work")
    with pytest.raises(Interrupted):
        contest.learners(methods)
    entries = contest.learners(methods)
    # Five rates of each in the first run; the second one begins with the stage that was interrupted.
    assert learned[:4] == [10, 4, 0, 4]
    for found, expected in zip(entries, fresh, strict=True):
        assert [o.log_loss for o in found.outcomes] == [o.log_loss for o in expected.outcomes]


def test_twenty_at_once_cost_at_most_half_of_twenty_runs(tmp_path: Path) -> None:
    """Processor time, because other programs do not count in it."""
    path = Inputs(tmp_path).criteo("tsv", 6000)
    configurations = [
        FTRL.configuration(rate, 1.0, 6000, None) for rate in np.geomspace(0.01, 1.0, 20).tolist()
    ]
    list(trial(hashed(path, tmp_path / "warm", "criteo")).run(configurations[:1]))
    started = time.process_time()
    for i, configuration in enumerate(configurations):
        list(trial(hashed(path, tmp_path / f"{i}", "criteo")).run([configuration]))
    separate = time.process_time() - started
    started = time.process_time()
    list(trial(hashed(path, tmp_path / "all", "criteo")).run(configurations))
    assert time.process_time() - started < 0.5 * separate


def test_the_remaining_time_is_told() -> None:
    now, said = [0.0], []
    remaining = Remaining(lambda text, share: said.append(text), lambda: now[0])
    for at, share in ((0.0, 0.0), (10.0, 0.25), (400.0, 0.5), (500.0, 1.0)):
        now[0] = at
        remaining.show("learners", share)
    assert said == [
        "learners: 0 %",
        "learners: 25 %  about 30 s left",
        "learners: 50 %  about 7 min left",
        "learners: 100 %",
    ]
