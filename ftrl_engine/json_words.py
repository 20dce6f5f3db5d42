"""Bare words of JSON: numbers, true, false and null."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import at, load64
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.numbers import DECIMAL, EXPONENT, INTEGER, scan_number
from ftrl_engine.values import DECIMAL_FORM, FALSE_FORM, INTEGER_FORM, TRUE_FORM

# Forms beside those of :mod:`ftrl_engine.values`: no value, and what only a careful reader takes.
NULL_FORM, SLOW_FORM = -1, -2

_LONGEST_INTEGER = 18  # more digits may not fit 64 bits
_LONGEST_DECIMAL = 64  # such a one is finite if its exponent has at most two digits
_CLOSE, _CLOSE_LIST, _COMMA, _SPACE, _TAB = 125, 93, 44, 32, 9
_MINUS, _DOT, _SMALL_E, _DIGIT_0, _DIGIT_9 = 45, 46, 101, 48, 57


@inlined
def word_end(data: NDArray[np.uint8], i: int, hi: int) -> int:
    """The end of a bare word: a number, true, false or null."""
    while i < hi:
        byte = at(data, i)
        if byte == _COMMA or byte == _CLOSE or byte == _CLOSE_LIST or byte == _SPACE or byte == _TAB:
            break
        i += 1
    return i


@kernel
def _is_word(data: NDArray[np.uint8], lo: int, hi: int, word: np.uint64, length: int) -> bool:
    """Whether ``data[lo:hi]`` is the word given as little-endian bytes."""
    mask = (np.uint64(1) << np.uint64(8 * length)) - np.uint64(1)
    return hi - lo == length and (load64(data, lo) & mask) == word


_TRUE = np.uint64(int.from_bytes(b"true", "little"))
_FALSE = np.uint64(int.from_bytes(b"false", "little"))
_NULL = np.uint64(int.from_bytes(b"null", "little"))


@kernel
def form_of_word(data: NDArray[np.uint8], lo: int, hi: int) -> int:
    """The form of a bare word; SLOW_FORM where it is not one of the plain ones."""
    if lo == hi:
        return SLOW_FORM
    first = data[lo]
    if first == _MINUS or _DIGIT_0 <= first <= _DIGIT_9:
        digits = lo + 1 if first == _MINUS else lo
        if digits == hi or data[digits] < _DIGIT_0 or data[digits] > _DIGIT_9:
            return SLOW_FORM
        found = scan_number(data, lo, hi)
        leading_zero = (
            data[digits] == _DIGIT_0 and digits + 1 < hi and _DIGIT_0 <= data[digits + 1] <= _DIGIT_9
        )
        if found == INTEGER and not leading_zero and hi - digits <= _LONGEST_INTEGER:
            negative_zero = first == _MINUS and data[digits] == _DIGIT_0
            return SLOW_FORM if negative_zero else INTEGER_FORM
        if (found == DECIMAL or found == EXPONENT) and not leading_zero and _is_plain_decimal(data, lo, hi):
            return DECIMAL_FORM
        return SLOW_FORM
    if _is_word(data, lo, hi, _TRUE, 4):
        return TRUE_FORM
    if _is_word(data, lo, hi, _FALSE, 5):
        return FALSE_FORM
    if _is_word(data, lo, hi, _NULL, 4):
        return NULL_FORM
    return SLOW_FORM


@kernel
def _is_plain_decimal(data: NDArray[np.uint8], lo: int, hi: int) -> bool:
    """Whether a decimal has no bare point, as JSON asks, and is certainly finite."""
    exponent = hi
    for i in range(lo, hi):
        if data[i] == _DOT and not (i + 1 < hi and _DIGIT_0 <= data[i + 1] <= _DIGIT_9):
            return False
        if data[i] | 32 == _SMALL_E:
            signed = data[i + 1] < _DIGIT_0
            exponent = i + (2 if signed else 1)
    return hi - lo <= _LONGEST_DECIMAL and hi - exponent <= 2


@inlined
def is_last(data: NDArray[np.uint8], lo: int, end: int, hi: int) -> bool:
    """Whether ``data[lo:end]`` is not empty and a comma or a brace follows."""
    after = at(data, end)
    return bool(lo < end < hi and (after == _COMMA or after == _CLOSE))


@inlined
def is_short_integer(data: NDArray[np.uint8], lo: int, end: int, hi: int) -> bool:
    """Whether the digits ``data[lo:end]`` are a whole number that a comma or a brace follows."""
    return is_last(data, lo, end, hi) and bool(at(data, lo) != _DIGIT_0 or end == lo + 1)
