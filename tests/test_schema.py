"""Schemas: their TOML form, what is refused, and the plans kernels read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import FeatureHasher, Schema
from ftrl_engine.errors import ConfigError
from ftrl_engine.hashing import salt
from ftrl_engine.plan import AUTO, KIND, LABEL, SKIP, UNKNOWN, WEIGHT, find_field, make_plan, planned_fields
from ftrl_engine.schema import LABEL_NAMES, Field, built_in

names = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
edges = st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=5, unique=True)
missing = st.sampled_from([{}, {"missing": "ignore"}, {"missing": "feature"}])
options = st.one_of(
    st.sampled_from([{"kind": "token"}, {"kind": "auto"}, {"kind": "number"}, {"kind": "tokens"}]),
    st.sampled_from(["none", "log1p", "log_bucket"]).map(lambda name: {"kind": "number", "transform": name}),
    edges.map(lambda numbers: {"kind": "number", "bins": sorted(numbers)}),
    st.characters(max_codepoint=127).map(lambda text: {"kind": "tokens", "separator": text}),
)


@st.composite
def schemas(draw: st.DrawFn) -> Schema:
    """Schemas in which no field has two meanings."""
    unused = draw(st.lists(names, min_size=6, max_size=14, unique=True))
    data: dict[str, Any] = {
        "name": draw(names),
        "fields": {name: draw(options) | draw(missing) for name in unused[6:]},
    }
    for key, name in zip(("label", "timestamp", "weight"), unused, strict=False):
        if draw(st.booleans()):
            data[key] = name
    if "label" in data and draw(st.booleans()):
        data["label"] = {"field": data["label"], "at_least": draw(st.floats(-5, 5))}
    data["ignore"] = unused[3:4]
    features = [unused[4], unused[5], *data["fields"]]
    data["crosses"] = draw(
        st.lists(st.lists(st.sampled_from(features), min_size=2, max_size=4, unique=True), max_size=3)
    )
    data["columns"] = draw(st.permutations(unused)) if draw(st.booleans()) else []
    data["others"] = draw(st.sampled_from(["auto", "ignore"]))
    return Schema.from_dict(data)


@given(schemas())
def test_toml_gives_the_schema_back(schema: Schema) -> None:
    assert Schema.from_dict(schema.to_dict()) == schema
    assert Schema.from_toml(tomli_w.dumps(schema.to_dict()), "other") == schema


@given(schemas(), st.text(max_size=5))
def test_the_plan_finds_every_field(schema: Schema, other: str) -> None:
    plan = make_plan(schema, 22)
    fields = [field.name for field, _ in planned_fields(schema)]
    assert [find_field(plan, plan.salts[i]) for i in range(len(fields))] == list(range(len(fields)))
    assert [int(one) for one in plan.salts] == [salt(name) for name in fields]
    if other not in fields:
        assert find_field(plan, make_plan(Schema(label=other), 22).salts[0]) == UNKNOWN


def kinds(schema: Schema) -> dict[str, int]:
    """The kind of every planned field."""
    table = make_plan(schema, 22).fields
    return {field.name: int(table[i, KIND]) for i, (field, _) in enumerate(planned_fields(schema))}


def test_kinds_of_special_fields() -> None:
    assert kinds(Schema()) == dict.fromkeys(LABEL_NAMES, LABEL)
    found = kinds(Schema(label="l", weight="w", timestamp="t", ignore=("i",), columns=("l", "c", "t")))
    assert found == {"l": LABEL, "w": WEIGHT, "t": SKIP, "i": SKIP, "c": AUTO}
    # The usual names of labels are features where the schema says so, or names another label.
    assert kinds(Schema(fields=(Field("y", "token"),)))["y"] != LABEL
    assert "y" not in kinds(Schema(label="l"))


def test_crossed_fields_are_read_even_where_others_are_ignored() -> None:
    schema = Schema(label="l", crosses=(("a", "b"),), columns=("l", "a", "b", "c"), others="ignore")
    assert kinds(schema) == {"l": LABEL, "a": AUTO, "b": AUTO, "c": SKIP}
    assert len(FeatureHasher(schema).transform([{"a": "x", "b": "y", "c": "z"}]).slots) == 3


def test_built_in_schemas() -> None:
    assert {"auto", "avazu", "criteo", "libsvm", "movielens", "vw"} <= set(built_in())
    for name in built_in():
        schema = Schema.load(name)
        assert schema.name == name
        assert Schema.from_dict(schema.to_dict()) == schema
    assert Schema.load("criteo").columns == (
        "label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27))
    )  # fmt: skip
    movielens = Schema.load("movielens")
    assert (movielens.label, movielens.label_at_least, movielens.timestamp) == ("rating", 4.0, "time")


def test_load_takes_names_and_paths(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('label = "y"\n[fields]\nx = { bins = [1, 2.5] }\n', encoding="utf-8")
    schema = Schema.load(path)
    assert (schema.name, schema.label, schema.fields) == (
        "mine",
        "y",
        (Field("x", "number", ",", "bins", (1.0, 2.5)),),
    )
    with pytest.raises(ConfigError, match=r"'nothing': neither a file nor .* auto, avazu, .*criteo"):
        Schema.load("nothing")
    path.write_text("label = 3", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"mine.toml: label must be text, got 3"):
        Schema.load(path)
    path.write_bytes(b"label = '\xff'")
    with pytest.raises(ConfigError, match=r"mine.toml: .*utf-8"):
        Schema.load(path)


REFUSED: list[tuple[str, str]] = [
    ("lable = 'y'", "unknown key 'lable'; known are columns, crosses"),
    ("label_at_least = 4", "unknown key 'label_at_least'"),
    ("label = { at_least = 4 }", "label.field must be text, got None"),
    ("label = { field = 'y' }", "label.at_least must be a finite number, got None"),
    ("label = { field = 'y', at_least = nan }", "label.at_least must be a finite number, got nan"),
    ("label = { field = 'y', atleast = 4 }", "label: unknown key 'atleast'"),
    ("ignore = 'id'", "ignore must be a list of field names, got 'id'"),
    ("columns = ['a', 1]", "columns must be text, got 1"),
    ("columns = ['a', 'a']", "field 'a' stands twice in columns"),
    ("label = 'a'\nweight = 'a'", "field 'a' is given two meanings"),
    ("ignore = ['a']\n[fields]\na = { kind = 'token' }", "field 'a' is given two meanings"),
    ("others = 'drop'", "others must be auto or ignore, got 'drop'"),
    ("crosses = 'a'", "crosses must be a list of lists"),
    ("crosses = [['a']]", "cross .'a'.: a cross joins 2 to 8 different fields"),
    ("crosses = [['a', 'a']]", "a cross joins 2 to 8 different fields"),
    ("label = 'a'\ncrosses = [['a', 'b']]", "'a' is not a feature of this schema"),
    ("fields = 3", "fields must be a table"),
    ("[fields]\na = 'token'", "field 'a': must be a table"),
    (
        "[fields]\na = { kind = 'tokan' }",
        "field 'a': kind must be one of token, tokens, number, auto, got 'tokan'",
    ),
    ("[fields]\na = { kid = 'token' }", "field 'a': unknown key 'kid'"),
    ("[fields]\na = { kind = 'token', separator = ';' }", "separator belongs to kind tokens"),
    ("[fields]\na = { kind = 'tokens', separator = 'é' }", "separator must be one byte, got 'é'"),
    ("[fields]\na = { transform = 'log1p' }", "transform and bins belong to kind number, not auto"),
    (
        "[fields]\na = { kind = 'number', transform = 'log2' }",
        "transform must be one of none, log1p, log_bucket",
    ),
    ("[fields]\na = { kind = 'number', transform = 'bins' }", "give the edges"),
    ("[fields]\na = { bins = [1, 2], transform = 'none' }", "give either transform or bins"),
    ("[fields]\na = { bins = [2, 1] }", "bins must be finite and strictly rising, got .2.0, 1.0."),
    ("[fields]\na = { bins = [] }", "bins must be finite and strictly rising"),
    ("[fields]\na = { bins = ['1'] }", "bins must be a finite number, got '1'"),
    ("[fields]\na = { bins = 3 }", "bins must be a list of numbers, got 3"),
    ("[fields]\na = { missing = 'no' }", "missing must be ignore or feature, got 'no'"),
    ("label =", "is not valid TOML"),
]


@pytest.mark.parametrize(("text", "message"), REFUSED)
def test_mistakes_are_refused_by_name(text: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schema.from_toml(text)


def test_feature_hasher_refuses_what_has_no_meaning() -> None:
    hasher = FeatureHasher(Schema(fields=(Field("n", "number"),)))
    for event, message in [
        ({"n": float("nan")}, "event 1: a number must be finite"),
        ({"x": b"bytes"}, "event 1: field 'x': a value must be text, a number or a truth value"),
        ({"x": "\ud800"}, "event 1: field 'x': .*surrogate"),
        ({"\ud800": "x"}, "event 1: field '.ud800'"),
        ({"n": 10**5000}, "event 1: field 'n': an integer of more than 4300 digits"),
        ({"x": [[1]]}, "event 1: field 'x': a list may hold text and numbers, not list"),
        ({"click": 2}, "event 1: the label must be 0 or 1"),
        ([1], "event 1: an event must be an object of fields, got list"),
    ]:
        events: list[Any] = [{"x": 1}, event]
        with pytest.raises(ValueError, match=message):
            hasher.transform(events)


def test_feature_hasher_takes_lists_of_any_length() -> None:
    """Far more features than the events have fields."""
    events = [{"click": i % 2, "a": [f"{i}-{j}" for j in range(20_000)]} for i in range(12)]
    batch = FeatureHasher(Schema(), 31).transform(events)
    assert (len(batch), batch.labels is not None) == (12, True)
    assert len(batch.slots) > 12 * 19_990
    for i in (0, 11):
        alone = FeatureHasher(Schema(), 31).transform([events[i]])
        assert batch.rows(i, i + 1).slots.tolist() == alone.slots.tolist()
