"""What a server counts, and its Prometheus text.

Counting is a few plain additions a request, into cells that the workers of one server share; the
families of metrics are put together when somebody asks for them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ftrl_engine.errors import ConfigError
from serving.counts import CELLS, Counts
from serving.score_counts import (
    CANDIDATES,
    COUNTED,
    FIRST_BUCKET,
    MISSING,
    SCORE_BUCKETS,
    SUM,
    UNKNOWN,
    count_scores,
)
from serving.server_state import FeedbackState, LearnerState, ServerState

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from serving.scorer import Scored
    from serving.store import ModelStore

# Upper bounds of the latency histogram, in seconds.
BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
INSTALL = "pip install 'ftrl-engine[serve]'"

# Cells of serving.counts: of scoring; of feedback; of latencies; of serving.score_counts; answers by route
# and status.
SECONDS = 0
EVENTS, DUPLICATES, LABELS, FEEDBACK_SCORES, FEEDBACK_LOSS, SCORED_EVENTS = range(8, 14)
_LATENCIES, _SCORES, _REQUESTS = 16, 40, 64
_STATUSES = (200, 304, 400, 401, 404, 405, 408, 413, 415, 422, 429, 431, 500, 503)
_WIDTH = 16
_GOOD = ("200", "304")
# The last cell of a route is for statuses beside those above.
_OTHER_STATUS, _OTHER_ROUTE = _WIDTH - 1, "other"
MAX_ROUTES = (CELLS - _REQUESTS) // _WIDTH
assert len(BUCKETS) < _SCORES - _LATENCIES
assert COUNTED <= _REQUESTS - _SCORES
assert len(_STATUSES) < _OTHER_STATUS


def extra_needed(package: str | None) -> ConfigError:
    """What is missing, and how to get it."""
    return ConfigError(f"serving needs the package {package}; install it with: {INSTALL}")


class Totals(NamedTuple):
    """Counts since the start.

    errors     answers to any request that are neither 200 nor 304
    latencies  requests for scores by their time; BUCKETS has the upper bounds, the last has none
    """

    errors: float
    candidates: float
    scores: float
    unknown: float
    missing: float
    latencies: list[float]


class Metrics:
    """Counts of one application, and the state of its store."""

    def __init__(
        self,
        store: ModelStore,
        clock: Callable[[], float],
        counts: Counts | None = None,
        state: ServerState | None = None,
    ) -> None:
        try:
            from prometheus_client import CollectorRegistry
            from prometheus_client.process_collector import ProcessCollector
        except ImportError as error:
            raise extra_needed(error.name) from error
        self._store = store
        self._clock = clock
        self._state = state or ServerState()
        self._counts = counts or Counts()
        self._cells = self._counts.mine
        self._scores = np.asarray(self._cells)[_SCORES : _SCORES + COUNTED]
        self.name_routes(())
        self._offset = {status: i for i, status in enumerate(_STATUSES)}
        # A registry of its own: two applications in one process must not share counts.
        self._registry = CollectorRegistry()
        self._registry.register(self)
        if self._state.workers == 1:
            # Of several processes, the one that happens to answer says nothing of the others.
            ProcessCollector(registry=self._registry)

    def name_routes(self, routes: Sequence[str]) -> None:
        """The paths that are counted, in the same order in every worker."""
        if len(routes) >= MAX_ROUTES:
            raise ConfigError(f"at most {MAX_ROUTES - 1} routes can be counted, got {len(routes)}")
        self._routes = (*routes, _OTHER_ROUTE)
        self._first = {route: _REQUESTS + _WIDTH * i for i, route in enumerate(self._routes)}

    def count_request(self, route: str, status: int) -> None:
        """One answer to a route (a path of the application, or "other")."""
        self._cells[self._first[route] + self._offset.get(status, _OTHER_STATUS)] += 1.0

    def count_scores(self, scored: Scored, seconds: float) -> None:
        """One answered request for scores, and the time from the whole request to its answer."""
        cells = self._cells
        cells[SECONDS] += seconds
        cells[_LATENCIES + bisect_left(BUCKETS, seconds)] += 1.0
        count_scores(self._scores, scored.results)

    def count_feedback(self, fresh: int, duplicates: int) -> None:
        """Events of one answered POST /feedback."""
        self._cells[EVENTS] += fresh
        self._cells[DUPLICATES] += duplicates

    def count_scored_feedback(self, events: int, labels: float, scores: float, loss: float) -> None:
        """Of events that a model has scored before they were stored: sums of labels, scores, log losses."""
        for cell, value in (
            (SCORED_EVENTS, events),
            (LABELS, labels),
            (FEEDBACK_SCORES, scores),
            (FEEDBACK_LOSS, loss),
        ):
            self._cells[cell] += value

    def totals(self) -> Totals:
        """What all workers have counted so far."""
        total = self._counts.total
        errors = sum(number for _, status, number in self._answers() if status not in _GOOD)
        latencies = self._counts.totals(_LATENCIES, len(BUCKETS) + 1)
        candidates, scores, unknown, missing = (
            total(_SCORES + cell) for cell in (CANDIDATES, SUM, UNKNOWN, MISSING)
        )
        return Totals(errors, candidates, scores, unknown, missing, latencies)

    def text(self) -> tuple[bytes, str]:
        """(body, content type) of GET /metrics."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """The families; what a Prometheus registry asks its collectors for."""
        from prometheus_client.metrics_core import CounterMetricFamily

        requests = CounterMetricFamily(
            "ftrl_requests", "Answers by route and status.", labels=["route", "status"]
        )
        for route, status, number in self._answers():
            requests.add_metric([route, status], number)
        yield requests
        yield from self._histograms()
        totals = self.totals()
        for name, what, value in (
            ("candidates", "Candidates scored.", totals.candidates),
            ("scores_sum", "Sum of the probabilities given.", totals.scores),
            ("unknown_fields", "Fields that changed no score: not in the schema, no weight.", totals.unknown),
            ("missing_fields", "Fields of the schema without a value, over all candidates.", totals.missing),
            ("reloads", "Snapshots taken into service.", self._store.loads),
            ("reload_failures", "Snapshots that could not be loaded.", self._store.failures),
        ):
            yield CounterMetricFamily(f"ftrl_{name}", what, value=value)
        yield from self._model()
        yield from self._parts()
        if self._state.feedback is not None:
            yield from self._feedback(self._state.feedback)
        if self._state.learner is not None:
            yield from _learner(self._state.learner)

    def _histograms(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import HistogramMetricFamily

        for name, what, bounds, first, summed in (
            ("seconds", "Seconds from a whole request to its answer.", BUCKETS, _LATENCIES, SECONDS),
            ("probability", "Probabilities given.", SCORE_BUCKETS, _SCORES + FIRST_BUCKET, _SCORES + SUM),
        ):
            family = HistogramMetricFamily(f"ftrl_score_{name}", what)
            texts = [*map(str, bounds), "+Inf"]
            counts = accumulate(self._counts.totals(first, len(texts)))
            family.add_metric([], list(zip(texts, counts, strict=True)), self._counts.total(summed))
            yield family

    def _answers(self) -> Iterator[tuple[str, str, float]]:
        """(route, status, number of answers) of what was answered at all."""
        for route in sorted(self._routes):
            numbers = self._counts.totals(self._first[route], _WIDTH)
            for status, number in zip((*_STATUSES, *[0] * _WIDTH), numbers, strict=False):
                if number:
                    yield route, str(status or "other"), number

    def _model(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import GaugeMetricFamily

        served = self._store.current
        yield GaugeMetricFamily("ftrl_model_ready", "1 when there is a model.", value=served is not None)
        if served is None:
            return
        version = GaugeMetricFamily("ftrl_model_info", "The served snapshot.", labels=["version"])
        version.add_metric([served.version], 1.0)
        yield version
        for name, what, value in (
            ("rows", "Events the served model has learned from.", served.snapshot.rows),
            ("age_seconds", "Seconds since the served snapshot was published.", served.age(self._clock())),
            ("nonzero_weights", "Non-zero weights of the served model.", len(served.snapshot.slots)),
            ("bytes", "Size of the served snapshot's file.", served.bytes),
        ):
            yield GaugeMetricFamily(f"ftrl_model_{name}", what, value=value)
        learned, source = (served.snapshot.provenance.get(name) or {} for name in ("metrics", "source"))
        told: tuple[tuple[str, str, Any], ...] = (
            ("model_log_loss", "Progressive log loss of all that was learned.", learned.get("log_loss")),
            ("model_auc", "Progressive AUC of all that was learned.", learned.get("auc")),
            ("model_calibration", "Sum of predictions / sum of labels.", learned.get("calibration")),
            ("learner_lag", "Events behind the source when it was published.", source.get("lag")),
            ("learner_lag_bytes", "Bytes behind the source when it was published.", source.get("lag_bytes")),
            ("learner_lost", "Events that were gone before they were read.", source.get("lost")),
            ("learner_event_age_seconds", "Age of the last event then.", source.get("last_event_age")),
        )
        for name, what, value in told:
            if isinstance(value, int | float):
                yield GaugeMetricFamily(f"ftrl_{name}", what, value=value)

    def _parts(self) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        state = self._state
        for name, what, value in (
            ("reload_failing", "1 when the newest snapshot cannot be served.", self._store.error is not None),
            ("draining", "1 when the end was asked for.", state.draining),
            ("workers", "Processes that answer requests.", state.workers),
        ):
            yield GaugeMetricFamily(f"ftrl_{name}", what, value=value)
        restarts = state.worker_restarts
        yield CounterMetricFamily("ftrl_worker_restarts", "Workers started again.", value=restarts)

    def _feedback(self, state: FeedbackState) -> Iterator[Metric]:
        from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

        for name, what, cell in (
            ("events", "Events stored.", EVENTS),
            ("duplicates", "Events not stored again, by their ids.", DUPLICATES),
            ("scored", "Events stored that the served model has scored.", SCORED_EVENTS),
            ("labels_sum", "Of these, the sum of labels.", LABELS),
            ("scores_sum", "Of these, the sum of probabilities.", FEEDBACK_SCORES),
            ("log_loss_sum", "Of these, the sum of log losses.", FEEDBACK_LOSS),
        ):
            yield CounterMetricFamily(f"ftrl_feedback_{name}", what, value=self._counts.total(cell))
        failing = state.error is not None
        yield GaugeMetricFamily("ftrl_feedback_failing", "1 when feedback cannot be stored.", value=failing)


def _learner(state: LearnerState) -> Iterator[Metric]:
    from prometheus_client.metrics_core import CounterMetricFamily, GaugeMetricFamily

    yield GaugeMetricFamily("ftrl_learner_running", "1 when the learner runs.", value=state.running)
    yield CounterMetricFamily("ftrl_learner_restarts", "Learners started again.", value=state.restarts)
