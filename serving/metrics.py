"""What a server counts, and its Prometheus text.

Counting is a few plain additions a request, by the one thread that answers; the families of
metrics are put together when somebody asks for them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

from ftrl_engine.errors import ConfigError

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

    from serving.scorer import Scored
    from serving.store import SnapshotStore

# Upper bounds of the latency histogram, in seconds.
BUCKETS = (
    0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0,
)  # fmt: skip
INSTALL = "pip install 'ftrl-engine[serve]'"


class Metrics:
    """Counts of one application, and the state of its store."""

    def __init__(self, store: SnapshotStore, clock: Callable[[], float]) -> None:
        try:
            from prometheus_client import CollectorRegistry
            from prometheus_client.process_collector import ProcessCollector
        except ImportError as error:
            raise ConfigError(f"serving needs {error.name}; install it with: {INSTALL}") from error
        self._store = store
        self._clock = clock
        self._requests: Counter[tuple[str, int]] = Counter()
        self._seconds = 0.0
        self._latencies = [0] * (len(BUCKETS) + 1)
        self._candidates = self._unknown = self._missing = 0
        self._score_sum = 0.0
        # A registry of its own: two applications in one process must not share counts.
        self._registry = CollectorRegistry()
        self._registry.register(self)
        ProcessCollector(registry=self._registry)

    def count_request(self, route: str, status: int) -> None:
        """One answer to a route (a path of the application, or "other")."""
        self._requests[route, status] += 1

    def count_seconds(self, seconds: float) -> None:
        """The time from a whole request to its answer, of POST /score."""
        self._seconds += seconds
        self._latencies[bisect_left(BUCKETS, seconds)] += 1

    def count_scores(self, scored: Scored) -> None:
        """One answered POST /score."""
        self._candidates += len(scored.scores)
        self._score_sum += sum(scored.scores)
        self._unknown += scored.unknown
        self._missing += scored.missing

    def text(self) -> tuple[bytes, str]:
        """(body, content type) of GET /metrics."""
        from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

        return generate_latest(self._registry), CONTENT_TYPE_LATEST

    def collect(self) -> Iterator[Metric]:
        """The families; what a Prometheus registry asks its collectors for."""
        from prometheus_client.metrics_core import CounterMetricFamily, HistogramMetricFamily

        requests = CounterMetricFamily(
            "ftrl_requests", "Answers by route and status.", labels=["route", "status"]
        )
        for (route, status), number in sorted(self._requests.items()):
            requests.add_metric([route, str(status)], number)
        yield requests
        latency = HistogramMetricFamily(
            "ftrl_score_seconds", "Seconds from a whole request to its answer, POST /score."
        )
        bounds = [*map(str, BUCKETS), "+Inf"]
        latency.add_metric([], list(zip(bounds, accumulate(self._latencies), strict=True)), self._seconds)
        yield latency
        for name, what, value in (
            ("candidates", "Candidates scored.", self._candidates),
            ("scores_sum", "Sum of the probabilities given.", self._score_sum),
            ("unknown_fields", "Fields that changed no score: not in the schema, no weight.", self._unknown),
            ("missing_fields", "Fields of the schema without a value, over all candidates.", self._missing),
            ("reloads", "Snapshots taken into service.", self._store.loads),
            ("reload_failures", "Snapshots that could not be loaded.", self._store.failures),
        ):
            yield CounterMetricFamily(f"ftrl_{name}", what, value=value)
        yield from self._model()

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
