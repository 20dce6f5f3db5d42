"""POST /explain: where the scores of a request come from.

Explaining is plain Python and takes milliseconds, so it runs in a thread beside the event loop,
for a few requests at once and a bounded number of candidates.
"""

from __future__ import annotations

import asyncio
import threading

import msgspec

from ftrl_engine.errors import DataError
from ftrl_engine.snapshot import Snapshot
from serving.explanation import MAX_EXPLAINED_FEATURES, Explainer, Explanation
from serving.http import HttpError, Receive, Response, Scope
from serving.operations import BODY_ERRORS, MODEL_FACTS, at_most, operation
from serving.request_values import TooLargeError, decode_request
from serving.routes import Route
from serving.service import ModelFacts, Service
from serving.store import Served

MAX_CANDIDATES = 100
MAX_AT_ONCE = 16


class ExplainAnswer(msgspec.Struct):
    """The answer of POST /explain."""

    explanations: list[Explanation]
    model: ModelFacts


class _Desk:
    """Explains requests, one after the other, by the snapshot that is served."""

    def __init__(self, service: Service) -> None:
        self._names = service.names
        self._lock = threading.Lock()
        self._at_hand: tuple[Snapshot, Explainer] | None = None

    def explain(self, served: Served, body: bytes) -> list[Explanation]:
        request = decode_request(body, MAX_CANDIDATES)
        with self._lock:
            if self._at_hand is None or self._at_hand[0] is not served.snapshot:
                self._at_hand = served.snapshot, Explainer(served.snapshot)
            return self._at_hand[1].explain(request, self._names.names(served.snapshot))


def routes(service: Service) -> list[Route]:
    encode = msgspec.json.Encoder().encode
    desk = _Desk(service)
    working = 0

    async def explain(scope: Scope, receive: Receive) -> Response:
        nonlocal working
        body = await service.read(scope, receive)
        if working >= MAX_AT_ONCE:
            raise HttpError(
                503, f"{MAX_AT_ONCE} requests are being explained; try again", {"retry-after": "1"}
            )
        served = service.served()
        # The scorer refuses what is wrong with it, in the same words as POST /score.
        service.score(served, body)
        working += 1
        try:
            found = await asyncio.to_thread(desk.explain, served, body)
        except TooLargeError as error:
            raise HttpError(413, str(error)) from error
        except DataError as error:
            raise HttpError(400, str(error)) from error
        finally:
            working -= 1
        return Response(encode(ExplainAnswer(found, service.facts(served))))

    return [Route("POST", "/explain", explain, _OPERATION)]


_NUMBER = {"type": "number"}
_MAYBE = {"type": ["number", "null"]}
_UNCERTAINTY = {
    "type": ["object", "null"],
    "required": ["margin", "margin_at_most", "score", "features_without_count"],
    "properties": {
        "margin": _MAYBE,
        "margin_at_most": _MAYBE,
        "score": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2},
        "features_without_count": {"type": "integer"},
    },
}
_CONTRIBUTION = {
    "type": "object",
    "required": ["name", "fields", "slot", "value", "weight", "contribution", "count", "confidence"],
    "properties": {
        "name": {"type": "string"},
        "fields": {"type": "array", "items": {"type": "string"}},
        "slot": {"type": "integer"},
        "value": _NUMBER,
        "weight": _NUMBER,
        "contribution": _NUMBER,
        "count": _MAYBE,
        "confidence": _MAYBE,
        "shared_with": {"type": "array", "items": {"type": "string"}},
    },
}
_EXPLANATION = {
    "type": "object",
    "required": ["score", "margin", "intercept", "uncertainty", "contributions"],
    "properties": {
        "score": _NUMBER,
        "margin": _NUMBER,
        "intercept": _NUMBER,
        "uncertainty": _UNCERTAINTY,
        "contributions": {"type": "array", "items": _CONTRIBUTION},
    },
}
_OPERATION = operation(
    f"Explain scores feature by feature: at most {MAX_CANDIDATES} candidates and "
    f"{MAX_EXPLAINED_FEATURES} features",
    {
        "type": "object",
        "required": ["explanations", "model"],
        "properties": {"explanations": {"type": "array", "items": _EXPLANATION}, "model": MODEL_FACTS},
    },
    body=at_most(MAX_CANDIDATES),
    errors=BODY_ERRORS,
)
