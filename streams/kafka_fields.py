"""The key, timestamp and headers of a message as fields of its events, where the schema names them.

``_key`` is the key as text, ``_timestamp`` milliseconds since 1970, ``_header.NAME`` the last
header of that name. They are written into the events before these are encoded, so every format's
codec and the schema treat them like any other field:

json    before the other fields of the object
tsv, csv  as further columns, in the order in which the schema's ``columns`` end with them
vw      as further namespaces

What is missing is left out (json, vw) or an empty column.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence

from ftrl_engine.errors import ConfigError
from ftrl_engine.schema import Schema
from streams.kafka_client import Details

KEY, TIMESTAMP, HEADER = "_key", "_timestamp", "_header."

Values = Sequence[str | None]
Splice = Callable[[bytes, Sequence[str], Values], bytes]


def message_fields(schema: Schema) -> tuple[str, ...]:
    """The fields of messages that ``schema`` names, each once, in the order of its columns first."""
    named = [*schema.columns, schema.label, schema.timestamp, schema.weight]
    named += [field.name for field in schema.fields] + [part for cross in schema.crosses for part in cross]
    found = dict.fromkeys(name for name in named if name and _is_message_field(name))
    return tuple(found)


def _is_message_field(name: str) -> bool:
    return name in (KEY, TIMESTAMP) or name.startswith(HEADER)


def with_fields(
    values: Iterable[bytes], details: Iterable[Details], fields: Sequence[str], format: str
) -> list[bytes]:
    """The messages with the fields in each of their events; raises ConfigError for other formats."""
    splice = _SPLICES.get(format)
    if splice is None:
        raise ConfigError(
            f"{', '.join(fields)}: the key, timestamp and headers of messages cannot be fields of "
            f"{format} events; use one of {', '.join(_SPLICES)}"
        )
    return [
        b"\n".join(splice(line, fields, found) if line.strip() else line for line in value.split(b"\n"))
        for value, each in zip(values, details, strict=True)
        for found in ([_value(name, each) for name in fields],)
    ]


def _value(name: str, details: Details) -> str | None:
    if name == TIMESTAMP:
        return str(details.timestamp) if details.timestamp >= 0 else None
    if name == KEY:
        return _text(details.key)
    wanted = name.removeprefix(HEADER)
    found = [value for header, value in details.headers if header == wanted]
    return _text(found[-1]) if found else None


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "backslashreplace")


def _into_json(line: bytes, fields: Sequence[str], values: Values) -> bytes:
    body = line.lstrip()
    if not body.startswith(b"{"):
        return line  # refused by the codec as it is
    given = {
        name: int(value) if name == TIMESTAMP else value
        for name, value in zip(fields, values, strict=True)
        if value is not None
    }
    if not given:
        return line
    rest = body[1:].lstrip()
    comma = b"" if rest.startswith(b"}") else b","
    return json.dumps(given, ensure_ascii=False).encode()[:-1] + comma + rest


def _into_columns(separator: str) -> Splice:
    def splice(line: bytes, fields: Sequence[str], values: Values) -> bytes:
        clean = ["" if value is None else _one_column(value, separator) for value in values]
        return line.removesuffix(b"\r") + (separator + separator.join(clean)).encode()

    return splice


def _one_column(value: str, separator: str) -> str:
    if separator == ",":
        quoted = value.replace('"', '""').replace("\n", " ").replace("\r", " ")
        return f'"{quoted}"' if any(mark in value for mark in ',"\n\r') else value
    return value.replace("\t", " ").replace("\n", " ").replace("\r", " ")


def _into_vw(line: bytes, fields: Sequence[str], values: Values) -> bytes:
    parts = [
        f" |{name} {_one_word(value)}"
        for name, value in zip(fields, values, strict=True)
        if value is not None
    ]
    return line.removesuffix(b"\r") + "".join(parts).encode()


def _one_word(value: str) -> str:
    return "".join("_" if mark in " \t\n\r|:" else mark for mark in value) or "_"


_SPLICES: dict[str, Splice] = {
    "jsonl": _into_json,
    "tsv": _into_columns("\t"),
    "csv": _into_columns(","),
    "vw": _into_vw,
}
