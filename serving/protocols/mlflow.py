"""The scoring protocol of MLflow models: POST /invocations, and its probes.

A frame comes as ``dataframe_split``, ``dataframe_records``, ``instances``, ``inputs`` or, with the
content type text/csv, as CSV with a header line, whose values are read as those of a CSV file.
"""

from __future__ import annotations

import csv
import io
from typing import Any

import msgspec

from ftrl_engine import __version__
from serving.http import HttpError, Receive, Response, Scope
from serving.operations import BODY_ERRORS, FIELDS, MODEL_ERRORS, operation
from serving.routes import Route
from serving.service import Service
from serving.translation import NOTHING, decode, request, rows_of_columns

_encode = msgspec.json.Encoder().encode


class _Split(msgspec.Struct):
    columns: list[str]
    data: list[list[msgspec.Raw]]


class _Invocation(msgspec.Struct, forbid_unknown_fields=True):
    dataframe_split: _Split | msgspec.UnsetType = msgspec.UNSET
    dataframe_records: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    inputs: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    params: Any = None  # of models that have some; this one has none


_invocation = msgspec.json.Decoder(_Invocation)
_columns = msgspec.json.Decoder(dict[str, list[msgspec.Raw]])


def json_request(body: bytes, most: int) -> bytes:
    """The body for POST /score of a frame in one of MLflow's four forms."""
    asked = decode(_invocation, body)
    given = [
        form
        for form in (asked.dataframe_split, asked.dataframe_records, asked.instances, asked.inputs)
        if not isinstance(form, msgspec.UnsetType)
    ]
    if len(given) != 1:
        raise HttpError(
            400, "the body must have exactly one of dataframe_split, dataframe_records, instances and inputs"
        )
    (form,) = given
    if isinstance(form, _Split):
        return request(NOTHING, rows_of_columns(form.columns, form.data, most))
    text = bytes(form)
    if form is asked.inputs and text[:1] == b"{":
        columns = decode(_columns, text)
        if len({len(values) for values in columns.values()}) > 1:
            raise HttpError(400, "the columns of inputs must have as many values each")
        rows = list(zip(*columns.values(), strict=True))
        return request(NOTHING, rows_of_columns(list(columns), rows, most))
    return request(NOTHING, text)


def csv_request(body: bytes, most: int) -> bytes:
    """The body for POST /score of CSV with a header line; an empty value is a missing one."""
    try:
        lines = csv.reader(io.StringIO(body.decode("utf-8-sig"), newline=""), strict=True)
        names = next(lines, [])
        rows = [[_encode(text) for text in line] for line in lines if line]
    except UnicodeDecodeError as error:
        raise HttpError(400, "the body is not valid UTF-8") from error
    except csv.Error as error:
        raise HttpError(400, f"the body is not CSV: {error}") from error
    if not names:
        raise HttpError(400, "the body must begin with a header line that names the columns")
    return request(NOTHING, rows_of_columns(names, rows, most))


def _media_type(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"content-type":
            return bytes(value).partition(b";")[0].strip().lower().decode("latin-1")
    return "application/json"


def routes(service: Service) -> list[Route]:
    async def invocations(scope: Scope, receive: Receive) -> Response:
        body = await service.read(scope, receive)
        started = service.timer()
        media = _media_type(scope)
        if media not in ("application/json", "text/csv"):
            raise HttpError(415, f"content-type must be application/json or text/csv, got {media[:80]!r}")
        translate = csv_request if media == "text/csv" else json_request
        served = service.served()
        scored = service.score(served, translate(body, service.max_body), "rows")
        service.count(scored, started)
        return Response(_encode({"predictions": scored.scores}))

    async def ping(scope: Scope, receive: Receive) -> Response:
        service.ready()
        return Response.json({})

    async def version(scope: Scope, receive: Receive) -> Response:
        return Response(__version__.encode(), content_type="text/plain; charset=utf-8")

    return [
        Route("POST", "/invocations", invocations, _INVOCATIONS),
        Route("GET", "/ping", ping, _PING),
        Route("GET", "/health", ping, _PING),
        Route("GET", "/version", version, _VERSION),
    ]


_RECORDS = {"type": "array", "items": FIELDS}
_FRAME = {
    "type": "object",
    "required": ["columns", "data"],
    "properties": {
        "columns": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "data": {"type": "array", "items": {"type": "array"}},
    },
}
_COLUMNS = {"type": "object", "additionalProperties": {"type": "array"}}
_FORMS = {
    "dataframe_split": _FRAME,
    "dataframe_records": _RECORDS,
    "instances": _RECORDS,
    "inputs": {"anyOf": [_RECORDS, _COLUMNS]},
}
_INVOCATIONS = operation(
    "MLflow: the score of each row of a frame",
    {
        "type": "object",
        "required": ["predictions"],
        "properties": {"predictions": {"type": "array", "items": {"type": "number"}}},
    },
    body={
        "oneOf": [
            {
                "type": "object",
                "required": [name],
                "properties": {name: form, "params": {}},
                "additionalProperties": False,
            }
            for name, form in _FORMS.items()
        ]
    },
    errors=BODY_ERRORS,
)
_PING = operation("MLflow: whether there is a model", {"type": "object"}, errors=MODEL_ERRORS)
_VERSION = operation("The version of this program", {"type": "string"}, media="text/plain")
