"""A scoring request as typed values: what its context and its candidates hold, field by field.

The meaning of a value is that of :mod:`ftrl_engine.events`, so an event that is scored has
the slots it had when it was learned. One thing is new: a missing value (``null``, an empty
list) of a candidate hides the context's value of that field, so it is kept as MISSING.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np

from ftrl_engine.errors import DataError
from ftrl_engine.events import MAX_DEPTH, MAX_KNOWN_SALTS, Value, float_text
from ftrl_engine.hashing import as_buffer, salt
from ftrl_engine.values import DECIMAL_FORM, FALSE_FORM, INTEGER_FORM, TEXT, TRUE_FORM, WORD
from serving.request_arrays import MISSING, Values

# Salts of longer names are computed again each time: a client must not fill the memory with names.
_LONGEST_KNOWN_NAME = 256
_SHOWN = 80
_KEYS = ("context", "candidates")


class TooLargeError(DataError):
    """The request asks for more than the server's limits allow; ``status`` is that of HTTP."""

    status = 413


class TooManyFieldsError(TooLargeError):
    """One event of the request has more fields or features than are allowed."""

    status = 422


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked: ``candidates`` is None where the context alone is one event."""

    context: dict[str, Any]
    candidates: list[dict[str, Any]] | None

    @property
    def rows(self) -> int:
        return 1 if self.candidates is None else len(self.candidates)


def decode_request(body: bytes, max_candidates: int) -> Request:
    """The request in ``body``; DataError names what is wrong, TooLargeError the limit."""
    try:
        data = _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise DataError(_why_not_json(body, error)) from error
    if type(data) is not dict:
        raise DataError(f"the body must be an object with context and candidates, got {_named(data)}")
    if not data:
        raise DataError("the body must have context, candidates or both, got {}")
    for key in data:
        if key not in _KEYS:
            raise DataError(
                f"unknown key {key[:_SHOWN]!r}; the keys are context and candidates, fields go inside"
            )
    context = data.get("context", {})
    if type(context) is not dict:
        raise DataError(f"context must be an object of fields, got {_named(context)}")
    if "candidates" not in data:
        return Request(context, None)
    candidates = data["candidates"]
    if type(candidates) is not list:
        raise DataError(f"candidates must be a list of objects, got {_named(candidates)}")
    if len(candidates) > max_candidates:
        raise TooLargeError(
            f"{len(candidates)} candidates are more than the {max_candidates} allowed; send several requests"
        )
    for number, candidate in enumerate(candidates):
        if type(candidate) is not dict:
            raise DataError(f"candidates[{number}] must be an object of fields, got {_named(candidate)}")
    return Request(context, candidates)


_decode = msgspec.json.Decoder().decode


def _why_not_json(body: bytes, error: Exception) -> str:
    """Names the field where the fault is a number that is not finite: some programs write NaN."""
    if isinstance(error, RecursionError):
        return "the body is nested too deeply"
    if isinstance(error, UnicodeDecodeError):
        return "the body is not valid UTF-8"
    try:
        # The standard library reads NaN, Infinity and 1e999.
        found = _not_finite(json.loads(body), "", 0)
    except (ValueError, RecursionError):
        found = None
    if found is not None:
        return f"field {found!r}: a number must be finite (JSON has no NaN or infinity)"
    return f"the body is not JSON: {error}"


def _not_finite(value: Any, path: str, depth: int) -> str | None:
    """The field of the first number that is not finite, as a name inside context or a candidate."""
    if isinstance(value, float) and not math.isfinite(value):
        return path
    inside: list[tuple[str, Any]] = []
    if depth <= MAX_DEPTH + 3 and isinstance(value, dict):
        # The first level is context and candidates, which are no part of a field's name.
        inside = [(_join(path, str(key)) if depth else "", item) for key, item in value.items()]
    elif depth <= MAX_DEPTH + 3 and isinstance(value, list):
        inside = [(path, item) for item in value]
    for name, item in inside:
        found = _not_finite(item, name, depth + 1)
        if found is not None:
            return found
    return None


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _named(value: object) -> str:
    """The JSON name of a value's type."""
    names = {dict: "an object", list: "a list", str: "text", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


class FieldSalts:
    """Salts by field name, a bounded number of them remembered."""

    def __init__(self) -> None:
        self._known: dict[str, int] = {}

    def __getitem__(self, field: str) -> int:
        known = self._known.get(field)
        if known is None:
            known = salt(field)
            if len(self._known) < MAX_KNOWN_SALTS and len(field) <= _LONGEST_KNOWN_NAME:
                self._known[field] = known
        return known


class ValueList:
    """Values in the order of the request; ``single`` are fields that cannot be objects."""

    def __init__(self, salts: FieldSalts, single: frozenset[str]) -> None:
        self._salts = salts
        self._single = single
        self._fields: list[str] = []
        self._numbers: dict[str, int] = {}  # of the different fields
        self._keys: list[int] = []
        self._forms: list[int] = []
        self._texts: list[str] = []
        self._ends = [0]

    @classmethod
    def of(cls, request: Request, salts: FieldSalts, single: frozenset[str]) -> ValueList:
        """The context's values, then those of each row."""
        values = cls(salts, single)
        values.end_event(request.context)
        for candidate in ({},) if request.candidates is None else request.candidates:
            values.end_event(candidate)
        return values

    def end_event(self, event: Mapping[str, Any]) -> None:
        """Add all values of one event."""
        self._add_object(event, "", 0)
        self._ends.append(len(self._forms))

    def events(self) -> list[list[Value]]:
        """(field, form, text) of the values of the context, then of each row."""
        values = list(zip(self._fields, self._forms, self._texts, strict=True))
        return [values[lo:hi] for lo, hi in pairwise(self._ends)]

    def check_fields(self, most: int) -> None:
        """TooManyFieldsError where the context or a candidate has more than ``most`` fields."""
        for number, (first, last) in enumerate(pairwise(self._ends), -1):
            count = len(set(self._fields[first:last])) if last - first > most else 0
            if count > most:
                where = "context" if number < 0 else f"candidates[{number}]"
                raise TooManyFieldsError(f"{where} has {count} fields and {most} are allowed; send fewer")

    def arrays(self) -> Values:
        """The values as the kernel reads them."""
        texts = self._texts
        data = "".join(texts).encode("utf-8", "surrogatepass")
        lengths = list(map(len, texts))
        if sum(lengths) != len(data):
            lengths = [len(text.encode("utf-8", "surrogatepass")) for text in texts]
        sizes = np.array(lengths, dtype=np.int64)
        ends = np.cumsum(sizes)
        return Values(
            keys=np.array(self._keys, dtype=np.int64),
            salts=np.array([self._salts[field] for field in self._numbers], dtype=np.uint64),
            forms=np.array(self._forms, dtype=np.int64),
            starts=ends - sizes,
            ends=ends,
            bounds=np.array(self._ends[1:], dtype=np.int64),
            data=as_buffer(data, padding=64),
        )

    def describe(self, index: int) -> tuple[str, str]:
        """(field, value) of one value, for a message."""
        text = self._texts[index]
        return self._fields[index], text if len(text) <= _SHOWN else text[:_SHOWN] + "..."

    def _add_object(self, event: Mapping[str, Any], prefix: str, depth: int) -> None:
        if depth > MAX_DEPTH:
            raise DataError(f"field {prefix[:_SHOWN]!r}: nested more than {MAX_DEPTH} deep")
        for key, value in event.items():
            field = prefix + key if prefix else key
            kind = type(value)
            if kind is str:
                self._add(field, TEXT, value)
            elif kind is int or kind is float or kind is bool:
                self._add(field, *_number(value))
            elif value is None:
                self._add(field, MISSING, "")
            elif kind is list:
                self._add_list(field, value)
            elif field in self._single:
                raise DataError(f"field {field!r}: the schema wants one value or a list, got an object")
            else:
                self._add_object(value, field + ".", depth + 1)

    def _add_list(self, field: str, values: list[Any]) -> None:
        self._add(field, MISSING, "")
        for value in values:
            if type(value) is str:
                self._add(field, WORD, value)
            elif isinstance(value, int | float):
                self._add(field, WORD, _number(value)[1])
            elif value is not None:
                raise DataError(f"field {field!r}: a list may hold text and numbers, not {_named(value)}")

    def _add(self, field: str, form: int, text: str) -> None:
        self._fields.append(field)
        self._keys.append(self._numbers.setdefault(field, len(self._numbers)))
        self._forms.append(form)
        self._texts.append(text)


def _number(value: float) -> tuple[int, str]:
    """Form and text of a number or truth value."""
    if value is True:
        return TRUE_FORM, "true"
    if value is False:
        return FALSE_FORM, "false"
    if type(value) is int:
        return INTEGER_FORM, str(value)
    return DECIMAL_FORM, float_text(value)
