"""Batch: hashed rows in compressed sparse row (CSR) form."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftrl_engine.errors import DataError
from ftrl_engine.given import finite_numbers, importance_of, labels_of, row_pointers, slot_count, slots_below
from ftrl_engine.jit import kernel
from ftrl_engine.plan import UNKNOWN, Plan, make_plan
from ftrl_engine.rows import finish
from ftrl_engine.schema import Schema
from ftrl_engine.sink import (
    REASONS,
    REFUSED,
    ROWS,
    Sink,
    add_cell,
    begin,
    make_sink,
)

if TYPE_CHECKING:
    import scipy.sparse

_FEW_ROWS = 64
_NO_VALUES = np.empty(0, dtype=np.float64)
_SLOTS_AS_THEY_ARE = make_plan(Schema(), 1)._replace(shift=np.uint64(32))


def _has_nan(labels: NDArray[np.float64]) -> bool:
    """Whether one of the labels, which are 0, 1 or NaN, is none."""
    # For a few, Python is faster than NumPy.
    return math.isnan(sum(labels.tolist())) if len(labels) <= _FEW_ROWS else bool(np.isnan(labels).any())


class Batch:
    """Rows ready to learn from or to score.

    indptr      int64[rows + 1]; row r has the features indptr[r] .. indptr[r+1]-1
    slots       uint32[nnz], each below ``n_slots`` and at most once in a row
    labels      float64[rows] of 0 and 1, or None
    importance  float64[rows], finite and >= 0
    valued      uint8[rows]: 0 where every value of the row is 1
    raw_values  float64[nnz], meaningful only in valued rows; empty where no row is valued

    A slot that is given twice in a row (a repeat or a collision) becomes one feature with the
    sum of the values. Arrays are taken as they are where possible and never modified.
    """

    __slots__ = ("importance", "indptr", "labels", "n_slots", "raw_values", "slots", "valued")

    indptr: NDArray[np.int64]
    slots: NDArray[np.uint32]
    labels: NDArray[np.float64] | None
    importance: NDArray[np.float64]
    valued: NDArray[np.uint8]
    raw_values: NDArray[np.float64]
    n_slots: int

    def __init__(
        self,
        indptr: ArrayLike,
        slots: ArrayLike,
        values: ArrayLike | None = None,
        labels: ArrayLike | None = None,
        importance: ArrayLike | None = None,
        *,
        n_slots: int,
    ) -> None:
        most = slot_count(n_slots)
        index = slots_below(slots, most)
        pointers = row_pointers(indptr, len(index))
        rows = len(pointers) - 1
        numbers = _NO_VALUES if values is None else finite_numbers("values", values, len(index))
        weights = np.ones(rows) if importance is None else importance_of(importance, rows)
        sink = make_sink(rows, len(index))
        _add_rows(_SLOTS_AS_THEY_ARE, sink, pointers, index.astype(np.uint32), numbers)
        if sink.state[REFUSED]:
            row, reason = (int(x) for x in sink.refused[0])
            raise DataError(f"row {row}: {REASONS[reason]}")
        self._take(sink, most)
        self.labels = None if labels is None else labels_of(labels, rows)
        self.importance = weights

    @classmethod
    def from_sink(cls, sink: Sink, n_slots: int, copy: bool = False) -> Batch:
        """The rows a codec has written; labels are None where any row has none.

        Without ``copy`` the batch shares the sink's memory.
        """
        batch = cls.__new__(cls)
        batch._take(sink, n_slots)
        rows = int(sink.state[ROWS])
        labels = sink.labels[:rows]
        batch.labels = None if _has_nan(labels) else labels
        batch.importance = sink.importance[:rows]
        if copy:
            # Written out: this is half of what encoding one event takes.
            batch.indptr, batch.slots = batch.indptr.copy(), batch.slots.copy()
            batch.labels = None if batch.labels is None else labels.copy()
            batch.importance = batch.importance.copy()
            if batch.raw_values is not _NO_VALUES:
                batch.raw_values = batch._copied_values()
            batch.valued = batch.valued.copy()
        return batch

    def _take(self, sink: Sink, n_slots: int) -> None:
        rows = int(sink.state[ROWS])
        self.indptr = sink.indptr[: rows + 1]
        features = int(self.indptr[-1])
        self.slots = sink.slots[:features]
        self.valued = sink.valued[:rows]
        self.raw_values = sink.values[:features] if self._has_valued() else _NO_VALUES
        self.n_slots = n_slots

    def _has_valued(self) -> bool:
        if len(self.valued) <= _FEW_ROWS:
            return 1 in self.valued.tobytes()
        # NumPy looks at truth values many times faster than at numbers.
        return bool(self.valued.view(np.bool_).any())

    def _copied_values(self) -> NDArray[np.float64]:
        """A copy of ``raw_values``; where a few rows are valued, and most have none, only of those."""
        if len(self.valued) <= _FEW_ROWS:
            return self.raw_values.copy()
        rows = np.flatnonzero(self.valued.view(np.bool_))
        if len(rows) > _FEW_ROWS:
            return self.raw_values.copy()
        copy = np.empty_like(self.raw_values)
        for lo, hi in zip(self.indptr[rows].tolist(), self.indptr[rows + 1].tolist(), strict=True):
            copy[lo:hi] = self.raw_values[lo:hi]
        return copy

    @classmethod
    def from_scipy(
        cls,
        matrix: scipy.sparse.sparray | scipy.sparse.spmatrix,
        labels: ArrayLike | None = None,
        importance: ArrayLike | None = None,
        *,
        n_slots: int | None = None,
    ) -> Batch:
        """The rows of a sparse matrix; column j is slot j. ``n_slots`` defaults to the columns."""
        given: Any = matrix
        if not hasattr(given, "tocsr") or len(given.shape) != 2:
            kind = type(matrix).__name__
            raise DataError(f"from_scipy takes a 2-d sparse matrix, got {kind}; make one with csr_array(...)")
        csr = given.tocsr()
        most = csr.shape[1] if n_slots is None else n_slots
        return cls(csr.indptr, csr.indices, csr.data, labels, importance, n_slots=most)

    def to_scipy(self) -> scipy.sparse.csr_array:
        """A CSR array of shape (rows, n_slots)."""
        from scipy.sparse import csr_array

        return csr_array((self.values, self.slots.astype(np.int64), self.indptr), (len(self), self.n_slots))

    def longest_row(self) -> int:
        """The number of features of the longest row."""
        if len(self.indptr) == 2:  # one event at a time, where microseconds count
            return int(self.indptr[1])
        return int(np.diff(self.indptr).max(initial=0))

    def __len__(self) -> int:
        return len(self.indptr) - 1

    def __repr__(self) -> str:
        return f"Batch(rows={len(self)}, features={len(self.slots)}, n_slots={self.n_slots})"

    @property
    def values(self) -> NDArray[np.float64]:
        """float64[nnz], the value of every feature."""
        if not len(self.raw_values):
            return np.ones(len(self.slots))
        valued = np.repeat(self.valued, np.diff(self.indptr))
        return np.where(valued == 1, self.raw_values, 1.0)

    def rows(self, start: int, stop: int) -> Batch:
        """The rows ``start <= r < stop``, sharing memory."""
        part = Batch.__new__(Batch)
        lo, hi = int(self.indptr[start]), int(self.indptr[stop])
        part.indptr = self.indptr[start : stop + 1] - lo
        part.slots = self.slots[lo:hi]
        part.valued = self.valued[start:stop]
        part.raw_values = self.raw_values[lo:hi]
        part.labels = None if self.labels is None else self.labels[start:stop]
        part.importance = self.importance[start:stop]
        part.n_slots = self.n_slots
        return part


@kernel
def _add_rows(
    plan: Plan, sink: Sink, indptr: NDArray[np.int64], slots: NDArray[np.uint32], values: NDArray[np.float64]
) -> None:
    for r in range(len(indptr) - 1):
        begin(sink)
        for k in range(indptr[r], indptr[r + 1]):
            # A slot that is shifted up is the hash that leads back to it.
            h = np.uint64(slots[k]) << np.uint64(32)
            add_cell(sink, UNKNOWN, h, values[k] if len(values) else 1.0)
        finish(plan, sink, r, False)
