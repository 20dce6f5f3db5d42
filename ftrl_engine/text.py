"""Raw text: checks of UTF-8 and NUL bytes, and where words end."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import at, load64, string_mask, trailing_zeros
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.sink import BAD_UTF8, NUL_BYTE, OK

_QUOTE, _SPACE, _TAB = 34, 32, 9
_ONES = np.uint64(0x0101010101010101)
_HIGH = np.uint64(0x8080808080808080)
_COLONS = np.uint64(58) * _ONES
_QUOTES, _BACKSLASHES, _SPACES = (np.uint64(byte) * _ONES for byte in (34, 92, 32))
_ABOVE_SPACE = np.uint64(33) * _ONES


@kernel
def _continuation(data: NDArray[np.uint8], i: int, hi: int, low: int, high: int) -> bool:
    return i < hi and low <= data[i] <= high


@kernel
def _sequence_length(data: NDArray[np.uint8], i: int, hi: int) -> int:
    """The length of the UTF-8 sequence at ``i``, or 0 where it is malformed (RFC 3629, section 4)."""
    first = data[i]
    if first < 0x80:
        return 1
    low, high = 0x80, 0xBF
    if 0xC2 <= first <= 0xDF:
        length = 2
    elif 0xE0 <= first <= 0xEF:
        length = 3
        if first == 0xE0:
            low = 0xA0
        elif first == 0xED:
            high = 0x9F
    elif 0xF0 <= first <= 0xF4:
        length = 4
        if first == 0xF0:
            low = 0x90
        elif first == 0xF4:
            high = 0x8F
    else:
        return 0
    if not _continuation(data, i + 1, hi, low, high):
        return 0
    for k in range(2, length):
        if not _continuation(data, i + k, hi, 0x80, 0xBF):
            return 0
    return length


@kernel
def text_problem(data: NDArray[np.uint8], lo: int, hi: int) -> int:
    """OK, NUL_BYTE or BAD_UTF8 for the record ``data[lo:hi]``."""
    i = lo
    while i < hi:
        # Most text is plain: eight bytes of 1..127 are passed at once.
        if i + 8 <= hi and (((load64(data, i) - _ONES) | load64(data, i)) & _HIGH) == np.uint64(0):
            i += 8
            continue
        if data[i] == 0:
            return NUL_BYTE
        length = _sequence_length(data, i, hi)
        if length == 0:
            return BAD_UTF8
        i += length
    return OK


@inlined
def find_stop(data: NDArray[np.uint8], i: int, hi: int, pattern: np.uint64) -> int:
    """The first index in [i, hi) of white space (bytes 1..32), a colon or the byte repeated in ``pattern``.

    ``hi`` where there is none. Reads up to seven bytes past ``hi``.
    """
    while i < hi:
        x = load64(data, i)
        colon, other = x ^ _COLONS, x ^ pattern
        # The lowest set bit is exact; higher ones may be borrows, which do not matter.
        hits = (((x - _ABOVE_SPACE) & ~x) | ((colon - _ONES) & ~colon) | ((other - _ONES) & ~other)) & _HIGH
        if hits != np.uint64(0):
            return int(min(i + (trailing_zeros(hits) >> 3), hi))
        i += 8
    return hi


@inlined
def _is_plain(word: np.uint64) -> bool:
    """Whether none of eight bytes is a quote, a backslash or below 32."""
    quote, backslash = word ^ _QUOTES, word ^ _BACKSLASHES
    hits = ((word - _SPACES) & ~word) | ((quote - _ONES) & ~quote) | ((backslash - _ONES) & ~backslash)
    return bool(hits & _HIGH == np.uint64(0))


@inlined
def string_end(data: NDArray[np.uint8], i: int, hi: int) -> int:
    """The index of the quote that ends a JSON string, or hi where an escape, a control byte or hi is first.

    Reads up to 32 bytes past ``hi``.
    """
    # Eight bytes, the length of most identifiers, are guessed: what follows need not wait for the search.
    if i + 8 < hi and at(data, i + 8) == _QUOTE and _is_plain(load64(data, i)):
        return i + 8
    while i < hi:
        found = string_mask(data, i)
        if found != np.uint32(0):
            i += trailing_zeros(np.uint64(found))
            return i if i < hi and at(data, i) == _QUOTE else hi
        i += 32
    return hi


@inlined
def skip_space(data: NDArray[np.uint8], i: int, hi: int) -> int:
    """The first index in [i, hi) that holds neither a space nor a tab, or hi."""
    while i < hi and (at(data, i) == _SPACE or at(data, i) == _TAB):
        i += 1
    return i


@kernel
def needs_check(data: NDArray[np.uint8], lo: int, hi: int) -> bool:
    """Whether ``data[lo:hi]`` holds anything but bytes 1..127."""
    # As signed numbers these are the positive ones, and a least value is found 32 bytes at a time.
    least = np.int8(1)
    for i in range(lo, hi):
        least = min(least, np.int8(at(data, i)))
    return bool(least <= 0)
