"""Feedback: from the body of a request to the records of a stream.

A record is the event as it came, on one line. Its id stands in front as a key without a value,
``"feedback_id:ID": null``, because a missing value is a feature under no schema, and so the stream
itself tells which ids it holds. The field ``id`` is left out unless the schema names it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import msgspec
import xxhash

from ftrl_engine.errors import DataError
from ftrl_engine.plan import SKIP, planned_fields
from ftrl_engine.rows import MAX_VALUE
from ftrl_engine.schema import LABEL_NAMES, Schema
from serving.request_values import TooLargeError
from streams.source import MAX_RECORD_BYTES

ID_FIELD = "id"
ID_KEY = "feedback_id:"
MAX_ID_BYTES = 256
_ID_START = b'{"' + ID_KEY.encode()
_LINE_ENDS = bytes.maketrans(b"\r\n", b"  ")

Event = dict[str, msgspec.Raw]


@dataclass(frozen=True, slots=True)
class Record:
    """One labelled event.

    line   its bytes in the stream, the newline included
    key    what tells its id apart, 16 bytes; None: it has no id
    label  0 or 1
    """

    line: bytes
    key: bytes | None
    label: float


@dataclass(frozen=True, slots=True)
class Feedback:
    """The events of one request; ``request`` asks the scorer for their scores, and so checks them."""

    records: list[Record]
    request: bytes
    single: bool


class FeedbackReader:
    """Reads bodies by one schema."""

    def __init__(self, schema: Schema) -> None:
        self._labels = (schema.label,) if schema.label is not None else LABEL_NAMES
        self._at_least = schema.label_at_least
        self._weight = schema.weight
        kinds = {field.name: kind for field, kind in planned_fields(schema)}
        # Where the schema says that the field is a feature, it is no id.
        self._has_id = kinds.get(ID_FIELD, SKIP) == SKIP
        self._keeps_id = ID_FIELD in kinds

    def read(self, body: bytes) -> Feedback:
        """The events in ``body``: one, or ``{"events": [...]}``; DataError names the field that is wrong."""
        events, single = _decode(body)
        records, texts = [], []
        for number, event in enumerate(events):
            where = "" if single else f" of events[{number}]"
            label = self._label(event, where)
            self._check_weight(event, where)
            found = self._take_id(event, where)
            if found is not None:
                event = {ID_KEY + found: _NULL, **event}
            text = msgspec.json.encode(event)
            if len(text) >= MAX_RECORD_BYTES:
                raise TooLargeError(f"the event{where} has more than {MAX_RECORD_BYTES} bytes")
            texts.append(text)
            records.append(
                Record(text.translate(_LINE_ENDS) + b"\n", None if found is None else key_of(found), label)
            )
        request = (
            b'{"context":' + texts[0] + b"}" if single else b'{"candidates":[' + b",".join(texts) + b"]}"
        )
        return Feedback(records, request, single)

    def _label(self, event: Event, where: str) -> float:
        found = [(name, value) for name in self._labels if (value := _value(event, name)) not in (None, "")]
        names = " or ".join(map(repr, self._labels))
        if not found:
            raise DataError(f"the label{where} is missing: give field {names}")
        if len(found) > 1:
            raise DataError(f"fields {found[0][0]!r} and {found[1][0]!r}{where}: an event has one label")
        name, value = found[0]
        if self._at_least is not None:
            if type(value) not in (int, float) or not math.isfinite(value):
                raise DataError(f"field {name!r}{where}: the label must be a finite number, got {value!r}")
            return 1.0 if value >= self._at_least else 0.0
        if value in ("0", "1") or (type(value) in (int, float, bool) and value in (0, 1)):
            return float(value)
        raise DataError(f"field {name!r}{where}: the label must be 0 or 1, got {_shown(value)}")

    def _check_weight(self, event: Event, where: str) -> None:
        value = None if self._weight is None else _value(event, self._weight)
        if value is None:
            return
        if type(value) not in (int, float) or not 0 <= value <= MAX_VALUE:
            raise DataError(
                f"field {self._weight!r}{where}: the importance must be a number from 0 to {MAX_VALUE:g}, "
                f"got {_shown(value)}"
            )

    def _take_id(self, event: Event, where: str) -> str | None:
        """The event's id; the field leaves the event where the schema would make it a feature."""
        if not self._has_id or ID_FIELD not in event:
            return None
        value = _plain(event[ID_FIELD] if self._keeps_id else event.pop(ID_FIELD))
        if value is None:
            return None
        text = str(value) if type(value) is int else value
        if not isinstance(text, str) or not 0 < len(text.encode("utf-8", "surrogatepass")) <= MAX_ID_BYTES:
            raise DataError(
                f"field {ID_FIELD!r}{where}: an id is text of 1 to {MAX_ID_BYTES} bytes or a whole number, "
                f"got {_shown(value)}"
            )
        return text


def key_of(found: str) -> bytes:
    """What tells an id apart: 128 bits of it, so that a window of them has a known size."""
    return xxhash.xxh3_128_digest(found.encode("utf-8", "surrogatepass"))


def key_in(line: bytes) -> bytes | None:
    """The key of a record's id; None where it has none."""
    if not line.startswith(_ID_START):
        return None
    try:
        name = next(iter(_decode_event(line)))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    return key_of(name[len(ID_KEY) :])


_NULL = msgspec.Raw(b"null")
_decode_event = msgspec.json.Decoder(Event).decode
_decode_events = msgspec.json.Decoder(list[Event]).decode
_decode_value = msgspec.json.Decoder().decode


def _decode(body: bytes) -> tuple[list[Event], bool]:
    """(events, whether it is one alone)."""
    try:
        event = _decode_event(body)
        if "events" not in event:
            if not event:
                raise DataError('the body must be an event or {"events": [...]}, got {}')
            return [event], True
        if len(event) > 1:
            other = next(name for name in event if name != "events")
            raise DataError(f"unknown key {other[:80]!r} beside 'events'; fields go inside the events")
        events = _decode_events(event["events"])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f'the body must be an event or {{"events": [...]}}: {error}') from error
    if not events:
        raise DataError("events must not be empty")
    return events, False


def _plain(raw: msgspec.Raw) -> Any:
    try:
        return _decode_value(raw)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(f"the body is not JSON: {error}") from error


def _value(event: Event, name: str) -> Any:
    """The value of a field, whose name may lead into objects: ``outcome.click``; None where there is none."""
    if name in event:
        return _plain(event[name])
    first, dot, rest = name.partition(".")
    while dot:
        if first in event:
            inside = _plain(event[first])
            for part in rest.split("."):
                inside = inside.get(part) if isinstance(inside, dict) else None
            return inside
        more, dot, rest = rest.partition(".")
        first = f"{first}.{more}"
    return None


def _shown(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."
