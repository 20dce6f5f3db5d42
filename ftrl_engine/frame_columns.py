"""What the columns of a pandas frame hold, as texts and numbers that kernels read.

``None``, NaN, NaT and ``pd.NA`` are missing values. A column of NumPy floats in which values
are missing and all others are whole was most likely made of integers and is read as such. A
float of another width than 64 bits stands for the float64 of the same value.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import DataError
from ftrl_engine.events import flatten, float_text
from ftrl_engine.plan import LABEL, NUMBER, SKIP, TOKEN, TOKENS, UNKNOWN, WEIGHT, Plan, planned_fields
from ftrl_engine.schema import Schema
from ftrl_engine.values import DECIMAL_FORM, FALSE_FORM, INTEGER_FORM, TEXT, TRUE_FORM, kind_of

if TYPE_CHECKING:
    import pandas as pd

MISSING = -1
NUMBER_FORM = 100  # beside the forms of add_value: the number itself
NO_NUMBERS = np.empty(0)
_EXACT = 2.0**53


class Items(NamedTuple):
    """The values of a column (u items of p pieces in all, n rows).

    rows     int64[n], the item of each row or MISSING
    ptr      int64[u+1] into the pieces: a list is one piece a value
    forms    int64[p], the form of each piece
    texts    the p texts, or none where all pieces are numbers
    numbers  float64[p], or empty where all pieces are texts
    """

    rows: NDArray[np.int64]
    ptr: NDArray[np.int64]
    forms: NDArray[np.int64]
    texts: list[bytes]
    numbers: NDArray[np.float64]


class Column(NamedTuple):
    """One column of the frame: its name, its place, its field and whether it is made of integers."""

    name: str
    place: int
    field: int
    kind: int
    whole: bool


def list_columns(schema: Schema, plan: Plan, frame: pd.DataFrame) -> list[Column]:
    """The columns that mean something, in order; DataError where a name stands twice."""
    numbers = {field.name: number for number, (field, _) in enumerate(planned_fields(schema))}
    columns: dict[str, Column] = {}
    for place, label in enumerate(frame.columns):
        name = str(label)
        if name in columns:
            raise DataError(f"column {name!r} stands twice in the frame; every column needs its own name")
        field = numbers.get(name, UNKNOWN)
        kind = int(kind_of(plan, field))
        columns[name] = Column(name, place, field, kind, _made_of_integers(frame.iloc[:, place]))
    return [column for column in columns.values() if column.kind != SKIP]


def _made_of_integers(column: pd.Series[Any]) -> bool:
    """Whether these are the floats that pandas makes of integers when some are missing."""
    if not isinstance(column.dtype, np.dtype) or column.dtype.kind != "f":
        return False
    numbers = column.to_numpy()
    missing = np.isnan(numbers)
    return bool(
        missing.any() and ((np.abs(numbers) < _EXACT) & (np.floor(numbers) == numbers) | missing).all()
    )


def read_column(column: pd.Series[Any], about: Column, first: int) -> Items:
    """The items of one column."""
    import pandas as pd
    from pandas.api.types import infer_dtype, is_bool_dtype, is_float_dtype, is_integer_dtype

    if isinstance(column.dtype, pd.SparseDtype):
        sparse: Any = column.sparse
        column = sparse.to_dense()
    if isinstance(column.dtype, pd.CategoricalDtype):
        categories = column.cat.categories
        if infer_dtype(categories) in ("string", "integer", "floating", "boolean"):
            return _of_categories(column, about, first)
        column = column.astype(object)
    if is_bool_dtype(column.dtype):
        return _of_truths(column)
    integers = is_integer_dtype(column.dtype) or about.whole
    if integers or is_float_dtype(column.dtype):
        if about.kind in (NUMBER, LABEL, WEIGHT) or not (integers or about.kind in (TOKEN, TOKENS)):
            return _of_numbers(column.to_numpy(dtype=np.float64, na_value=np.nan))
        if integers:
            return _of_distinct(column, about, first, INTEGER_FORM, lambda x: str(int(x)))
        return _of_distinct(column, about, first, DECIMAL_FORM, lambda x: float_text(float(x)))
    if infer_dtype(column, skipna=True) == "string":
        return _of_distinct(column, about, first, TEXT, str)
    return _of_objects(column, about, first)


def _of_numbers(numbers: NDArray[np.float64]) -> Items:
    """Every number an item; NaN is missing."""
    given = ~np.isnan(numbers)
    count = int(given.sum())
    rows = np.full(len(numbers), MISSING, dtype=np.int64)
    rows[given] = np.arange(count)
    forms = np.full(count, NUMBER_FORM, dtype=np.int64)
    return Items(rows, np.arange(count + 1, dtype=np.int64), forms, [], numbers[given])


def _of_texts(rows: NDArray[np.int64], ptr: list[int], pieces: list[tuple[int, bytes]]) -> Items:
    forms = np.array([form for form, _ in pieces], dtype=np.int64)
    texts = [text for _, text in pieces]
    return Items(rows, np.array(ptr, dtype=np.int64), forms, texts, NO_NUMBERS)


def _of_truths(column: pd.Series[Any]) -> Items:
    """False and true."""
    rows = column.to_numpy(dtype=bool, na_value=False).astype(np.int64)
    rows[column.isna().to_numpy()] = MISSING
    return _of_texts(rows, [0, 1, 2], [(FALSE_FORM, b"false"), (TRUE_FORM, b"true")])


def _of_distinct(
    column: pd.Series[Any], about: Column, first: int, form: int, write: Callable[[Any], str]
) -> Items:
    """Every distinct value an item."""
    import pandas as pd

    codes, distinct = pd.factorize(column)
    texts = []
    try:
        for value in distinct.tolist():
            texts.append(write(value).encode())
    except UnicodeEncodeError as error:
        row = first + int((codes == len(texts)).argmax())
        raise DataError(f"column {about.name!r}, row {row}: {error}") from error
    ptr, forms = np.arange(len(texts) + 1), np.full(len(texts), form)
    return Items(codes.astype(np.int64), ptr, forms, texts, NO_NUMBERS)


def _of_categories(column: pd.Series[Any], about: Column, first: int) -> Items:
    """Every category that occurs an item."""
    import pandas as pd

    used = column.cat.remove_unused_categories()
    codes = used.cat.codes.to_numpy().astype(np.int64)
    read = read_column(pd.Series(used.cat.categories), about, first)
    rows = np.full(len(codes), MISSING, dtype=np.int64)
    rows[codes >= 0] = read.rows[codes[codes >= 0]]
    return read._replace(rows=rows)


def _of_objects(column: pd.Series[Any], about: Column, first: int) -> Items:
    """Values of any type, lists among them, read one by one as FeatureHasher reads them."""
    rows = np.full(len(column), MISSING, dtype=np.int64)
    known: dict[tuple[type, Any], int] = {}
    ptr, pieces = [0], []
    for row, value in enumerate(column):
        if _is_missing(value):
            continue
        # True, 1 and 1.0 are equal but not the same; what cannot be a key is never found again.
        key = (type(value), value) if isinstance(value, str | int | float) else (Items, row)
        if key not in known:
            known[key] = len(ptr) - 1
            pieces += _pieces(value, about, first + row)
            ptr.append(len(pieces))
        rows[row] = known[key]
    return _of_texts(rows, ptr, pieces)


def _is_missing(value: Any) -> bool:
    import pandas as pd

    if isinstance(value, str | int):
        return False
    return value is None or (pd.api.types.is_scalar(value) and bool(pd.isna(value)))


def _pieces(value: Any, about: Column, row: int) -> list[tuple[int, bytes]]:
    """(form, text) of every value that one cell of a frame holds."""
    where = f"column {about.name!r}, row {row}"
    if isinstance(value, Mapping):
        raise DataError(f"{where}: fields of an object need columns of their own (pandas.json_normalize)")
    if isinstance(value, list | tuple | set | frozenset | np.ndarray):
        kept = [item for item in value if not _is_missing(item)]
        value = set(kept) if isinstance(value, set | frozenset) else kept
    try:
        return [(form, text.encode()) for _, form, text in flatten({about.name: value})]
    except (DataError, UnicodeEncodeError) as error:
        raise DataError(f"{where}: {error}; or ignore the column") from error
