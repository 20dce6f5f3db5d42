"""GET /openapi.json: every route of the application, its requests, answers and errors (OpenAPI 3.1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from ftrl_engine import __version__
from ftrl_engine.plan import AUTO, NUMBER, TOKEN, TOKENS, planned_fields
from ftrl_engine.schema import LABEL_NAMES, Schema
from ftrl_engine.sink import MAX_VALUE
from serving.access_token import is_open
from serving.http import Receive, Response, Scope
from serving.operations import ERROR, VALUES, operation
from serving.page import load_files
from serving.routes import Route
from serving.service import Service
from serving.store import Served

_PART = re.compile(r"\{(\w+)\}")
_NUMERAL = r"^([+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]{1,2})?)?$"
# A number may come as text, and a missing one as an empty list.
_NUMBER = {
    "anyOf": [
        {"type": ["number", "null"]},
        {"type": "string", "pattern": _NUMERAL},
        {"type": "array", "items": {"type": "null"}},
    ]
}
_ANYTHING = {"anyOf": [*VALUES["anyOf"], {"$ref": "#/components/schemas/Object"}]}
_OBJECT = {"type": "object", "additionalProperties": _ANYTHING}


def document(routes: Iterable[Route], name: str, served: Served | None, secured: bool) -> dict[str, Any]:
    """The OpenAPI document of the routes.

    name    of the model, for the paths that hold one
    served  the model, whose schema says what its fields hold; None where there is none yet
    secured whether clients must show a token
    """
    schema = None if served is None else served.snapshot.schema
    versions = [] if served is None else [served.version, str(served.snapshot.rows)]
    values = {"name": [name], "version": versions, "file": sorted(load_files())}
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        entry = paths.setdefault(route.path, {})
        guard: dict[str, Any] = {"security": [{"token": []}]} if secured and not is_open(route.path) else {}
        entry[route.method.lower()] = {"operationId": _identity(route), **route.operation, **guard}
        parts = _PART.findall(route.path)
        if parts:
            entry["parameters"] = [_parameter(part, values[part]) for part in parts]
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "ftrl-engine",
            "version": __version__,
            "description": "Scores of a sparse linear model that goes on learning. Values of a field mean "
            "what they meant when the model learned them; unknown fields are ignored and counted.",
        },
        "paths": paths,
        "components": {
            "schemas": {
                "Error": ERROR,
                "Fields": _fields(schema),
                "LabelledEvent": _labelled(schema),
                "Object": _OBJECT,
            },
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}} if secured else {},
        },
    }


def routes(service: Service, others: Iterable[Route], secured: bool = False) -> list[Route]:
    """The route that describes ``others`` and itself."""
    known = list(others)

    async def describe(scope: Scope, receive: Receive) -> Response:
        return Response.json(document(known, service.name, service.store.current, secured))

    answer = {"type": "object", "required": ["openapi", "info", "paths"]}
    known.append(Route("GET", "/openapi.json", describe, operation("This document", answer)))
    return known[-1:]


def _identity(route: Route) -> str:
    """A name of its own for each route: "post_v2_models_name_infer"."""
    return "_".join([route.method.lower(), *re.findall(r"\w+", route.path)])


def _parameter(part: str, values: list[str]) -> Mapping[str, Any]:
    what = {
        "name": "The model: the name of its directory",
        "version": "What is served, or its rows",
        "file": "A file of the page",
    }
    schema = {"type": "string", "minLength": 1} | ({"enum": values} if values else {})
    return {"name": part, "in": "path", "required": True, "description": what[part], "schema": schema}


def _fields(schema: Schema | None) -> dict[str, Any]:
    """What an event may hold: anything under names that the schema does not know."""
    properties: dict[str, Any] = {}
    named = set() if schema is None else {field.name for field in schema.fields}
    for field, kind in () if schema is None else planned_fields(schema):
        if kind == NUMBER:
            properties[field.name] = _NUMBER
        elif kind in (TOKEN, TOKENS):
            properties[field.name] = VALUES
        elif kind == AUTO and field.name in named:
            properties[field.name] = _ANYTHING
    return {
        "type": "object",
        "description": "The fields of an event: text, numbers, truth values, and lists of them. Objects "
        "are flattened with dots. null, an empty text and an empty list are missing values.",
        "properties": properties,
        "additionalProperties": _ANYTHING,
    }


def _labelled(schema: Schema | None) -> dict[str, Any]:
    """An event that can be learned from: the fields, and the label."""
    if schema is None:
        return _fields(None)
    known = _fields(schema)
    label: Any = {"enum": [0, 1, True, False, "0", "1"]}
    if schema.label_at_least is not None:
        label = {"type": "number", "description": f"the label is 1 from {schema.label_at_least} on"}
    names = LABEL_NAMES if schema.label is None else (schema.label,)
    properties = known["properties"] | dict.fromkeys(names, label)
    if schema.weight is not None:
        properties[schema.weight] = {"type": ["number", "null"], "minimum": 0, "maximum": MAX_VALUE}
    found = known | {"properties": properties}
    if all("." not in name for name in names):
        # A dotted name leads into objects, which JSON Schema has no short word for.
        found["oneOf"] = [{"required": [name]} for name in names]
    return found
