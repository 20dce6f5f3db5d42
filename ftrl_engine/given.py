"""Arrays as users give them, checked and made into what kernels take.

A kernel trusts its arrays: one wrong length or number would read beyond their end or teach the
model. So every rule is checked here, once, and an error names the array, the rule and the value.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ftrl_engine.errors import DataError
from ftrl_engine.sink import MAX_ROW_FEATURES, MAX_VALUE

_MAX_SLOTS = 1 << 32
_EXACT = 2.0**53  # whole numbers below it are exact as float64


def slot_count(n_slots: object) -> int:
    """``n_slots`` as a whole number from 1 to 2**32."""
    if isinstance(n_slots, bool) or not isinstance(n_slots, int | np.integer):
        raise DataError(f"n_slots must be a whole number, got {n_slots!r}")
    if not 0 < n_slots <= _MAX_SLOTS:
        raise DataError(f"n_slots must be between 1 and 2**32, got {n_slots}")
    return int(n_slots)


def row_pointers(indptr: ArrayLike, features: int) -> NDArray[np.int64]:
    """int64[rows + 1]: where each row of ``features`` features begins, and the end."""
    given = _plain("indptr", indptr)
    whole = given.dtype.kind == "f" and bool(
        (np.abs(given) < _EXACT).all() and (given == np.rint(given)).all()
    )
    pointers = whole_numbers("indptr", given.astype(np.int64) if whole else given)
    if len(pointers) < 1 or int(pointers[0]) != 0 or int(pointers[-1]) != features:
        ends = f"{pointers[0]} to {pointers[-1]}" if len(pointers) else "nothing"
        raise DataError(f"indptr must start at 0 and end at the {features} slots given, got {ends}")
    fitting = np.require(pointers, dtype=np.int64, requirements=["C", "A"])
    lengths = np.diff(fitting)
    if len(lengths) and int(lengths.min()) < 0:
        raise DataError(f"indptr must not fall, and does after row {int(np.argmin(lengths))}")
    if len(lengths) and int(lengths.max()) > MAX_ROW_FEATURES:
        raise DataError(f"a row may have at most {MAX_ROW_FEATURES} features, got {int(lengths.max())}")
    return fitting


def slots_below(slots: ArrayLike, n_slots: int) -> NDArray[Any]:
    """One dimension of whole numbers in [0, n_slots), of whatever type they were."""
    index = whole_numbers("slots", slots)
    if len(index) and not 0 <= int(index.min()) <= int(index.max()) < n_slots:
        raise DataError(f"slots must be in [0, {n_slots}), got {int(index.min())} to {int(index.max())}")
    return index


def whole_numbers(name: str, given: ArrayLike) -> NDArray[Any]:
    """One dimension of integers, of whatever type they were."""
    array = _plain(name, given)
    if array.ndim != 1 or (array.size and array.dtype.kind not in "iu"):
        raise DataError(f"{name} must be a 1-d array of integers, got {array.ndim}-d {array.dtype}")
    return array if array.size else array.astype(np.int64)


def finite_numbers(name: str, given: ArrayLike, length: int) -> NDArray[np.float64]:
    """float64[length] without NaN and infinities."""
    array = _plain(name, given)
    if array.dtype.kind not in "biufO":
        raise DataError(f"{name} must be numbers, got an array of {array.dtype}; convert it")
    try:
        # Writable, because kernels have another form for read-only arrays.
        numbers = np.require(array, dtype=np.float64, requirements=["C", "A", "W"])
    except (TypeError, ValueError) as error:
        raise DataError(f"{name} must be numbers: {error}") from None
    if numbers.shape != (length,):
        raise DataError(f"{name} must have shape ({length},), got {numbers.shape}")
    wrong = np.flatnonzero(~(np.abs(numbers) <= MAX_VALUE))
    if len(wrong):
        at = int(wrong[0])
        raise DataError(f"{name} must be finite and at most {MAX_VALUE:g} in size, got {numbers[at]} at {at}")
    return numbers


def labels_of(given: ArrayLike, rows: int) -> NDArray[np.float64]:
    """float64[rows] of 0 and 1."""
    numbers = finite_numbers("labels", given, rows)
    wrong = np.flatnonzero((numbers != 0.0) & (numbers != 1.0))
    if len(wrong):
        raise DataError(f"labels must be 0 or 1, got {numbers[wrong[0]]} at row {int(wrong[0])}")
    return numbers


def importance_of(given: ArrayLike, rows: int) -> NDArray[np.float64]:
    """float64[rows], none below 0."""
    numbers = finite_numbers("importance", given, rows)
    if rows and float(numbers.min()) < 0:
        raise DataError(f"importance must be >= 0, got {float(numbers.min())}")
    return numbers


def _plain(name: str, given: ArrayLike) -> NDArray[Any]:
    """An array of NumPy's own class; a subclass may compare in its own way, as masked arrays do."""
    # Loading numpy.ma takes longer than learning ten rows, and where it is not loaded nothing is masked.
    masked: Any = sys.modules.get("numpy.ma")
    if masked is not None and isinstance(given, masked.MaskedArray) and masked.getmaskarray(given).any():
        raise DataError(
            f"{name} must have a value everywhere, and some are masked; drop those rows or fill them"
        )
    try:
        return np.asarray(given)
    except (TypeError, ValueError, OverflowError) as error:
        raise DataError(f"{name} must be an array of numbers: {error}") from None
