"""What machines and people ask about the server: alive, ready, which model, metrics."""

from __future__ import annotations

from serving.http import Receive, Response, Scope
from serving.operations import MODEL_ERRORS, operation
from serving.routes import Route
from serving.service import Service

_OBJECT = {"type": "object"}
_STATUS = {"type": "object", "required": ["status"], "properties": {"status": {"type": "string"}}}


def routes(service: Service) -> list[Route]:
    store = service.store

    async def health(scope: Scope, receive: Receive) -> Response:
        return Response.json({"status": "ok"})

    async def ready(scope: Scope, receive: Receive) -> Response:
        served = service.ready()
        facts = service.facts(served)
        return Response.json(
            {
                "status": "ready",
                "version": facts.version,
                "rows": facts.rows,
                "age_seconds": facts.age_seconds,
                "reload_error": store.error,
                "source": served.snapshot.provenance.get("source"),
            }
            | service.state.parts()
        )

    async def model(scope: Scope, receive: Receive) -> Response:
        served = service.served()
        facts, snapshot = service.facts(served), served.snapshot
        return Response.json(
            {
                "version": facts.version,
                "rows": facts.rows,
                "age_seconds": facts.age_seconds,
                "published_at": served.published_at,
                "learner": snapshot.provenance.get("learner"),
                "metrics": snapshot.provenance.get("metrics"),
                "nonzero_weights": len(snapshot.slots),
                "intercept": snapshot.intercept,
                "bits": snapshot.bits,
                "schema": snapshot.schema.to_dict(),
                "snapshot": str(served.path),
                "snapshot_bytes": served.bytes,
                "reloads": store.loads,
                "reload_failures": store.failures,
                "reload_error": store.error,
            }
        )

    async def metrics(scope: Scope, receive: Receive) -> Response:
        body, content_type = service.metrics.text()
        return Response(body, content_type=content_type)

    text = operation("Counts and gauges as Prometheus reads them", {"type": "string"}, media="text/plain")
    return [
        Route("GET", "/healthz", health, operation("Whether the server is alive", _STATUS)),
        Route("GET", "/readyz", ready, operation("Whether it has a model", _STATUS, errors=MODEL_ERRORS)),
        Route("GET", "/model", model, operation("What is served", _OBJECT, errors=MODEL_ERRORS)),
        Route("GET", "/metrics", metrics, text),
    ]
