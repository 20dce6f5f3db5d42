"""Names of features: what a person reads, with the slots and values of the compiled encoders."""

from __future__ import annotations

import gc
import math
import weakref
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from bench.inputs import criteo_text
from ftrl_engine import FeatureHasher, Schema
from ftrl_engine.errors import DataError
from ftrl_engine.naming import Feature, FeatureNamer
from ftrl_engine.numbers import log_bucket
from streams.codecs.base import open_codec
from tests.blocks import make_block
from tests.codec_lines import NUMBERS, OTHER_TEXTS, SCHEMA, check_names

BITS = 12
CLOSED = Schema.from_dict(
    {
        "others": "ignore",
        "label": {"field": "stars", "at_least": 4},
        "crosses": [["user", "price"], ["price", "raw"]],
        "fields": {
            "user": {"kind": "tokens", "separator": "|", "missing": "feature"},
            "price": {"kind": "auto", "missing": "feature"},
            "raw": {"kind": "number", "missing": "feature"},
        },
    }
)
NO_CROSSES = Schema.from_dict(
    {
        "fields": {
            "user": {"kind": "token", "missing": "feature"},
            "item": {"kind": "token"},
            "tags": {"kind": "tokens", "separator": ",", "missing": "feature"},
            "price": {"kind": "number", "missing": "feature"},
        },
    }
)
SCHEMAS = {"open": SCHEMA, "closed": CLOSED, "auto": Schema(), "no crosses": NO_CROSSES}

floats = st.floats(allow_nan=False, allow_infinity=False)
texts = st.sampled_from((*NUMBERS, *OTHER_TEXTS)) | st.text(
    st.characters(exclude_categories=["Cs"]), max_size=6
)
scalars = st.none() | st.booleans() | st.integers(-(10**20), 10**20) | floats | texts
values = scalars | st.lists(scalars, max_size=4)
names = st.sampled_from(
    [
        "user",
        "item",
        "tags",
        "price",
        "age",
        "income",
        "raw",
        "other",
        "id",
        "when",
        "w",
        "click",
        "a",
        "ü",
        "",
    ]
)
events = st.dictionaries(
    names, values | st.dictionaries(st.sampled_from(["user", "x", ""]), values, max_size=3), max_size=8
)


@pytest.mark.parametrize("schema", SCHEMAS)
@given(event=events)
@example(event={"price": 2.0000000000000004, "raw": -0.0, "age": 18, "income": -5e-324})
@example(event={"user": ["u", "u", None, 2.5], "item": "u", "tags": "a,b,,a"})
def test_slots_and_values_are_those_of_the_encoder(schema: str, event: dict[str, Any]) -> None:
    one = SCHEMAS[schema]
    try:
        batch = FeatureHasher(one, BITS).transform([event])
    except DataError:
        assume(False)
    row = list(zip(batch.slots.tolist(), batch.values.tolist(), strict=True))
    namer = FeatureNamer(one, BITS)
    features = namer.of_event(event)
    check_names(features, row)
    only = {slot for slot, _ in row[::2]}
    assert namer.of_event(event, only) == [feature for feature in features if feature.slot in only]
    assert namer.of_event(event, ()) == []
    for place, (slot, _) in enumerate(row):
        for _, name in namer.near(namer.values(event), [(slot, place)]) or ():
            assert name in {feature.name for feature in features if feature.slot == slot}


def test_a_number_that_is_no_feature_gives_no_name() -> None:
    """Its value is 0, and a feature beside it has the slot that it would have."""
    namer = FeatureNamer(Schema.from_dict({"fields": {"x": {"kind": "number"}}}), 12)
    event = {"x": 0, "u": "u4312"}
    (feature,) = namer.of_event(event)
    assert FeatureNamer(namer.schema, 12).of_event({"x": 1})[0].slot == feature.slot
    assert namer.near(namer.values(event), [(feature.slot, 0)]) == [(feature.slot, "u=u4312")]


@pytest.mark.parametrize("form", ["tsv", "jsonl"])
def test_a_feature_is_found_by_its_place(form: str) -> None:
    """Whatever stands before it and is none: labels, missing values, fields without features."""
    codec = open_codec(form, Schema.load("criteo"), BITS)
    block = make_block(criteo_text(3, form, 0, 50).splitlines())
    (part,) = codec.encode(block)
    for record in range(50):
        features = codec.features(block, record)
        slots = part.batch.rows(record, record + 1).slots.tolist()
        assert len(slots) > 30
        for place, slot in enumerate(slots):
            names = codec.names_near(block, record, [(slot, place)])
            assert names is not None
            assert set(names) <= {(feature.slot, feature.name) for feature in features}
        assert codec.names_near(block, record, [(slots[0], 0), (1 << BITS, 1)]) is None


@given(floats)
@example(1.7976931348623157e308)
@example(-1.7976931348623157e308)
@example(5e-324)
def test_a_number_lies_in_the_interval_it_is_named_by(x: float) -> None:
    schema = Schema.from_dict({"fields": {"f": {"kind": "number", "transform": "log_bucket"}}})
    (feature,) = FeatureNamer(schema, 31).of_event({"f": x})
    if "~" in feature.name:
        assert float(feature.name.removeprefix("f~")) == x
        return
    low, high = (float(edge) for edge in feature.name.removeprefix("f in ")[1:-1].split(", "))
    # Edges are shown with five digits.
    slack = 1e-4 * abs(x) + 1e-323
    assert low - slack <= x <= high + slack
    assert feature.name[5] == ("[" if x > 0 else "(")


@given(floats, floats)
def test_numbers_share_a_name_where_they_share_a_bucket(x: float, y: float) -> None:
    """Up to sizes whose buckets are narrower than five digits tell."""
    assume(max(abs(x), abs(y)) < 1e50)
    schema = Schema.from_dict({"fields": {"f": {"kind": "number", "transform": "log_bucket"}}})
    one, other = (FeatureNamer(schema, 31).of_event({"f": number})[0].name for number in (x, y))
    assert (one == other) == (log_bucket(x) == log_bucket(y))


def test_names() -> None:
    event = {
        "user": "u7",
        "item": "i3",
        "tags": "a,b",
        "price": 15,
        "age": 20,
        "income": 1000,
        "raw": 2.5,
        "other": "x",
        "nested": {"deep": True},
        "click": 1,
        "id": "z",
    }
    found = {feature.name: feature for feature in FeatureNamer(SCHEMA, 22).of_event(event)}
    assert list(found) == [
        "user=u7",
        "item=i3",
        "tags=a",
        "tags=b",
        "price in [14.094, 16.919)",
        "age in [18, 30.25)",
        "income~log1p",
        "raw",
        "other=x",
        "nested.deep=true",
        "user*item=u7*i3",
        "tags*user=a*u7",
        "tags*user=b*u7",
        "user*tags*item=u7*a*i3",
        "user*tags*item=u7*b*i3",
        "raw*other=number*x",
    ]
    slot = FeatureHasher(SCHEMA, 22).slot("user", "u7")
    assert found["user=u7"] == Feature("user=u7", ("user",), slot, 1.0)
    assert found["raw"].value == 2.5
    assert found["income~log1p"].value == math.log1p(1000)
    assert found["user*tags*item=u7*b*i3"].fields == ("user", "tags", "item")
    assert found["raw*other=number*x"].value == 2.5


def test_names_of_what_is_missing_and_of_open_intervals() -> None:
    namer = FeatureNamer(SCHEMA, 22)
    assert [feature.name for feature in namer.of_event({"click": 0})] == ["tags is missing", "age is missing"]
    shown = [namer.of_event({"age": age, "price": price}) for age, price in ((-2, -15), (31, 0.3), (0, -2))]
    assert [[feature.name for feature in features][:2] for features in shown] == [
        ["age in (-inf, -1.5)", "price in (-16.919, -14.094]"],
        ["age in [30.25, inf)", "price in [0.25, 0.35355)"],
        ["age in [0, 18)", "price~-2"],
    ]


def test_a_repeat_is_one_feature() -> None:
    features = FeatureNamer(Schema(), 22).of_event({"a": ["x", "x", "y"]})
    assert [(feature.name, feature.value) for feature in features] == [("a=x", 2.0), ("a=y", 1.0)]


@pytest.mark.parametrize("event", [{"raw": "dear"}, {"price": "nan"}, {"age": True}, {"item": "\ud800"}, 7])
def test_what_has_no_meaning_has_no_name(event: Any) -> None:
    with pytest.raises(DataError):
        FeatureNamer(SCHEMA, 22).of_event(event)


def test_every_format_names_its_columns() -> None:
    """The law that names have the slots of rows stands in codec_lines.rows_of, for every line tested."""
    from streams.codecs.base import open_codec

    def shown(format_name: str, line: bytes, header: bytes | None = None, **how: Any) -> list[str]:
        codec = open_codec(format_name, Schema(), 22, **how)
        block = make_block([line], header=header)
        list(codec.encode(block))
        return [feature.name for feature in codec.features(block, 0)]

    assert shown("jsonl", b'{"label": 1, "a": "x", "b": {"c": 2.5}}') == ["a=x", "b.c in [2, 2.7183)"]
    assert shown("csv", b'1,"x,""y""",2', b"label,a,b") == ['a=x,"y"', "b=2"]
    assert shown("tsv", b"x\t\t1", b"a\tb\tlabel") == ["a=x"]
    assert shown("libsvm", b"1 7:0.5 qid:3 9 # no") == ["7", "9"]
    assert shown("vw", b"1 2.0 'tag|user:2 u7:3 old |item i3") == ["user=u7", "user=old", "item=i3"]
    codec = open_codec("tsv", Schema(columns=("label", "a", "b")), 22, need_label=False)
    block = make_block([b"x\ty"])
    list(codec.encode(block))
    assert [feature.name for feature in codec.features(block, 0)] == ["a=x", "b=y"]


def test_what_is_remembered_is_short_and_goes_with_the_namer() -> None:
    """A server makes a namer for each model and asks it about whatever a client sends."""
    namer = FeatureNamer(Schema(), 22)
    event = {"a": "x", "long": "y" * 100, "n" * 100: "z"}
    first = namer.of_event(event)
    assert namer.of_event(event) == first
    assert namer._recent.cache_info().currsize == 1
    gone = weakref.ref(namer)
    gc.disable()
    try:
        del namer
        assert gone() is None
    finally:
        gc.enable()
