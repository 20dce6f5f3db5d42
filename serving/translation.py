"""From the requests of other protocols to that of POST /score, so that there is one way to a score.

Values stay the JSON text they came as: 5 and 5.0, or a number of thirty digits, mean the same in
every protocol.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import msgspec

from ftrl_engine.plan import AUTO, NUMBER, TOKEN, TOKENS, planned_fields
from ftrl_engine.schema import Schema
from serving.http import HttpError, Scope
from serving.service import Service
from serving.store import Served

Wanted = TypeVar("Wanted")

NOTHING = b"{}"


def decode(decoder: msgspec.json.Decoder[Wanted], body: bytes) -> Wanted:
    """The body as the decoder wants it; HttpError 400 says what is wrong with it."""
    try:
        return decoder.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise HttpError(400, f"the body is not a request of this protocol: {error}") from error
    except RecursionError as error:
        raise HttpError(400, "the body is nested too deeply") from error


def request(context: bytes | msgspec.Raw, candidates: bytes | msgspec.Raw) -> bytes:
    """The body for POST /score of a JSON object and a JSON list of objects."""
    return b'{"context":%b,"candidates":%b}' % (bytes(context), bytes(candidates))


def rows_of_columns(names: Sequence[str], rows: Sequence[Sequence[bytes | msgspec.Raw]], most: int) -> bytes:
    """A JSON list of objects: each row holds a JSON value for each of the names.

    The names are repeated in every object, so HttpError 413 where that makes more than ``most`` bytes.
    """
    if len(set(names)) < len(names):
        raise HttpError(400, f"column {_repeated(names)!r} stands twice; every column needs its own name")
    for number, row in enumerate(rows):
        if len(row) != len(names):
            raise HttpError(400, f"row {number} has {len(row)} values for {len(names)} columns")
    keys = [msgspec.json.encode(name) + b":" for name in names]
    size = sum(map(len, keys)) * len(rows) + sum(len(bytes(value)) for row in rows for value in row)
    if size > most:
        raise HttpError(413, f"{len(rows)} rows are {size} bytes as events, more than {most}; send fewer")
    objects = (b",".join(key + bytes(value) for key, value in zip(keys, row, strict=True)) for row in rows)
    return b"[" + b",".join(b"{" + one + b"}" for one in objects) + b"]"


def check_model(service: Service, scope: Scope) -> Served:
    """The served model, if it is the one of the path; HttpError 404 where it is another."""
    names = scope["path_params"]
    if names["name"] != service.name:
        raise HttpError(404, f"there is no model {names['name'][:80]!r} here; there is {service.name!r}")
    served = service.served()
    version = names.get("version")
    if version is not None and version not in (served.version, str(served.snapshot.rows)):
        raise HttpError(
            404, f"version {version[:80]!r} of {service.name!r} is not served; {served.version!r} is"
        )
    return served


def input_fields(schema: Schema) -> list[tuple[str, bool]]:
    """(name, whether it holds numbers) of the fields of events that the schema names."""
    kinds = (TOKEN, TOKENS, NUMBER, AUTO)
    return [(field.name, kind == NUMBER) for field, kind in planned_fields(schema) if kind in kinds]


def _repeated(names: Sequence[str]) -> Any:
    return next(name for i, name in enumerate(names) if name in names[:i])
