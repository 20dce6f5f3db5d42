"""POST /score: the native request, the hot route."""

from __future__ import annotations

from ftrl_engine.errors import DataError
from serving.http import Receive, Response, Scope
from serving.metrics import extra_needed
from serving.operations import BODY_ERRORS, EVENTS, MODEL_FACTS, operation
from serving.routes import Route
from serving.service import Service, refusal


def routes(service: Service) -> list[Route]:
    try:
        from orjson import OPT_SERIALIZE_NUMPY, dumps
    except ImportError as error:
        raise extra_needed(error.name) from error
    read, store, timer, clock = service.read, service.store, service.timer, service.clock

    # Every call in here is one of tens of microseconds, so it makes few.
    def answer(body: bytes) -> Response:
        started = timer()
        served = store.current or service.served()
        try:
            scored = served.scorer.score(body)
        except DataError as error:
            raise refusal(error) from error
        scores, age = dumps(scored.probabilities, option=OPT_SERIALIZE_NUMPY), served.age(clock())
        # As msgspec would write {"scores": ..., "model": ModelFacts}.
        response = Response(b'{"scores":%b,"model":{%b,"age_seconds":%.3f}}' % (scores, served.told, age))
        service.metrics.count_scores(scored, timer() - started)
        return response

    async def score(scope: Scope, receive: Receive) -> Response:
        return answer(await read(scope, receive))

    about = operation(
        "Score an event, or candidates that share a context",
        {
            "type": "object",
            "required": ["scores", "model"],
            "properties": {
                "scores": {"type": "array", "items": {"type": "number", "minimum": 0, "maximum": 1}},
                "model": MODEL_FACTS,
            },
        },
        body=EVENTS,
        errors=BODY_ERRORS,
    )
    return [Route("POST", "/score", score, about, answer)]
