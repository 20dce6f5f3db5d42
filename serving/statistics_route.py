"""GET /stats.json and GET /weights.json: what the page shows."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs

import msgspec

from ftrl_engine import __version__
from serving.history import Sample
from serving.http import HttpError, Receive, Response, Scope
from serving.metrics import BUCKETS
from serving.operations import MODEL_ERRORS, operation
from serving.routes import Route
from serving.service import Service
from serving.store import Served
from serving.top_weights import LARGEST, Desk

_SECONDS = re.compile(r"[0-9]{1,15}")
_NEVER_KEPT = {"cache-control": "no-store"}


def routes(service: Service) -> list[Route]:
    desk = Desk(service.names, service.timer)

    async def stats(scope: Scope, receive: Receive) -> Response:
        samples = service.history.after(_after(scope))
        return Response.json(
            {
                "now": service.clock(),
                "version": __version__,
                "step_seconds": service.history.step,
                "latency_bounds": BUCKETS,
                "columns": Sample.__struct_fields__,
                "samples": samples,
                "model": _model(service),
                "server": {
                    "workers": service.state.workers,
                    "draining": service.state.draining,
                    "reload_error": service.store.error,
                }
                | service.state.parts(),
            },
            headers=_NEVER_KEPT,
        )

    async def weights(scope: Scope, receive: Receive) -> Response:
        served = service.served()
        found = desk.at_hand()
        if found is None:
            found = await asyncio.to_thread(desk.find, served)
        return Response(found, headers=_NEVER_KEPT)

    return [Route("GET", "/stats.json", stats, _STATS), Route("GET", "/weights.json", weights, _WEIGHTS)]


def _after(scope: Scope) -> int:
    """The query's ``after``; 0 where there is none, HttpError 400 where it is no whole second."""
    given = parse_qs(scope.get("query_string", b"").decode("latin-1"), keep_blank_values=True).get("after")
    if given is None:
        return 0
    if len(given) != 1 or _SECONDS.fullmatch(given[0]) is None:
        raise HttpError(400, f"after must be one whole number, seconds since 1970, got {given[-1][:50]!r}")
    return int(given[0])


def _model(service: Service) -> dict[str, Any] | None:
    served: Served | None = service.store.current
    if served is None:
        return None
    snapshot = served.snapshot
    learner = snapshot.provenance.get("learner")
    return {
        "name": service.name,
        **msgspec.to_builtins(service.facts(served)),
        "published_at": served.published_at,
        "learner": learner.get("name") if isinstance(learner, Mapping) else None,
        "metrics": snapshot.provenance.get("metrics"),
        "source": snapshot.provenance.get("source"),
        "nonzero_weights": len(snapshot.slots),
        "intercept": snapshot.intercept,
        "bits": snapshot.bits,
        "snapshot_bytes": served.bytes,
    }


_STATS = operation(
    "What the page shows: samples of counts and of the model, one a second", {"type": "object"}, errors=(400,)
) | {
    "parameters": [
        {
            "name": "after",
            "in": "query",
            "description": "Only samples younger than this, in seconds since 1970",
            "schema": {"type": "integer", "minimum": 0, "maximum": 999_999_999_999_999},
        }
    ]
}
_LISTED = {
    "type": "array",
    "maxItems": LARGEST,
    "items": {
        "type": "object",
        "required": ["slot", "weight", "names"],
        "properties": {
            "slot": {"type": "integer"},
            "weight": {"type": "number"},
            "names": {"type": "array", "items": {"type": "string"}},
        },
    },
}
_WEIGHTS = operation(
    "The largest weights of the served model by name",
    {
        "type": "object",
        "required": ["version", "positive", "negative"],
        "properties": {"version": {"type": "string"}, "positive": _LISTED, "negative": _LISTED},
    },
    errors=MODEL_ERRORS,
)
