"""Service: what the routes of one application share, and the one way to a score."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from ftrl_engine.errors import DataError
from ftrl_engine.snapshot import Snapshot
from serving.feedback_link import FeedbackLink
from serving.history import History, Sample
from serving.http import BodyReader, HttpError
from serving.metrics import Metrics
from serving.name_reader import NameReader
from serving.request_values import TooLargeError
from serving.scorer import Scored, Scorer
from serving.server_state import ServerState
from serving.store import ModelStore, Served

RETRY = {"retry-after": "1"}


class ModelFacts(msgspec.Struct):
    """Which model has given an answer."""

    version: str
    rows: int
    age_seconds: float


class Service:
    """The model that is served, the reader of bodies, the clocks and the counts.

    make_scorer  builds the scorer of a snapshot
    state        what the parts of the server say of themselves
    link         where feedback goes; None: it is not taken
    metrics      is set by the application, which knows all routes; history samples it
    names        of the model's features
    read         reads the body of a request, within the limits
    """

    metrics: Metrics

    def __init__(
        self,
        store: ModelStore,
        bodies: BodyReader,
        make_scorer: Callable[[Snapshot], Scorer] = Scorer,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.perf_counter,
        state: ServerState | None = None,
        link: FeedbackLink | None = None,
    ) -> None:
        self.store, self.make_scorer, self.link = store, make_scorer, link
        self.state = state or ServerState()
        self.clock, self.timer = clock, timer
        self.names = NameReader(store.model)
        self.history = History(self._sample, clock)
        self.max_body = bodies.max_body
        self.read = bodies.read

    @property
    def name(self) -> str:
        """The model's name in the protocols that have one: that of its directory."""
        return self.store.model.resolve().name

    def served(self) -> Served:
        """The model at hand; HttpError 503 where there is none."""
        served = self.store.current
        if served is None:
            waiting = "nothing is published yet; let `ftrl learn` run first"
            why = self.store.error or (waiting if self.store.looked else "the first snapshot is being loaded")
            raise HttpError(503, f"no model in {self.store.model}: {why}", RETRY)
        return served

    def ready(self) -> Served:
        """The same for probes: HttpError 503 also when the server is about to end."""
        if self.state.draining:
            raise HttpError(503, "the server is about to end; ask another one", RETRY)
        if self.state.waiting:
            raise HttpError(503, f"{self.state.waiting} workers are taking their first model", RETRY)
        return self.served()

    def facts(self, served: Served) -> ModelFacts:
        """What an answer says of the model."""
        return ModelFacts(served.version, served.snapshot.rows, round(served.age(self.clock()), 3))

    def score(self, served: Served, body: bytes, rows: str = "candidates") -> Scored:
        """The scores of a request as POST /score takes it; HttpError says what is wrong with it.

        ``rows`` is what the client calls its candidates.
        """
        try:
            return served.scorer.score(body)
        except DataError as error:
            raise refusal(error, rows) from error

    def _sample(self, now: float) -> Sample:
        return Sample.of(now, self.metrics, self.store.current)

    def count(self, scored: Scored, started: float) -> None:
        """Count an answered request for scores that was whole when the timer stood at ``started``."""
        self.metrics.count_scores(scored, self.timer() - started)


def refusal(error: DataError, rows: str = "candidates") -> HttpError:
    """What a client is told of a request that cannot be scored; see :meth:`Service.score`."""
    status = error.status if isinstance(error, TooLargeError) else 400
    return HttpError(status, str(error).replace("candidates", rows))
