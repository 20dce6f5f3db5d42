"""Fast text of many rows at once: fixed-width byte columns, padding removed at the end.

A column is uint8[rows, width] in which NUL bytes are padding, or ``bytes`` that are the same in
every row. So text is built without a Python object per row.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Bytes = NDArray[np.uint8]
Column = Bytes | bytes

_ZERO, _MINUS = 48, 45


def join_rows(columns: Sequence[Column], rows: int) -> bytes:
    """The text of ``rows`` rows: in every row the columns one after the other, NUL bytes left out."""
    width = sum(len(c) if isinstance(c, bytes) else c.shape[1] for c in columns)
    page = np.empty((rows, width), np.uint8)
    at = 0
    for column in columns:
        part = np.frombuffer(column, np.uint8)[None, :] if isinstance(column, bytes) else column
        page[:, at : at + part.shape[1]] = part
        at += part.shape[1]
    return page.tobytes().translate(None, b"\0")


def word_table(words: Sequence[bytes]) -> Bytes:
    """uint8[len(words) + 1, width]; the last row is empty, so index -1 stands for no word."""
    width = max(map(len, words))
    padded = b"".join(word.ljust(width, b"\0") for word in [*words, b""])
    return np.frombuffer(padded, np.uint8).reshape(len(words) + 1, width)


def numerals(values: NDArray[np.int64], digits: int = 0) -> Bytes:
    """Decimal numerals of whole numbers, without leading zeros; with ``digits``, exactly so many.

    Negative values get a minus sign (not together with ``digits``).
    """
    sizes = np.abs(values)
    width = digits or len(str(int(sizes.max(initial=0))))
    out = np.empty((len(values), width + (digits == 0)), np.uint8)
    rest = sizes
    for at in range(width - 1, -1, -1):
        tens = rest // 10
        out[:, at - width] = rest - tens * 10 + _ZERO
        if not digits and at < width - 1:
            out[rest == 0, at - width] = 0
        rest = tens
    if not digits:
        out[:, 0] = np.where(values < 0, _MINUS, 0)
    return out


def decimals(values: NDArray[np.int64], places: int) -> list[Column]:
    """The columns of non-negative ``values`` / 10**places, with all their decimal places."""
    whole, part = np.divmod(values, 10**places)
    return [numerals(whole), b".", numerals(part, places)]
