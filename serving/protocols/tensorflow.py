"""The REST API of TensorFlow Serving: regress, classify, predict, status, metadata.

``regress`` and ``classify`` take a ``context`` that all ``examples`` share, as POST /score does;
``predict`` takes ``instances`` (rows) or ``inputs`` (columns). A feature of an example hides the
context's. The version of a model is the number of events it has learned.
"""

from __future__ import annotations

from typing import Any

import msgspec

from serving.http import HttpError, Receive, Response, Scope
from serving.operations import BODY_ERRORS, FIELDS, MODEL_ERRORS, operation
from serving.routes import Route
from serving.scorer import Scored
from serving.service import Service
from serving.translation import NOTHING, check_model, decode, input_fields, request, rows_of_columns

_MODEL = "/v1/models/{name}"
_VERSION = _MODEL + "/versions/{version}"


class _Examples(msgspec.Struct, forbid_unknown_fields=True):
    examples: msgspec.Raw
    context: msgspec.Raw = msgspec.Raw(NOTHING)
    signature_name: str | None = None


class _Tensors(msgspec.Struct, forbid_unknown_fields=True):
    instances: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    inputs: dict[str, list[msgspec.Raw]] | msgspec.UnsetType = msgspec.UNSET
    signature_name: str | None = None


_examples = msgspec.json.Decoder(_Examples)
_tensors = msgspec.json.Decoder(_Tensors)
_encode = msgspec.json.Encoder().encode


def regress_request(body: bytes) -> bytes:
    """The body for POST /score of ``{"context": {...}, "examples": [{...}, ...]}``."""
    asked = decode(_examples, body)
    return request(asked.context, asked.examples)


def predict_request(body: bytes, most: int) -> tuple[bytes, str]:
    """The body for POST /score of ``instances`` or ``inputs``, and the key of the answer."""
    asked = decode(_tensors, body)
    if (asked.instances is msgspec.UNSET) == (asked.inputs is msgspec.UNSET):
        raise HttpError(400, "the body must have either instances or inputs")
    if not isinstance(asked.inputs, msgspec.UnsetType):
        columns = asked.inputs
        lengths = {name: len(values) for name, values in columns.items()}
        if len(set(lengths.values())) > 1:
            raise HttpError(400, f"inputs must have as many values each, got {lengths}"[:500])
        rows = list(zip(*columns.values(), strict=True))
        return request(NOTHING, rows_of_columns(list(columns), rows, most)), "outputs"
    assert not isinstance(asked.instances, msgspec.UnsetType)
    return request(NOTHING, asked.instances), "predictions"


def routes(service: Service) -> list[Route]:
    def score(served: Any, body: bytes, rows: str) -> Scored:
        started = service.timer()
        scored = service.score(served, body, rows)
        service.count(scored, started)
        return scored

    async def regress(scope: Scope, receive: Receive) -> Response:
        body = await service.read(scope, receive)
        scored = score(check_model(service, scope), regress_request(body), "examples")
        return Response(_encode({"results": scored.scores}))

    async def classify(scope: Scope, receive: Receive) -> Response:
        body = await service.read(scope, receive)
        scored = score(check_model(service, scope), regress_request(body), "examples")
        return Response(_encode({"results": [[("0", 1.0 - p), ("1", p)] for p in scored.scores]}))

    async def predict(scope: Scope, receive: Receive) -> Response:
        body = await service.read(scope, receive)
        served = check_model(service, scope)
        asked, key = predict_request(body, service.max_body)
        return Response(_encode({key: score(served, asked, "instances").scores}))

    async def status(scope: Scope, receive: Receive) -> Response:
        served = check_model(service, scope)
        state = {
            "version": str(served.snapshot.rows),
            "state": "AVAILABLE",
            "status": {"error_code": "OK", "error_message": ""},
        }
        return Response.json({"model_version_status": [state]})

    async def metadata(scope: Scope, receive: Receive) -> Response:
        served = check_model(service, scope)
        inputs = {
            name: _tensor(name, "DT_DOUBLE" if number else "DT_STRING")
            for name, number in input_fields(served.snapshot.schema)
        }
        signature = {
            "inputs": inputs,
            "outputs": {"score": _tensor("score", "DT_DOUBLE")},
            "method_name": "tensorflow/serving/predict",
        }
        return Response.json(
            {
                "model_spec": {
                    "name": service.name,
                    "signature_name": "",
                    "version": str(served.snapshot.rows),
                },
                "metadata": {"signature_def": {"signature_def": {"serving_default": signature}}},
            }
        )

    found: list[Route] = []
    for path in (_VERSION, _MODEL):
        # Verbs first: a model's name may hold a colon.
        found += [
            Route("POST", path + ":regress", regress, _REGRESS),
            Route("POST", path + ":classify", classify, _CLASSIFY),
            Route("POST", path + ":predict", predict, _PREDICT),
            Route("GET", path + "/metadata", metadata, _METADATA),
            Route("GET", path, status, _STATUS),
        ]
    return found


def _tensor(name: str, dtype: str) -> dict[str, Any]:
    shape = {"dim": [{"size": "-1", "name": ""}], "unknown_rank": False}
    return {"dtype": dtype, "tensor_shape": shape, "name": name}


_NUMBERS = {"type": "array", "items": {"type": "number"}}
_SIGNATURE = {"type": ["string", "null"]}
_EXAMPLES = {
    "type": "object",
    "required": ["examples"],
    "properties": {
        "context": FIELDS,
        "examples": {"type": "array", "items": FIELDS},
        "signature_name": _SIGNATURE,
    },
    "additionalProperties": False,
}
_ROWS = {
    "type": "object",
    "required": ["instances"],
    "properties": {"instances": {"type": "array", "items": FIELDS}, "signature_name": _SIGNATURE},
    "additionalProperties": False,
}
_COLUMNS = {
    "type": "object",
    "required": ["inputs"],
    "properties": {
        "inputs": {"type": "object", "additionalProperties": {"type": "array"}},
        "signature_name": _SIGNATURE,
    },
    "additionalProperties": False,
}
_CLASSES = {
    "type": "array",
    "items": {"type": "array", "items": {"type": "array", "minItems": 2, "maxItems": 2}},
}
_ERRORS = (404, *BODY_ERRORS)


def _answer(*keys: str, values: Any = _NUMBERS) -> dict[str, Any]:
    return {"type": "object", "properties": dict.fromkeys(keys, values), "minProperties": 1}


_REGRESS = operation(
    "TensorFlow Serving: the score of each example", _answer("results"), body=_EXAMPLES, errors=_ERRORS
)
_CLASSIFY = operation(
    "TensorFlow Serving: both classes of each example",
    _answer("results", values=_CLASSES),
    body=_EXAMPLES,
    errors=_ERRORS,
)
_PREDICT = operation(
    "TensorFlow Serving: scores of rows or columns",
    _answer("predictions", "outputs"),
    body={"oneOf": [_ROWS, _COLUMNS]},
    errors=_ERRORS,
)
_STATUS = operation(
    "TensorFlow Serving: which version is available",
    {"type": "object", "required": ["model_version_status"]},
    errors=(404, *MODEL_ERRORS),
)
_METADATA = operation(
    "TensorFlow Serving: inputs and outputs",
    {"type": "object", "required": ["model_spec", "metadata"]},
    errors=(404, *MODEL_ERRORS),
)
