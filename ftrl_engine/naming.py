"""The features of one event by name, in plain Python: what was hashed, for a person to read.

A name says where a feature comes from:

    user=u7                       a token
    age in [18, 30.25)            a bin
    price in [14.094, 16.919)     a bucket of ``log_bucket``; price~2 one of its whole numbers
    price, income~log1p           a number that is its feature's value
    user*item=u7*i3               a cross
    user is missing               the absence of a value

The rules are those of :mod:`ftrl_engine.rows`, so a feature has the slot and the value that the
compiled encoders give it. An event that they refuse has no features; what is returned for one
means nothing, or DataError is raised.
"""

from __future__ import annotations

import math
import re
import sys
from bisect import bisect_right
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from functools import lru_cache, partial
from itertools import product
from typing import Any, NamedTuple

import xxhash

from ftrl_engine.errors import DataError
from ftrl_engine.events import Value, flatten
from ftrl_engine.hashing import check_bits
from ftrl_engine.plan import (
    AUTO,
    LABEL,
    NUMBER,
    SKIP,
    TOKEN,
    TOKENS,
    UNKNOWN,
    WEIGHT,
    cross_name,
    planned_fields,
)
from ftrl_engine.schema import Field, Schema
from ftrl_engine.sink import MAX_ROW_FEATURES
from ftrl_engine.values import DECIMAL_FORM, TEXT

_NUMBER = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", re.ASCII)
# A point or a signed exponent; 12e7 is rather an identifier.
_DECIMAL = re.compile(r"[+-]?(\d+\.\d*|\.\d+|\d+(?=[eE][+-]))([eE][+-]?\d+)?", re.ASCII)
_KNOWN_BUCKETS = 4096
# Values that are remembered, and how long one may be with the name of its field.
_RECENT_VALUES, _SHORT_TEXT = 4096, 64
_KNOWN_FIELDS = 1024
# Values looked at for a feature whose place among the others is known: labels and the like stand between.
_NEAR = 6
# That of the largest float64, whose interval ends beyond it.
_LAST_BUCKET = 3 + math.floor(math.log(sys.float_info.max) ** 2)


class Feature(NamedTuple):
    """One feature of an event: its name, the fields it comes from, its slot and its value."""

    name: str
    fields: tuple[str, ...]
    slot: int
    value: float


class TooManyFeaturesError(DataError):
    """More features than the caller wants to hear of."""


class Cell(NamedTuple):
    """A value of a field; ``part`` stands for it in the name of a cross."""

    field: str
    name: str
    part: str
    hash: int
    value: float


class FeatureNamer:
    """Lists the features of events by one schema at 2**bits slots.

    Where ``only`` is given, features of other slots are left out, most of them before they are made.
    """

    def __init__(self, schema: Schema, bits: int) -> None:
        self.schema = schema
        self._shift = 64 - check_bits(bits)
        self._fields = {
            field.name: (field, kind, _salt(field.name)) for field, kind in planned_fields(schema)
        }
        self._others = AUTO if schema.others == "auto" else SKIP
        self._missing = [_missing_cell(field.name) for field in schema.fields if field.missing == "feature"]
        self._missing_at = {cell.hash >> self._shift: cell for cell in self._missing}
        self._cells = partial(_cells_of, self._fields, self._others)
        # Most values of a log have been met a moment ago.
        self._recent = lru_cache(_RECENT_VALUES)(self._cells)
        self._known_about = lru_cache(_KNOWN_FIELDS)(partial(_about, self._fields, self._others))

    def of_event(self, event: Mapping[str, Any], only: Container[int] | None = None) -> list[Feature]:
        """The features of a mapping, as :class:`ftrl_engine.hasher.FeatureHasher` takes it."""
        return self.of_values(self.values(event), only)

    def values(self, event: Mapping[str, Any]) -> Iterator[Value]:
        """The values of a mapping that may be features."""
        return flatten(event, self._skips)

    def of_values(self, values: Iterable[Value], only: Container[int] | None = None) -> list[Feature]:
        """The features of (field, form, text), as :func:`ftrl_engine.events.flatten` gives them."""
        if only is not None and not self.schema.crosses:
            return self._of_slots(values, only)
        return _kept(self.features(self.cells(values)), only)

    def of_tokens(
        self, tokens: Iterable[tuple[str, str, float]], only: Container[int] | None = None
    ) -> list[Feature]:
        """The features of (field, token, value): formats whose tokens have values of their own."""
        cells = [
            _token(field, salt, text, x)
            for field, text, x in tokens
            for _, kind, salt in [self._known_about(field)]
            if kind != SKIP
        ]
        return _kept(self.features(cells), only)

    def cells(self, values: Iterable[Value], limit: int = MAX_ROW_FEATURES) -> list[Cell]:
        """What the values stand for, before crosses; TooManyFeaturesError where it is more than ``limit``."""
        found: list[Cell] = []
        for field, form, text in values:
            short = len(field) + len(text) <= _SHORT_TEXT
            found += self._recent(field, form, text) if short else self._cells(field, form, text)
            if len(found) > limit:
                raise TooManyFeaturesError(f"more than {limit} features")
        return found

    def features(self, cells: Sequence[Cell], limit: int = MAX_ROW_FEATURES) -> list[Feature]:
        """The features of an event with these cells: with crosses and missing values, repeats added up.

        TooManyFeaturesError where they are more than ``limit``, repeats counted.
        """
        return self._added_up(self._all(cells), limit)

    def near(
        self, values: Iterable[Value], wanted: Iterable[tuple[int, int]]
    ) -> list[tuple[int, str]] | None:
        """(slot, name) of each (slot, place) wanted, whose feature is about the ``place``-th of the event.

        None where one of them is not there: that takes a look at all features, as :meth:`of_values` does.
        """
        if self.schema.crosses:
            return None
        given = [value for value in values if value[2]]
        found = []
        for slot, place in wanted:
            name = self._near(given, slot, place)
            if name is None:
                return None
            found.append((slot, name))
        return found

    def _near(self, given: Sequence[Value], slot: int, place: int) -> str | None:
        for value in given[place : place + _NEAR]:
            for cell in self._cells_in(value, slot):
                return cell.name
        missing = self._missing_at.get(slot)
        if missing is not None and all(field != missing.field for field, _, _ in given):
            return missing.name
        return None

    def _cells_in(self, value: Value, slot: int) -> Iterator[Cell]:
        """The features of the value in this slot; a token of another slot costs its hash alone."""
        field, _, text = value
        salt = self._token_salt(value)
        if salt is None:
            cells = (cell for cell in self.cells((value,)) if cell.hash >> self._shift == slot)
            yield from (cell for cell in cells if cell.value != 0.0)
        elif _hash_text(field, text, salt) >> self._shift == slot:
            yield _token(field, salt, text)

    def _token_salt(self, value: Value) -> int | None:
        """The salt of the field whose value is one token, as it stands; None where it is something else."""
        field, form, text = value
        _, kind, salt = self._known_about(field)
        token = kind == TOKEN or (kind == AUTO and not _is_decimal_value(form, text))
        return salt if token else None

    def _of_slots(self, values: Iterable[Value], only: Container[int]) -> list[Feature]:
        """As :meth:`of_values`, where there are no crosses: a token of another slot costs its hash alone."""
        found: list[Cell] = []
        given = set()
        shift = self._shift
        for value in values:
            field, _, text = value
            salt = self._token_salt(value)
            if salt is None:
                cells = self.cells((value,))
                if cells:
                    found += cells
                    given.add(field)
            elif text:
                given.add(field)
                if _hash_text(field, text, salt) >> shift in only:
                    found.append(_token(field, salt, text))
        found += [cell for cell in self._missing if cell.field not in given]
        wanted = ((cell, (cell.field,)) for cell in found if cell.hash >> shift in only)
        return self._added_up(wanted, MAX_ROW_FEATURES)

    def _added_up(self, cells: Iterable[tuple[Cell, tuple[str, ...]]], limit: int) -> list[Feature]:
        found: dict[int, Feature] = {}
        for number, (cell, fields) in enumerate(cells):
            if number == limit:
                raise TooManyFeaturesError(f"more than {limit} features")
            known = found.get(cell.hash)
            if known is not None:
                found[cell.hash] = known._replace(value=known.value + cell.value)
            elif cell.value != 0.0:
                found[cell.hash] = Feature(cell.name, fields, cell.hash >> self._shift, cell.value)
        return list(found.values())

    def _all(self, cells: Sequence[Cell]) -> Iterator[tuple[Cell, tuple[str, ...]]]:
        """Every cell of an event, and the fields it comes from."""
        for cell in cells:
            yield cell, (cell.field,)
        for cross in self.schema.crosses:
            for cell in _combinations(cross, cells):
                yield cell, cross
        given = {cell.field for cell in cells} if self._missing else set()
        for cell in self._missing:
            if cell.field not in given:
                yield cell, (cell.field,)

    def _skips(self, field: str, whole: bool) -> bool:
        known = self._fields.get(field)
        return (known[1] if known else UNKNOWN if whole else self._others) == SKIP


def _kept(features: list[Feature], only: Container[int] | None) -> list[Feature]:
    return features if only is None else [feature for feature in features if feature.slot in only]


def _about(fields: Mapping[str, tuple[Field, int, int]], others: int, field: str) -> tuple[Field, int, int]:
    """The field, its kind and its salt; one that is none of ``fields`` has the kind ``others``."""
    return fields.get(field) or (Field(field), others, _salt(field))


def _is_decimal_value(form: int, text: str) -> bool:
    """Whether such a value in a field of kind ``auto`` is a number."""
    return form == DECIMAL_FORM or (form == TEXT and is_decimal(text))


def _cells_of(
    fields: Mapping[str, tuple[Field, int, int]], others: int, field: str, form: int, text: str
) -> tuple[Cell, ...]:
    """What a value of a field stands for; a field that is none of ``fields`` has the kind ``others``."""
    about, kind, salt = _about(fields, others, field)
    if text == "" or kind in (SKIP, LABEL, WEIGHT):
        return ()
    if kind == AUTO:
        kind = NUMBER if _is_decimal_value(form, text) else AUTO
    if kind == NUMBER:
        return (_number_cell(about, salt, _number(field, text)),)
    if kind == TOKENS and form == TEXT:
        return tuple(_token(field, salt, part) for part in text.split(about.separator) if part)
    return (_token(field, salt, text),)


def number_of(text: str) -> float:
    """The number that ``text`` is, which may be infinite; NaN where it is none."""
    return float(text) if _NUMBER.fullmatch(text) else math.nan


def is_decimal(text: str) -> bool:
    """Whether text in a field of kind ``auto`` is read as a number."""
    return _DECIMAL.fullmatch(text) is not None


def _hash(data: bytes, seed: int) -> int:
    return xxhash.xxh64_intdigest(data, seed)


def _salt(field: str) -> int:
    return _hash_text(field, field, 0)


def _hash_text(field: str, text: str, seed: int) -> int:
    """That of its UTF-8."""
    try:
        return xxhash.xxh64_intdigest(text.encode(), seed)
    except UnicodeEncodeError as error:
        raise DataError(f"field {field!r}: {text!r} holds half of a surrogate pair") from error


def _word(number: int) -> bytes:
    """Eight little-endian bytes, two's complement."""
    return (number & 0xFFFF_FFFF_FFFF_FFFF).to_bytes(8, "little")


def _token(field: str, salt: int, text: str, value: float = 1.0) -> Cell:
    name = f"{field}={text}" if field else text
    return Cell(field, name, text, _hash_text(field, text, salt), value)


def _missing_cell(field: str) -> Cell:
    return Cell(field, f"{field} is missing", "", _hash(b"", _salt(field)), 1.0)


def _number(field: str, text: str) -> float:
    """The finite number that ``text`` is; DataError where it is none."""
    x = number_of(text)
    if not math.isfinite(x):
        raise DataError(f"field {field!r} must be a finite number, got {text[:80]!r}")
    return x


def _number_cell(about: Field, salt: int, x: float) -> Cell:
    name = about.name
    transform = about.transform if about.kind == "number" else "log_bucket"
    if transform == "log_bucket":
        bucket, part = _log_bucket(x)
        # Whole numbers have buckets of their own, and no interval.
        shown = f"{name} in {part}" if part[-1] in ")]" else f"{name}~{part}"
        return Cell(name, shown, part, _hash(_word(bucket), salt), 1.0)
    if transform == "bins":
        bucket = bisect_right(about.edges, x)
        edges = (-math.inf, *about.edges, math.inf)
        part = f"{'[' if bucket else '('}{edges[bucket]:g}, {edges[bucket + 1]:g})"
        return Cell(name, f"{name} in {part}", part, _hash(_word(bucket), salt), 1.0)
    h = _hash(_word(0), salt)
    if transform == "log1p":
        return Cell(name, f"{name}~log1p", "log1p", h, math.copysign(math.log1p(abs(x)), x))
    return Cell(name, name, "number", h, x)


def _log_bucket(x: float) -> tuple[int, str]:
    """The bucket of :func:`ftrl_engine.numbers.log_bucket`, and the numbers in it as text."""
    size = abs(x)
    if size <= 2.0 and size == math.floor(size):
        return (int(size) if x >= 0 else -int(size) - 1_000_000), f"{int(x)}"
    if size > 2.0:
        root = math.log(size)
        bucket = 3 + math.floor(root * root)
    else:
        bucket = -10 + math.floor(2.0 * math.log2(size))
    if x >= 0:
        return bucket, _interval(bucket, False)
    return (-bucket - 1_000_000 if size > 2.0 else bucket - 4096), _interval(bucket, True)


@lru_cache(_KNOWN_BUCKETS)
def _interval(bucket: int, negative: bool) -> str:
    """The interval of a bucket of sizes: 3 and up are floor(ln(size)^2), others floor(2 log2(size))."""
    if bucket >= 3:
        low, high = max(2.0, math.exp(math.sqrt(bucket - 3))), math.inf
        if bucket < _LAST_BUCKET:
            high = math.exp(math.sqrt(bucket - 2))
    else:
        low, high = 2.0 ** ((bucket + 10) / 2), 2.0 ** ((bucket + 11) / 2)
    return f"(-{high:.5g}, -{low:.5g}]" if negative else f"[{low:.5g}, {high:.5g})"


def _combinations(cross: tuple[str, ...], cells: Sequence[Cell]) -> Iterator[Cell]:
    """Every combination of the cells of the cross's fields, the last field's changing fastest."""
    members = [[cell for cell in cells if cell.field == name] for name in cross]
    joined = cross_name(cross)
    salt = _salt(joined)
    for combination in product(*members):
        h, value = salt, 1.0
        for cell in combination:
            h = _hash(_word(cell.hash), h)
            value *= cell.value
        name = f"{joined}={'*'.join(cell.part for cell in combination)}"
        yield Cell("", name, "", h, value)
