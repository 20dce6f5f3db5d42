"""POST /feedback: labelled events into a stream, from which a learner learns."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ftrl_engine.errors import DataError, ModelError, SourceUnavailableError
from ftrl_engine.schema import Schema
from serving.feedback_link import FeedbackLink
from serving.feedback_record import Feedback, FeedbackReader
from serving.feedback_stream import Full
from serving.http import HttpError, Receive, Response, Scope
from serving.operations import BODY_ERRORS, LABELLED, operation
from serving.request_values import TooLargeError
from serving.routes import Route
from serving.scorer import Scorer
from serving.service import RETRY, Service
from serving.store import empty_snapshot
from streams.model_directory import ModelDirectory

_LEAST = 1e-15  # nearer to 0 and 1 no probability counts in the log loss


class FeedbackRoute:
    """Answers when the events are durable.

    Events are read by the schema of the served model, or of the model directory where nothing is
    published yet. The served model scores them first: that refuses whatever the learner would, by
    name, and tells how good the scores are that were given.
    """

    def __init__(self, service: Service, link: FeedbackLink) -> None:
        self._service, self._link = service, link
        self._store = service.store
        self._schema: Schema | None = None
        self._reader = FeedbackReader(Schema())
        self._empty: Scorer | None = None

    async def answer(self, scope: Scope, receive: Receive) -> Response:
        """The handler of the route."""
        body = await self._service.read(scope, receive)
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
        self._service.metrics.count_feedback(fresh, len(duplicates))
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
            raise HttpError(429, "too much feedback waits to be stored; send it again later", RETRY) from None
        except SourceUnavailableError as error:
            raise HttpError(
                503, f"not certain that it is stored, send it again (with the same ids): {error}", RETRY
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
                raise HttpError(503, f"what an event is, is not known yet: {error}", RETRY) from error
            settings = directory.settings
            self._use(settings.schema)
            self._empty = self._service.make_scorer(empty_snapshot(settings.bits, settings.schema))
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
        self._service.metrics.count_scored_feedback(len(scores) - len(known), labels, score_sum, loss)


PATH = "/feedback"
HOW_TO_HAVE_IT = "start the server with --feedback log:DIR (or kafka://HOST:PORT/TOPIC)"

_BATCH = {
    "type": "object",
    "required": ["events"],
    "properties": {"events": {"type": "array", "items": LABELLED, "minItems": 1}},
    "additionalProperties": False,
}


def routes(service: Service) -> list[Route]:
    """One route, where the server has somewhere to put feedback."""
    if service.link is None:
        return []
    about = operation(
        "Append labelled events to the stream that is learned from",
        {
            "type": "object",
            "required": ["accepted", "duplicates"],
            "properties": {
                "accepted": {"type": "integer"},
                "duplicates": {"type": "integer"},
                "duplicate": {"type": "boolean"},
            },
        },
        body={"anyOf": [{"allOf": [LABELLED, {"not": {"required": ["events"]}}]}, _BATCH]},
        errors=BODY_ERRORS,
    )
    return [Route("POST", PATH, FeedbackRoute(service, service.link).answer, about)]


def _in_events(error: DataError) -> str:
    """The scorer knows them as candidates."""
    return str(error).replace("candidates", "events")
