"""Batch: what it takes, what it refuses, and the sum of repeats."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import pytest
import scipy.sparse
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine import Batch, build
from ftrl_engine.errors import DataError
from ftrl_engine.sink import FEATURES, MAX_ROW_FEATURES, make_sink, with_room
from tests.oracles.events import N_SLOTS, Event, events, pack, summed


def rows_of(batch: Batch) -> list[dict[int, float]]:
    """The rows as mappings; a slot must not stand twice in one."""
    bounds = zip(batch.indptr.tolist(), batch.indptr[1:].tolist(), strict=False)
    rows = [
        list(zip(batch.slots[lo:hi].tolist(), batch.values[lo:hi].tolist(), strict=True)) for lo, hi in bounds
    ]
    assert all(len(dict(row)) == len(row) for row in rows)
    return [dict(row) for row in rows]


@given(events)
def test_repeats_are_summed(rows: list[Event]) -> None:
    batch = pack(rows)
    assert rows_of(batch) == [summed(row) for row, _, _ in rows]
    valued = [any(value != 1.0 for value in summed(row).values()) for row, _, _ in rows]
    # A row whose values are all 1 may be marked only where repeats made it so.
    assert all(mark for mark, needed in zip(batch.valued.tolist(), valued, strict=True) if needed)


@given(events, st.data())
def test_parts_of_a_batch_share_its_rows(rows: list[Event], data: st.DataObject) -> None:
    batch = pack(rows)
    stop = data.draw(st.integers(0, len(rows)))
    start = data.draw(st.integers(0, stop))
    part = batch.rows(start, stop)
    assert len(part) == stop - start
    assert rows_of(part) == rows_of(batch)[start:stop]
    assert part.labels is not None
    assert part.labels.tolist() == [label for _, label, _ in rows[start:stop]]
    assert part.importance.tolist() == [importance for _, _, importance in rows[start:stop]]
    assert part.longest_row() == max((len(row) for row in rows_of(part)), default=0)


@given(events)
def test_scipy_there_and_back(rows: list[Event]) -> None:
    batch = pack(rows)
    matrix = batch.to_scipy()
    assert matrix.shape == (len(rows), N_SLOTS)
    again = Batch.from_scipy(matrix, batch.labels, batch.importance)
    assert again.n_slots == N_SLOTS
    left = [{slot: value for slot, value in row.items() if value} for row in rows_of(batch)]
    assert rows_of(again) == left


@pytest.mark.parametrize("kind", ["csr", "csc", "coo", "lil"])
def test_scipy_formats(kind: Literal["csr", "csc", "coo", "lil"]) -> None:
    dense = np.array([[0.0, 1.0, 0.0], [2.5, 0.0, -1.0], [0.0, 0.0, 0.0]])
    batch = Batch.from_scipy(scipy.sparse.csr_matrix(dense).asformat(kind), n_slots=8)
    assert (rows_of(batch), batch.n_slots) == ([{1: 1.0}, {0: 2.5, 2: -1.0}, {}], 8)


def test_inputs_are_never_modified() -> None:
    indptr, slots, values = np.array([0, 3]), np.array([1, 1, 2], dtype=np.int32), np.array([1.0, 2.0, 3.0])
    for array in (indptr, slots, values):
        array.setflags(write=False)
    batch = Batch(indptr, slots, values, [1], np.array([2.0], dtype=np.float32), n_slots=4)
    assert rows_of(batch) == [{1: 3.0, 2: 3.0}]
    assert (batch.labels, batch.importance) == (np.array([1.0]), np.array([2.0]))


def test_empty_batches() -> None:
    empty = Batch([0], [], n_slots=4)
    assert (len(empty), len(empty.values), empty.longest_row(), empty.labels) == (0, 0, 0, None)
    assert rows_of(Batch([0, 0, 0], [], [], [0, 1], n_slots=4)) == [{}, {}]
    assert repr(Batch([0, 1], [3], n_slots=4)) == "Batch(rows=1, features=1, n_slots=4)"


REFUSED_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"indptr": [1, 2]}, "indptr must start at 0 and end at the 2 slots given"),
    ({"indptr": [0, 1]}, "indptr must start at 0 and end at the 2 slots given"),
    ({"indptr": []}, "indptr must"),
    ({"indptr": [0, 2, 1, 2]}, "indptr must not fall"),
    ({"slots": [0, 4]}, r"slots must be in \[0, 4\), got 0 to 4"),
    ({"slots": [-1, 0]}, r"slots must be in \[0, 4\), got -1 to 0"),
    ({"slots": [0.5, 1]}, "slots must be a 1-d array of integers, got 1-d float64"),
    ({"slots": [[0, 1]]}, "indptr must be|slots must be a 1-d array"),
    ({"n_slots": 0}, "n_slots must be between 1 and"),
    ({"n_slots": 2**32 + 1}, "n_slots must be between 1 and"),
    ({"values": [1.0]}, r"values must have shape \(2,\), got \(1,\)"),
    ({"values": [1.0, np.nan]}, "values must be finite and at most 1e.50 in size, got nan at 1"),
    ({"values": [-np.inf, 1]}, "values must be finite .*, got -inf at 0"),
    ({"labels": [2]}, r"labels must be 0 or 1, got 2.0 at row 0"),
    ({"labels": [np.nan]}, "labels must be finite"),
    ({"labels": [0, 1]}, "labels must have shape"),
    ({"importance": [-0.5]}, r"importance must be >= 0, got -0.5"),
    ({"importance": [np.inf]}, "importance must be finite .*, got inf at 0"),
    ({"indptr": [0, 70_000], "slots": np.zeros(70_000, int)}, "at most 65536 features, got 70000"),
    ({"slots": [1, 1], "values": [9e49, 9e49]}, "row 0: a number must be finite and at most 1e.50 in size"),
]


MASKED = np.ma.array([np.nan, 0.0], mask=[True, False])
ODD_ARGUMENTS: list[tuple[dict[str, Any], str]] = [
    ({"labels": MASKED}, "labels must have a value everywhere"),
    ({"labels": np.ma.array([7.0, 0.0], mask=[True, False])}, "labels must have a value everywhere"),
    ({"importance": np.ma.array([-5.0, 1.0], mask=[True, False])}, "importance must have a value everywhere"),
    ({"values": MASKED}, "values must have a value everywhere"),
    ({"labels": ["0", "1"]}, "labels must be numbers"),
    ({"values": np.array(["2020-01-01", "2020-01-02"], "datetime64[D]")}, "values must be numbers"),
    ({"labels": [None, "x"]}, "labels must be numbers"),
    ({"slots": 1}, "slots must be a 1-d array"),
    ({"indptr": 0}, "indptr must be a 1-d array"),
    ({"indptr": [0, 1.9, 2]}, "indptr must be a 1-d array of integers"),
    ({"indptr": [0, np.nan, 2]}, "indptr must be a 1-d array of integers"),
    ({"indptr": [0, 2**70, 2]}, "indptr must be a 1-d array of integers"),
    ({"indptr": [0, None, 2]}, "indptr must be a 1-d array of integers"),
    ({"n_slots": None}, "n_slots must be a whole number"),
    ({"n_slots": "16"}, "n_slots must be a whole number"),
    ({"n_slots": 2.5}, "n_slots must be a whole number"),
    ({"n_slots": True}, "n_slots must be a whole number"),
]


@pytest.mark.parametrize(("arguments", "message"), ODD_ARGUMENTS)
def test_arguments_of_other_kinds_are_refused(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"indptr": [0, 1, 2], "slots": [0, 1], "n_slots": 4}
    with pytest.raises(DataError, match=message):
        Batch(**(good | arguments))


def test_indptr_may_be_whole_floats() -> None:
    assert Batch(np.zeros(3), [], n_slots=4).indptr.dtype == np.int64


def test_arrays_need_not_be_aligned() -> None:
    packed = np.zeros(3, np.dtype([("mark", "u1"), ("pointer", "<i8"), ("label", "<f8")], align=False))
    packed["pointer"], packed["label"] = [0, 1, 2], [1.0, 0.0, 0.0]
    batch = Batch(packed["pointer"], [0, 1], None, packed["label"][:2], packed["label"][:2], n_slots=4)
    build("ftrl_proximal", n_slots=4).learn(batch)
    assert batch.labels is not None
    assert batch.labels.tolist() == [1.0, 0.0]


def test_a_masked_array_without_masked_values_is_taken() -> None:
    batch = Batch([0, 1, 2], [0, 1], None, np.ma.array([1.0, 0.0]), n_slots=4)
    assert batch.labels is not None
    assert type(batch.labels) is np.ndarray


@pytest.mark.parametrize("matrix", [np.eye(3), scipy.sparse.coo_array(np.array([0.0, 1.0])), None])
def test_only_sparse_matrices_are_taken(matrix: Any) -> None:
    with pytest.raises(DataError, match="takes a 2-d sparse matrix"):
        Batch.from_scipy(matrix)


def test_no_slots_are_not_the_columns() -> None:
    with pytest.raises(DataError, match="n_slots must be between 1"):
        Batch.from_scipy(scipy.sparse.csr_array(np.eye(3)), n_slots=0)


@pytest.mark.parametrize(("arguments", "message"), REFUSED_ARGUMENTS)
def test_mistakes_are_refused(arguments: dict[str, Any], message: str) -> None:
    good: dict[str, Any] = {"indptr": [0, 2], "slots": [0, 1], "n_slots": 4}
    with pytest.raises(DataError, match=message):
        Batch(**(good | arguments))


def test_slots_of_the_whole_range() -> None:
    top = 2**32 - 1
    assert rows_of(Batch([0, 3], [top, 0, top], [1.0, 2.0, 4.0], n_slots=2**32)) == [{top: 5.0, 0: 2.0}]
    strided = np.arange(MAX_ROW_FEATURES, dtype=np.int64) << 16
    assert len(Batch([0, len(strided)], strided, n_slots=2**32).slots) == MAX_ROW_FEATURES


def test_a_sink_grows_and_keeps_its_rows() -> None:
    sink = make_sink(3, 0)
    assert with_room(sink) is sink
    sink.slots[:5] = range(5)
    sink.state[FEATURES] = 5
    larger = with_room(sink)
    assert len(larger.slots) == len(larger.values) == 2 * len(sink.slots)
    assert larger.slots[:5].tolist() == [0, 1, 2, 3, 4]
    assert larger.state is sink.state
