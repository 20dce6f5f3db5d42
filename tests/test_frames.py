"""pandas frames give the slots of the other ways in."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import Batch, FeatureHasher, Schema, frames
from ftrl_engine.errors import DataError
from ftrl_engine.schema import Field
from streams.codecs.base import open_codec
from tests.blocks import make_block
from tests.codec_lines import BITS, SCHEMA

# Each row of a frame is one event: every kind of field, and what pandas makes of the types.
texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0\r\n"), max_size=8)
decimals = st.floats(-1e6, 1e6) | st.sampled_from([0.0, -0.0, 1.5, 1e-9, 1e15])
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "click": st.sampled_from([0, 1]),
    "w": st.sampled_from([0.0, 1.0, 2.5]),
    "when": st.just(pd.Timestamp("2024-01-01")),
    "id": st.integers(),
    "user": st.none() | texts,
    "item": st.integers(-5, 2**40),
    "tags": st.none() | st.lists(texts | st.integers(0, 9), max_size=4),
    "price": decimals,
    "age": st.integers(-3, 100),
    "income": st.none() | st.integers(-100, 10**6),
    "raw": decimals,
    "other": st.booleans() | texts | decimals | st.integers(0, 3) | st.none(),
    "plain": st.booleans(),
    "small": st.integers(0, 255),
}
DTYPES: dict[str, list[Any]] = {
    "user": ["object", "str", "string", "category"],
    "item": ["int64", "Int64", "category"],
    "price": ["float64", "Float64"],
    "age": ["int8", "Int8", "int64[pyarrow]"],
    "income": ["Int64"],
    "plain": ["bool", "boolean", "category"],
    "small": ["uint8", "category"],
}


def same(one: Batch, other: Batch) -> bool:
    """Whether two batches hold the same rows in the same order."""
    return all(
        np.array_equal(getattr(one, part), getattr(other, part))
        for part in ("indptr", "slots", "values", "labels", "importance", "n_slots")
    )


def hashed(frame: pd.DataFrame, schema: Schema = SCHEMA) -> Batch:
    """The rows as FeatureHasher takes them, missing values left out."""
    rows: list[Any] = frame.to_dict("records")
    events = [{name: value for name, value in row.items() if not missing(value)} for row in rows]
    return FeatureHasher(schema, BITS).transform(events)


def missing(value: Any) -> bool:
    return value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and value != value)


@st.composite
def event_frames(draw: st.DrawFn) -> pd.DataFrame:
    rows = draw(st.integers(1, 6))
    frame = pd.DataFrame(index=range(rows))
    for name in draw(st.permutations([*COLUMNS])):
        values = draw(st.lists(COLUMNS[name], min_size=rows, max_size=rows))
        dtype = draw(st.sampled_from(DTYPES[name])) if name in DTYPES else None
        as_object = name in ("tags", "other", "user")
        frame[name] = pd.Series(values, dtype=object if as_object else None).astype(dtype or "object")
        if dtype is None and not as_object:
            frame[name] = frame[name].infer_objects()
    return frame


@given(event_frames())
def test_equals_feature_hasher(frame: pd.DataFrame) -> None:
    assert same(SCHEMA.encode(frame, BITS), hashed(frame))


@given(event_frames(), st.integers(1, 3))
def test_parts_change_nothing(frame: pd.DataFrame, rows: int) -> None:
    whole = SCHEMA.encode(frame, BITS)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(frames, "_PART_ROWS", rows)
        assert same(SCHEMA.encode(frame, BITS), whole)


@given(
    st.lists(
        st.tuples(st.integers(0, 1), texts, texts, st.none() | decimals, st.none() | decimals),
        min_size=1,
        max_size=8,
    ),
)
def test_equals_csv(rows: list[tuple[Any, ...]]) -> None:
    schema = Schema(
        fields=(
            Field("a", "token"),
            Field("b", "tokens"),
            Field("x", "number"),
            Field("y", "number", transform="log1p"),
        ),
        crosses=(("a", "b"), ("b", "x")),
    )
    frame = pd.DataFrame(rows, columns=["click", "a", "b", "x", "y"])
    header, *lines = frame.to_csv(index=False, lineterminator="\n").encode().splitlines()
    (part,) = open_codec("csv", schema, BITS).encode(make_block(lines, header=header))
    assert not part.refused
    assert same(schema.encode(frame, BITS), part.batch)


def features(values: Any, dtype: Any = None, kind: str = "auto") -> list[set[tuple[int, float]]]:
    """The features of each value of a column."""
    frame = pd.DataFrame({"f": pd.Series(values, dtype=dtype)})
    batch = Schema(fields=(Field("f", kind),)).encode(frame, BITS)
    bounds = list(zip(batch.indptr, batch.indptr[1:], strict=False))
    return [
        set(zip(batch.slots[lo:hi].tolist(), batch.values[lo:hi].tolist(), strict=True)) for lo, hi in bounds
    ]


def test_integers_with_missing_values_stay_integers() -> None:
    whole = features(["1", "2", "3"])
    for values, dtype in [
        ([1, 2, 3], "int64"),
        ([1, 2, 3], "Int64"),
        (["1", "2", "3"], "category"),
        ([1, 2, 3], "uint8"),
    ]:
        assert features(values, dtype) == whole
    assert features([1.0, np.nan, 3.0]) == [whole[0], set(), whole[2]]
    assert features([1.0, 3.0]) == features([1.5 - 0.5, 3.0], object) != [whole[0], whole[2]]
    assert features([1.0, np.nan, 3.5])[0] == features([1.0])[0]
    assert features([1.0, 2.0, 2.5], kind="token")[:2] == whole[:2]
    assert features([1.0, 2.0, 2.5], kind="token")[2] == features(["2.5"], kind="token")[0]


@pytest.mark.parametrize("kind", ["auto", "token", "tokens", "number"])
def test_everything_missing_is_missing(kind: str) -> None:
    missing_values = [None, np.nan, pd.NA, pd.NaT, ""]
    assert features(missing_values, object, kind) == [set()] * 5
    for dtype in (
        "float64",
        "Int64",
        "Float64",
        "boolean",
        "string",
        "str",
        "category",
        "datetime64[ns]",
        "Int64",
    ):
        assert features([None, None], dtype, kind) == [set()] * 2
    assert features([[], [None], (np.nan, ""), {pd.NA}], object, "tokens") == [set()] * 4


def test_truth_values_categories_and_sparse_columns() -> None:
    true, false = features(["true", "false"])
    assert features([True, False]) == features([True, False], "category") == [true, false]
    assert (
        features([True, None, False], "boolean")
        == features([True, None, False], object)
        == [true, set(), false]
    )
    assert features([1, 0, 1], pd.SparseDtype("int64", 0)) == features([1, 0, 1])
    assert features([1, True, 1.0, "1"], object) == [*features([1]), true, *features([1.0]), *features(["1"])]
    assert features([np.float32(0.1)], "float32") == features([float(np.float32(0.1))])


def test_labels_and_importance() -> None:
    frame = pd.DataFrame({"y": [True, False], "w": [2.0, None], "x": ["a", "b"]})
    batch = Schema(weight="w").encode(frame, BITS)
    assert batch.labels is not None
    assert (batch.labels.tolist(), batch.importance.tolist()) == ([1.0, 0.0], [2.0, 1.0])
    assert Schema().encode(frame[["x"]], BITS).labels is None
    assert Schema().encode(frame[["x"]].iloc[:0], BITS).labels is None
    rated = Schema(label="stars", label_at_least=4.0).encode(pd.DataFrame({"stars": [5, 3.5]}), BITS)
    assert rated.labels is not None
    assert rated.labels.tolist() == [1.0, 0.0]


ERRORS: list[tuple[dict[str, Any], str]] = [
    ({"click": [0, 2]}, r"column 'click', row 1: the label must be 0 or 1, got .*2"),
    ({"click": [0, None]}, "column 'click', row 1: the label is missing"),
    ({"click": [1, 0], "y": [1, 0]}, "columns 'click' and 'y' are both labels"),
    ({"w": [1.0, -2.0]}, r"column 'w', row 1: the importance must be a number from 0 to 1e.50, got .*-2\.0"),
    ({"price": [1.5, np.inf]}, "column 'price', row 1: .*must be finite .*, got .*inf"),
    ({"price": ["1.5", "cheap"]}, "column 'price', row 1: .*must be finite .*, got 'cheap'"),
    ({"auto": [-np.inf, 1.5]}, "column 'auto', row 0: .*must be finite .*, got .*-inf"),
    (
        {"at": [pd.Timestamp(0)]},
        "column 'at', row 0: .*must be text, a number or a truth value, got Timestamp.*ignore",
    ),
    ({"at": [{"a": 1}]}, "column 'at', row 0: fields of an object need columns"),
    ({"at": [["a", ["b"]]]}, "column 'at', row 0: .*a list may hold text and numbers, not list"),
    ({"at": pd.Series(["a", "\ud800"], dtype=object)}, "column 'at', row 1: .*surrogate"),
    ({"at": pd.Categorical([pd.Interval(0, 1)])}, "column 'at', row 0: .*got Interval"),
    ({"tags": [list(range(70_000))]}, "column 'tags', row 0: more than 65536 features"),
]


@pytest.mark.parametrize(("data", "message"), ERRORS)
@pytest.mark.parametrize("part", [1, 1 << 16])
def test_errors_name_column_row_and_value(
    data: dict[str, Any], message: str, part: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frames, "_PART_ROWS", part)
    schema = Schema(weight="w", fields=(Field("price", "number"),))
    with pytest.raises(DataError, match=message):
        schema.encode(pd.DataFrame({name: pd.Series(values) for name, values in data.items()}), BITS)


def test_column_names() -> None:
    twice = pd.DataFrame([[1, 2]], columns=["a", "a"])
    with pytest.raises(DataError, match="column 'a' stands twice"):
        Schema().encode(twice, BITS)
    numbered = pd.DataFrame({0: ["a"], 1: ["b"]})
    assert same(Schema().encode(numbered, BITS), hashed(numbered, Schema()))


def test_wide_rows_of_crosses_grow_the_batch() -> None:
    schema = Schema(crosses=(("a", "b"),), fields=(Field("a", "tokens"), Field("b", "tokens")))
    frame = pd.DataFrame(
        {"a": [",".join(map(str, range(200)))] * 9, "b": [",".join(map(str, range(200)))] * 9}
    )
    batch = schema.encode(frame, BITS)
    assert same(batch, hashed(frame, schema))
    assert len(batch.slots) > 9 * 39_000


def test_pandas_is_loaded_only_for_frames() -> None:
    code = "import sys, ftrl_engine.hasher, ftrl_engine.frames; sys.exit('pandas' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
