"""POST /feedback: labelled events into a stream, from which a learner learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ftrl_engine.errors import DataError, ModelError, SourceUnavailableError
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving.feedback_link import FeedbackLink
from serving.feedback_record import Feedback, FeedbackReader
from serving.feedback_stream import Full
from serving.http import BodyReader, HttpError, Receive, Response, Scope
from serving.metrics import Metrics
from serving.request_values import TooLargeError
from serving.scorer import Scorer
from serving.store import ModelStore, empty_snapshot
from streams.model_directory import ModelDirectory

_RETRY = {"retry-after": "1"}
_LEAST = 1e-15  # nearer to 0 and 1 no probability counts in the log loss


class FeedbackRoute:
    """Answers when the events are durable.

    Events are read by the schema of the served model, or of the model directory where nothing is
    published yet. The served model scores them first: that refuses whatever the learner would, by
    name, and tells how good the scores are that were given.
    """

    def __init__(
        self,
        make_scorer: Callable[[Snapshot], Scorer],
        store: ModelStore,
        bodies: BodyReader,
        link: FeedbackLink,
        metrics: Metrics,
    ) -> None:
        self._make_scorer, self._store, self._bodies = make_scorer, store, bodies
        self._link, self._metrics = link, metrics
        self._schema: Schema | None = None
        self._reader = FeedbackReader(Schema())
        self._empty: Scorer | None = None

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """The handler of the route."""
        body = await self._bodies.read(scope, receive)
        served = self._store.current
        reader, scorer = self._tools()
        try:
            feedback = reader.read(body)
            scores = scorer.score(feedback.request).scores
        except TooLargeError as error:
            raise HttpError(error.status, _in_events(error)) from error
        except DataError as error:
            raise HttpError(400, _in_events(error)) from error
        duplicates = await self._append(feedback)
        fresh = len(feedback.records) - len(duplicates)
        self._metrics.count_feedback(fresh, len(duplicates))
        if served is not None:
            self._count_scores(feedback, scores, duplicates)
        answer: dict[str, object] = {"accepted": fresh, "duplicates": len(duplicates)}
        if feedback.single:
            answer["duplicate"] = bool(duplicates)
        return Response.json(answer)

    async def _append(self, feedback: Feedback) -> Sequence[int]:
        try:
            return await self._link.append([(record.key, record.line) for record in feedback.records])
        except Full:
            raise HttpError(
                429, "too much feedback waits to be stored; send it again later", _RETRY
            ) from None
        except SourceUnavailableError as error:
            raise HttpError(
                503, f"not certain that it is stored, send it again (with the same ids): {error}", _RETRY
            ) from error

    def _tools(self) -> tuple[FeedbackReader, Scorer]:
        served = self._store.current
        if served is not None:
            self._use(served.snapshot.schema)
            return self._reader, served.scorer
        if self._empty is None:
            try:
                directory = ModelDirectory.open(self._store.model)
            except ModelError as error:
                raise HttpError(503, f"what an event is, is not known yet: {error}", _RETRY) from error
            settings = directory.settings
            self._use(settings.schema)
            self._empty = self._make_scorer(empty_snapshot(settings.bits, settings.schema))
        return self._reader, self._empty

    def _use(self, schema: Schema) -> None:
        if schema is not self._schema:
            self._schema, self._reader = schema, FeedbackReader(schema)

    def _count_scores(self, feedback: Feedback, scores: Sequence[float], duplicates: Sequence[int]) -> None:
        """Note how the served model would have done, without what was counted before."""
        known = set(duplicates)
        labels = score_sum = loss = 0.0
        for number, (record, score) in enumerate(zip(feedback.records, scores, strict=True)):
            if number in known:
                continue
            labels += record.label
            score_sum += score
            right = score if record.label else 1.0 - score
            loss -= math.log(max(right, _LEAST))
        self._metrics.count_scored_feedback(len(scores) - len(known), labels, score_sum, loss)


def _in_events(error: DataError) -> str:
    """The scorer knows them as candidates."""
    return str(error).replace("candidates", "events")
