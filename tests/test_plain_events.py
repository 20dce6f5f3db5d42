"""Events by way of their JSON: the same rows as value by value, for anything a mapping may hold."""

from __future__ import annotations

import datetime
import decimal
import enum
import math
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from itertools import pairwise
from types import MappingProxyType
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ftrl_engine import Batch, FeatureHasher, Schema
from ftrl_engine.errors import DataError
from ftrl_engine.plain_events import MAX_TEXT, PlainEvents

BITS = 20
NAMED = Schema.from_toml("""
label = "click"
weight = "importance"
ignore = ["id"]
crosses = [["user", "item"]]
[fields]
user = { kind = "token" }
item = { kind = "token", missing = "feature" }
tags = { kind = "tokens", separator = "|" }
price = { kind = "number", transform = "log_bucket" }
amount = { kind = "number", missing = "feature", transform = "log1p" }
depth = { bins = [1, 2.5, 10] }
""")
SCHEMAS = [NAMED, Schema(), Schema.load("criteo")]


class Colour(str, enum.Enum):  # noqa: UP042 - whose str() is not its text
    RED = "red"


class Level(enum.IntEnum):
    HIGH = 3


class Name(str): ...


FIELDS = ["user", "item", "tags", "price", "amount", "depth", "click", "importance", "id", "I1", "C1"]
names: st.SearchStrategy[Any] = st.one_of(
    st.sampled_from(FIELDS),
    st.sampled_from(["other", "", "ünknown", "a.b", 'q"', "null", "x" * 64, "x" * 65]),
    st.sampled_from([7, 1.5, None, True, Colour.RED, Name("user"), datetime.date(2026, 1, 2), b"b"]),
    st.text(max_size=4),
)
numbers = st.one_of(
    st.integers(-(10**20), 10**20),
    st.floats(),
    st.sampled_from([0, 1, -0.0, 5.0, 1e300, 1e-300, 0.1, 2**53 + 1, 1 << 70, math.inf, math.nan, 10**4301]),
)
texts = st.one_of(
    st.sampled_from(["u1", "a|b||a", "", "3.5", "7", "1e3", "null", "x" * 40, 'q"\\\n', "é", "\ud800", "\0"]),
    st.text(max_size=9),
)
scalars: st.SearchStrategy[Any] = st.one_of(texts, numbers, st.booleans(), st.none())
strange: st.SearchStrategy[Any] = st.sampled_from(
    [
        b"bytes", bytearray(b"b"), Colour.RED, Level.HIGH, Name("u1"), datetime.datetime(2026, 1, 2),
        uuid.UUID(int=7), decimal.Decimal("1.5"), np.float64(2.5), np.int64(3), np.bool_(True),
        np.array([1, 2]), object(), {1, 2}, frozenset({"a"}), ("a", 1), {"b": "c"}, {"b": {"c": 1}},
        [["a"]], [{"a": 1}], [math.nan], [b"a"], [None], [2.5, "a"],
    ]
)  # fmt: skip
held = st.one_of(scalars, scalars, st.lists(scalars, max_size=4), strange)
events = st.one_of(
    st.dictionaries(st.sampled_from(FIELDS), st.sampled_from(["u1", "a|b", 1, 0])),
    st.dictionaries(names, held, max_size=6),
)  # fmt: skip


def rows(batch: Batch) -> tuple[Any, ...]:
    parts = batch.indptr, batch.slots, batch.labels, batch.importance, batch.valued
    bounds = pairwise(batch.indptr.tolist())
    values = [
        batch.raw_values[lo:hi].tobytes() for (lo, hi), v in zip(bounds, batch.valued, strict=True) if v
    ]
    return (*(None if part is None else part.tobytes() for part in parts), values)


def outcome(hasher: FeatureHasher, given_events: list[Mapping[str, Any]]) -> Any:
    try:
        return rows(hasher.transform(given_events))
    except DataError as error:
        return str(error)


def value_by_value(schema: Schema, given_events: list[Mapping[str, Any]]) -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PlainEvents, "add", lambda *anything: False)
        return outcome(FeatureHasher(schema, BITS), given_events)


HASHERS = {schema.name: (schema, FeatureHasher(schema, BITS)) for schema in SCHEMAS}


@given(st.lists(events, min_size=1, max_size=4), st.sampled_from(sorted(HASHERS)))
@example([{"price": math.nan, "user": None}], NAMED.name)
@example([{"price": math.inf}], NAMED.name)
@example([{"tags": [math.nan, "a"]}], "auto")
@example([{"user": "null", "price": 2.5}], NAMED.name)
@example([{1: "a", "1": "b"}], "auto")
@example([{"user": 10**4301}], "auto")
def test_the_same_rows_as_value_by_value(given_events: list[Any], name: str) -> None:
    schema, hasher = HASHERS[name]
    assert outcome(hasher, given_events) == value_by_value(schema, given_events)


PLAIN: list[Any] = [
    {"click": 1, "user": "u", "item": "i", "price": 3.5, "other": True, "tags": ["a", 7]},
    {"click": 0, "user": "üser", "amount": -2, "none": None, "empty": "", "C1": "68fd1e64", "I1": 2},
    {f"field {number}": str(number) for number in range(800)},
]
CAREFUL: list[Any] = [
    {"user": "a tab\t"},
    {"user": 2.5},
    {"other": {"nested": 1}},
    {"other": {1, 2}},
    {7: "a key that is no text"},
    {"price": 2.5, "none": None},
    {"user": "u" * (MAX_TEXT + 1)},
    {f"field {number}": 1 for number in range(2000)},
    OrderedDict(user="u"),
    MappingProxyType({"user": "u"}),
]


def no_careful_way(*anything: object, **more: object) -> None:
    raise AssertionError("this event needs no careful look")


@pytest.mark.parametrize("event", PLAIN, ids=range(len(PLAIN)))
def test_plain_events_take_the_short_way(event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    want = value_by_value(NAMED, [event])
    monkeypatch.setattr("ftrl_engine.events.EventEncoder.add", no_careful_way)
    hasher = FeatureHasher(NAMED, BITS)
    assert rows(hasher.transform([event])) == want
    assert rows(hasher.transform([event] * 100))[1] == want[1] * 100


@pytest.mark.parametrize("event", CAREFUL, ids=range(len(CAREFUL)))
def test_others_take_the_careful_one(event: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    hasher = FeatureHasher(NAMED, BITS)
    assert outcome(hasher, [event, PLAIN[0]]) == value_by_value(NAMED, [event, PLAIN[0]])
    monkeypatch.setattr("ftrl_engine.events.EventEncoder.add", no_careful_way)
    with pytest.raises(AssertionError, match="careful"):
        hasher.transform([event])


def test_ever_new_keys_are_forgotten_again() -> None:
    """More keys than are remembered, over many events."""
    hasher = FeatureHasher(NAMED, BITS)
    for start in range(0, 6000, 600):
        event = {f"key {number}": "v" for number in range(start, start + 600)}
        assert outcome(hasher, [event]) == value_by_value(NAMED, [event])


def test_a_refused_event_is_named() -> None:
    hasher = FeatureHasher(NAMED, BITS)
    for _ in range(2):
        with pytest.raises(DataError, match=r"^event 1: a number must be finite"):
            hasher.transform([{"price": 1}, {"price": "dear"}])
    assert rows(hasher.transform([{"price": 1}])) == value_by_value(NAMED, [{"price": 1}])
