"""Decimal text to float64, and the transforms of number fields.

Transforms of a number x (a field with kind ``number``):

- ``none``        one feature with value x
- ``log1p``       one feature with value sign(x) log(1 + |x|)
- ``log_bucket``  one feature per bucket: whole numbers in [-2, 2] stand for themselves,
                  larger ones for sign(x) floor(ln(|x|)^2), other fractions in (-2, 2) for
                  floor(2 log2 |x|), half an octave
- ``bins``        one feature per interval between the given edges
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.decimals import read_decimal
from ftrl_engine.intrinsics import at, load64, trailing_zeros
from ftrl_engine.jit import inlined, kernel

# What `scan_number` finds. Digits, an unsigned exponent and no point (12e7) are EXPONENT: no
# program writes a number so, but many hexadecimal identifiers look like it.
NOT_A_NUMBER, INTEGER, DECIMAL, EXPONENT = range(4)

_ZERO, _NINE = 48, 57
_PLUS, _MINUS, _DOT, _E, _SMALL_E = 43, 45, 46, 69, 101
_EXACT_DIGITS = 15  # an integer of so many digits, and the powers below, are exact in float64
_EXACT_POWERS = np.array([10.0**i for i in range(23)])

_ZEROS, _SIGNS = np.uint64(0x3030303030303030), np.uint64(0x8080808080808080)
_TO_SIGN = np.uint64(0x4646464646464646)  # lifts what is above 9 to the sign bit
_NIBBLES, _PAIRS, _QUADS = (
    np.uint64(x) for x in (0x0F0F0F0F0F0F0F0F, 0x00FF00FF00FF00FF, 0x0000FFFF0000FFFF)
)


@inlined
def _digits(data: NDArray[np.uint8], i: int, hi: int) -> int:
    """The first index from ``i`` on that holds no digit."""
    while i < hi and _ZERO <= data[i] <= _NINE:
        i += 1
    return i


@kernel
def scan_number(data: NDArray[np.uint8], lo: int, hi: int) -> int:
    """What ``data[lo:hi]`` is; numbers are [+-]digits[.digits][e[+-]digits]."""
    i = lo
    if i < hi and (data[i] == _MINUS or data[i] == _PLUS):
        i += 1
    whole = _digits(data, i, hi)
    count = whole - i
    if whole == hi:
        return INTEGER if count > 0 else NOT_A_NUMBER
    i = whole
    plain = data[i] != _DOT
    if not plain:
        end = _digits(data, i + 1, hi)
        count += end - i - 1
        i = end
    if count == 0:
        return NOT_A_NUMBER
    if i < hi and (data[i] == _E or data[i] == _SMALL_E):
        i += 1
        if i < hi and (data[i] == _MINUS or data[i] == _PLUS):
            plain = False
            i += 1
        end = _digits(data, i, hi)
        if end == i:
            return NOT_A_NUMBER
        i = end
    if i < hi:
        return NOT_A_NUMBER
    return EXPONENT if plain else DECIMAL


@kernel
def _parse_any_number(data: NDArray[np.uint8], lo: int, hi: int) -> float:
    if scan_number(data, lo, hi) == NOT_A_NUMBER:
        return np.nan
    x = read_decimal(data, lo, hi)
    return x if math.isfinite(x) else np.nan


@inlined
def parse_number(data: NDArray[np.uint8], lo: int, hi: int) -> float:
    """The float64 nearest to the decimal text ``data[lo:hi]``; NaN where it is none or not finite."""
    i = lo
    negative = i < hi and data[i] == _MINUS
    if negative:
        i += 1
    mantissa = np.int64(0)
    digits = 0
    point = -1
    while i < hi and digits < _EXACT_DIGITS:
        byte = data[i]
        if _ZERO <= byte <= _NINE:
            mantissa = mantissa * 10 + (np.int64(byte) - _ZERO)
            digits += 1
        elif byte == _DOT and point < 0:
            point = i
        else:
            break
        i += 1
    if i == hi and digits > 0:
        # Both are exact in float64, so one division rounds correctly (Clinger 1990).
        x = float(mantissa)
        if point >= 0:
            x = x / _EXACT_POWERS[hi - point - 1]
        return -x if negative else x
    return _parse_any_number(data, lo, hi)


@kernel
def read_number(data: NDArray[np.uint8], lo: int, hi: int) -> float:
    """As :func:`parse_number`, not merged into its callers."""
    return parse_number(data, lo, hi)


@inlined
def plain_decimal(data: NDArray[np.uint8], lo: int, hi: int) -> tuple[int, float]:
    """The number [-]digits.digits of at most 15 digits at ``lo``, as JSON writes it, and where it ends.

    Where there is none, it ends at ``lo``; what follows may be more digits. The number is the one that
    :func:`parse_number` finds.
    """
    first = lo + (lo < hi and at(data, lo) == _MINUS)
    mantissa = np.int64(0)
    point = first
    i = first
    while i < hi and i <= first + _EXACT_DIGITS:
        byte = at(data, i)
        if _ZERO <= byte <= _NINE:
            mantissa = mantissa * 10 + (np.int64(byte) - _ZERO)
        elif byte == _DOT and point == first and i > first:
            point = i
        else:
            break
        i += 1
    if point == first or point == i - 1 or (at(data, first) == _ZERO and point != first + 1):
        return lo, 0.0
    x = float(mantissa) / at(_EXACT_POWERS, i - point - 1)
    return i, -x if first > lo else x


@inlined
def digit_count(data: NDArray[np.uint8], i: int) -> int:
    """How many of the eight bytes from ``i`` on are digits, up to the first that is none."""
    word = load64(data, i)
    # The lowest sign is exact; higher ones may be carries, which do not matter.
    return int(trailing_zeros(((word + _TO_SIGN) | (word - _ZEROS)) & _SIGNS) >> 3)


@inlined
def short_whole(data: NDArray[np.uint8], lo: int, hi: int) -> int:
    """The number of one to eight digits that ``data[lo:hi]`` is, else -1; reads eight bytes from ``lo`` on.

    Eight digits are read as one word whose halves are joined three times (D. Lemire's form).
    """
    length = hi - lo
    if length < 1 or length > 8:
        return -1
    return _eight_digits(_filled_up(data, lo, length))


@inlined
def short_whole_or_empty(data: NDArray[np.uint8], lo: int, hi: int) -> int:
    """As :func:`short_whole`, and 0 for an empty text, without a branch for it."""
    length = hi - lo
    if length > 8:
        return -1
    word = _filled_up(data, lo, length)
    return _eight_digits(_ZEROS if length == 0 else word)


@inlined
def _filled_up(data: NDArray[np.uint8], lo: int, length: int) -> np.uint64:
    """The first ``length`` bytes, one to eight, with zeros before them."""
    shift = np.uint64(64 - 8 * length)
    word: np.uint64 = (load64(data, lo) << shift) | ((_ZEROS >> np.uint64(8)) >> (np.uint64(56) - shift))
    return word


@inlined
def _eight_digits(word: np.uint64) -> int:
    """The number that eight digits are, else -1."""
    if ((word + _TO_SIGN) | (word - _ZEROS)) & _SIGNS != np.uint64(0):
        return -1
    word = ((word & _NIBBLES) * np.uint64(2561)) >> np.uint64(8)
    word = ((word & _PAIRS) * np.uint64(6553601)) >> np.uint64(16)
    return int(np.int64(((word & _QUADS) * np.uint64(42949672960001)) >> np.uint64(32)))


@inlined
def signed_log1p(x: float) -> float:
    """sign(x) log(1 + |x|)."""
    return math.copysign(math.log1p(abs(x)), x)


@inlined
def log_bucket(x: float) -> np.int64:
    """The bucket of a finite x; each of the three ranges has bucket numbers of its own."""
    size = abs(x)
    if size <= 2.0 and size == math.floor(size):
        bucket = np.int64(size)
    elif size > 2.0:
        root = math.log(size)
        bucket = 3 + np.int64(math.floor(root * root))
    else:
        # Doubles reach down to 2**-1074, so these stay above -2200.
        bucket = -10 + np.int64(math.floor(2.0 * math.log2(size)))
        return bucket if x > 0 else bucket - 4096
    return bucket if x >= 0 else -bucket - 1_000_000


# The buckets of the whole numbers that occur most, so that they need no logarithm.
SMALL_BUCKETS = np.array(
    [x if x <= 2 else 3 + math.floor(math.log(x) * math.log(x)) for x in range(4096)], dtype=np.int16
)
# One more than the largest of them.
BUCKETS_END = int(SMALL_BUCKETS.max()) + 1


@inlined
def bucket_of_whole(x: int) -> np.int64:
    """``log_bucket(x)`` of a whole number x >= 0."""
    if x < len(SMALL_BUCKETS):
        return np.int64(at(SMALL_BUCKETS, x))
    return log_bucket(float(x))


@kernel
def bin_of(x: float, edges: NDArray[np.float64], lo: int, hi: int) -> int:
    """How many of the sorted ``edges[lo:hi]`` are <= x."""
    left, right = lo, hi
    while left < right:
        middle = (left + right) >> 1
        if edges[middle] <= x:
            left = middle + 1
        else:
            right = middle
    return left - lo
