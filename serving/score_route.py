"""POST /score: the native request, the hot route."""

from __future__ import annotations

import msgspec

from serving.http import Receive, Response, Scope
from serving.operations import BODY_ERRORS, EVENTS, MODEL_FACTS, operation
from serving.routes import Route
from serving.service import ModelFacts, Service


class ScoreAnswer(msgspec.Struct):
    """The answer of POST /score."""

    scores: list[float]
    model: ModelFacts


def routes(service: Service) -> list[Route]:
    encode = msgspec.json.Encoder().encode

    async def score(scope: Scope, receive: Receive) -> Response:
        body = await service.read(scope, receive)
        started = service.timer()
        served = service.served()
        scored = service.score(served, body)
        response = Response(encode(ScoreAnswer(scored.scores, service.facts(served))))
        service.count(scored, started)
        return response

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
    return [Route("POST", "/score", score, about)]
