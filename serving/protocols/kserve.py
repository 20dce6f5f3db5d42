"""The Open Inference Protocol, version 2, over REST (KServe, MLServer, Triton).

A tensor is a field. Its first dimension counts events; a tensor of one event is shared by all where
others have more. A second dimension makes a list of values. The data type decides how a value is
read: FP is a decimal, INT and UINT are whole numbers, BYTES is text, BOOL a truth value; null is a
missing value. The answer is one tensor, ``score``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import msgspec

from ftrl_engine import __version__
from serving.http import HttpError, Receive, Response, Scope
from serving.operations import BODY_ERRORS, MODEL_ERRORS, operation
from serving.routes import Route
from serving.service import Service
from serving.translation import check_model, decode, input_fields, request, rows_of_columns

OUTPUT = "score"
_MODEL = "/v2/models/{name}"
_VERSION = _MODEL + "/versions/{version}"
_WHOLE = {f"{kind}{bits}" for kind in ("INT", "UINT") for bits in (8, 16, 32, 64)}
_DECIMAL = {"FP16", "FP32", "FP64"}
_MAX_DIMENSIONS = 2
_NULL = b"null"
_encode = msgspec.json.Encoder().encode


class _Tensor(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    data: list[Any] | None = None
    parameters: dict[str, Any] | None = None


class _Wanted(msgspec.Struct):
    name: str
    parameters: dict[str, Any] | None = None


class _Inference(msgspec.Struct):
    inputs: list[_Tensor]
    id: str | None = None
    parameters: dict[str, Any] | None = None
    outputs: list[_Wanted] | None = None


_inference = msgspec.json.Decoder(_Inference)


class _Column(NamedTuple):
    """A field's values as JSON, one for each event."""

    name: str
    values: list[bytes]


def infer_request(body: bytes, most: int) -> tuple[bytes, str | None]:
    """The body for POST /score of an inference request, and the request's id."""
    asked = decode(_inference, body)
    for wanted in asked.outputs or ():
        if wanted.name != OUTPUT:
            raise HttpError(400, f"there is no output {wanted.name[:80]!r}; there is {OUTPUT!r}")
        if wanted.parameters and wanted.parameters.get("binary_data"):
            raise HttpError(400, f"output {OUTPUT!r}: binary data is not supported; leave binary_data out")
    if not asked.inputs:
        raise HttpError(400, "inputs must hold at least one tensor")
    if len({tensor.name for tensor in asked.inputs}) < len(asked.inputs):
        raise HttpError(400, "two inputs have the same name; every tensor needs its own")
    columns = [_column(tensor) for tensor in asked.inputs]
    events = max(len(column.values) for column in columns)
    shared = [column for column in columns if len(column.values) == 1 < events]
    own = [column for column in columns if len(column.values) != 1 or events == 1]
    for column in own:
        if len(column.values) != events:
            raise HttpError(
                400, f"input {column.name!r} has {len(column.values)} events where others have {events}"
            )
    names = [column.name for column in shared]
    context = rows_of_columns(names, [[column.values[0] for column in shared]], most)[1:-1]
    rows: list[Sequence[bytes]] = list(zip(*(column.values for column in own), strict=True))
    return request(context, rows_of_columns([column.name for column in own], rows, most)), asked.id


def _column(tensor: _Tensor) -> _Column:
    """The tensor as a column; HttpError 400 names it where its shape or a value is wrong."""
    name, shape = tensor.name, tensor.shape
    # No values for any number of events would be work without data.
    if not 1 <= len(shape) <= _MAX_DIMENSIONS or min(shape) < 0 or shape[1:] == [0]:
        raise HttpError(
            400, f"input {name!r}: the shape must be [events] or [events, values], got {shape[:9]}"
        )
    if tensor.data is None:
        raise HttpError(400, f"input {name!r}: data is missing (binary data is not supported)")
    found: list[Any] = []
    _flatten(tensor.data, found, name, 0)
    if len(found) != math.prod(shape):
        raise HttpError(400, f"input {name!r}: {len(found)} values do not fit the shape {shape}")
    write = _writer(tensor)
    texts = [_NULL if value is None else write(value) for value in found]
    width = shape[1] if len(shape) == _MAX_DIMENSIONS else 1
    if width == 1:
        return _Column(name, texts)
    lists = (texts[row * width : (row + 1) * width] for row in range(shape[0]))
    return _Column(name, [b"[" + b",".join(values) + b"]" for values in lists])


def _flatten(data: Any, found: list[Any], name: str, depth: int) -> None:
    if not isinstance(data, list):
        found.append(data)
        return
    if depth > _MAX_DIMENSIONS:
        raise HttpError(400, f"input {name!r}: data is nested deeper than its shape")
    for item in data:
        _flatten(item, found, name, depth + 1)


def _writer(tensor: _Tensor) -> Callable[[Any], bytes]:
    """Writes a value of the tensor's data type as JSON; HttpError 400 where it has another type."""
    kind = tensor.datatype

    def refuse(value: object) -> HttpError:
        return HttpError(400, f"input {tensor.name!r}: {str(value)[:80]!r} is not of type {kind}")

    def text(value: Any) -> bytes:
        if type(value) is not str:
            raise refuse(value)
        return _encode(value)

    def truth(value: Any) -> bytes:
        if type(value) is not bool:
            raise refuse(value)
        return b"true" if value else b"false"

    def whole(value: Any) -> bytes:
        if type(value) is float and value.is_integer():
            value = int(value)
        if type(value) is not int:
            raise refuse(value)
        return str(value).encode()

    def decimal(value: Any) -> bytes:
        if type(value) not in (int, float):
            raise refuse(value)
        try:
            return _encode(float(value))
        except OverflowError as error:
            raise refuse(value) from error

    if kind in _DECIMAL:
        return decimal
    if kind in _WHOLE:
        return whole
    writers = {"BYTES": text, "BOOL": truth}
    if kind not in writers:
        known = ", ".join(sorted({*writers, *_WHOLE, *_DECIMAL}))
        raise HttpError(400, f"input {tensor.name!r}: datatype must be one of {known}, got {kind[:80]!r}")
    return writers[kind]


def routes(service: Service) -> list[Route]:
    async def server(scope: Scope, receive: Receive) -> Response:
        return Response.json({"name": "ftrl-engine", "version": __version__, "extensions": []})

    async def live(scope: Scope, receive: Receive) -> Response:
        return Response.json({"live": True})

    async def ready(scope: Scope, receive: Receive) -> Response:
        service.ready()
        return Response.json({"ready": True})

    async def model_ready(scope: Scope, receive: Receive) -> Response:
        check_model(service, scope)
        service.ready()
        return Response.json({"name": service.name, "ready": True})

    async def model(scope: Scope, receive: Receive) -> Response:
        served = check_model(service, scope)
        fields = input_fields(served.snapshot.schema)
        inputs = [
            {"name": name, "datatype": "FP64" if number else "BYTES", "shape": [-1]}
            for name, number in fields
        ]
        return Response.json(
            {
                "name": service.name,
                "versions": [served.version],
                "platform": "ftrl-engine",
                "inputs": inputs,
                "outputs": [{"name": OUTPUT, "datatype": "FP64", "shape": [-1]}],
            }
        )

    async def infer(scope: Scope, receive: Receive) -> Response:
        body = await service.read(scope, receive)
        started = service.timer()
        if any(name == b"inference-header-content-length" for name, _ in scope["headers"]):
            raise HttpError(400, "binary tensor data is not supported; send the data as JSON")
        served = check_model(service, scope)
        asked, number = infer_request(body, service.max_body)
        scored = service.score(served, asked, "events")
        tensor = {
            "name": OUTPUT,
            "shape": [len(scored.scores)],
            "datatype": "FP64",
            "data": scored.scores,
        }
        answer: dict[str, Any] = {"model_name": service.name, "model_version": served.version}
        if number is not None:
            answer["id"] = number
        response = Response(_encode(answer | {"outputs": [tensor]}))
        service.count(scored, started)
        return response

    found = [
        Route("GET", "/v2", server, _SERVER),
        Route("GET", "/v2/health/live", live, _LIVE),
        Route("GET", "/v2/health/ready", ready, _READY),
    ]
    for path in (_VERSION, _MODEL):
        found += [
            Route("POST", path + "/infer", infer, _INFER),
            Route("GET", path + "/ready", model_ready, _MODEL_READY),
            Route("GET", path, model, _METADATA),
        ]
    return found


_TEXT = {"type": "string"}
_SHAPE = {"type": "array", "items": {"type": "integer"}}
_TENSOR = {
    "type": "object",
    "required": ["name", "shape", "datatype", "data"],
    "properties": {
        "name": _TEXT,
        "shape": {
            "type": "array",
            "items": {"type": "integer", "minimum": 0},
            "minItems": 1,
            "maxItems": _MAX_DIMENSIONS,
        },
        "datatype": {"enum": sorted({"BYTES", "BOOL", *_WHOLE, *_DECIMAL})},
        "parameters": {"type": ["object", "null"]},
        "data": {"type": "array"},
    },
}
_INFERENCE = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "id": {"type": ["string", "null"]},
        "parameters": {"type": ["object", "null"]},
        "inputs": {"type": "array", "items": _TENSOR, "minItems": 1},
        "outputs": {
            "type": ["array", "null"],
            "items": {"type": "object", "required": ["name"], "properties": {"name": {"const": OUTPUT}}},
        },
    },
}
_ANSWER = {
    "type": "object",
    "required": ["model_name", "model_version", "outputs"],
    "properties": {
        "model_name": _TEXT,
        "model_version": _TEXT,
        "id": _TEXT,
        "outputs": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["name", "shape", "datatype", "data"],
                "properties": {
                    "name": _TEXT,
                    "shape": _SHAPE,
                    "datatype": _TEXT,
                    "data": {"type": "array", "items": {"type": "number"}},
                },
            },
        },
    },
}


def _object(*required: str) -> dict[str, Any]:
    return {"type": "object", "required": list(required)}


_SERVER = operation("KServe v2: the server", _object("name", "version", "extensions"))
_LIVE = operation("KServe v2: whether the server is alive", _object("live"))
_READY = operation("KServe v2: whether it has a model", _object("ready"), errors=MODEL_ERRORS)
_MODEL_READY = operation(
    "KServe v2: whether the model is there", _object("name", "ready"), errors=(404, *MODEL_ERRORS)
)
_METADATA = operation(
    "KServe v2: inputs and outputs",
    _object("name", "versions", "platform", "inputs", "outputs"),
    errors=(404, *MODEL_ERRORS),
)
_INFER = operation("KServe v2: scores of events", _ANSWER, body=_INFERENCE, errors=(404, *BODY_ERRORS))
