"""Words of OpenAPI that routes describe themselves with (OpenAPI 3.1, JSON Schema 2020-12)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

Schema = Mapping[str, Any]

JSON = "application/json"
# What is sent with an error's status, everywhere.
ERROR: Schema = {"type": "object", "required": ["error"], "properties": {"error": {"type": "string"}}}
_MEANINGS = {
    400: "The request has no meaning; the text names the field",
    401: "The bearer token is missing or wrong",
    404: "There is no such model",
    408: "The body did not arrive in time",
    413: "More bytes or candidates than the limits allow",
    415: "The body must not be compressed",
    422: "More fields than the limits allow",
    429: "Too many requests at once; try again later",
    500: "A failure inside the server",
    503: "No model yet, or too busy; try again later",
}
ALWAYS = (401, 429, 500)
MODEL_ERRORS = (503,)
BODY_ERRORS = (400, 408, 413, 415, 422, 503)

ONE_VALUE: Schema = {"type": ["string", "number", "boolean", "null"]}
VALUES: Schema = {"anyOf": [ONE_VALUE, {"type": "array", "items": ONE_VALUE}]}
FIELDS: Schema = {"$ref": "#/components/schemas/Fields"}
LABELLED: Schema = {"$ref": "#/components/schemas/LabelledEvent"}
EVENTS: Schema = {
    "type": "object",
    "description": "What all candidates share, and what each has of its own; context alone is one event.",
    "properties": {"context": FIELDS, "candidates": {"type": "array", "items": FIELDS}},
    "additionalProperties": False,
    "minProperties": 1,
}


def at_most(candidates: int) -> Schema:
    """EVENTS with a limit on its candidates."""
    listed = {"type": "array", "items": FIELDS, "maxItems": candidates}
    return {**EVENTS, "properties": {"context": FIELDS, "candidates": listed}}


MODEL_FACTS: Schema = {
    "type": "object",
    "required": ["version", "rows", "age_seconds"],
    "properties": {
        "version": {"type": "string"},
        "rows": {"type": "integer"},
        "age_seconds": {"type": "number"},
    },
}


def operation(
    summary: str,
    answer: Schema,
    *,
    body: Schema | None = None,
    media: str = JSON,
    body_media: str = JSON,
    errors: tuple[int, ...] = (),
) -> dict[str, Any]:
    """An operation object: what is sent, what is answered, and which errors there may be."""
    found: dict[str, Any] = {"summary": summary}
    if body is not None:
        found["requestBody"] = {"required": True, "content": {body_media: {"schema": body}}}
    responses: dict[str, Any] = {"200": {"description": "The answer", "content": {media: {"schema": answer}}}}
    for status in sorted({*errors, *ALWAYS}):
        responses[str(status)] = {
            "description": _MEANINGS[status],
            "content": {JSON: {"schema": {"$ref": "#/components/schemas/Error"}}},
        }
    return found | {"responses": responses}
