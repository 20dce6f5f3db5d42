"""Decimal text to the nearest float64, for texts that the short way in `numbers` does not take.

The C library's reader rounds correctly, but it reads on past the end of a text and knows only
the decimal point of the process's locale. So it is given a copy without a point: ``12.5e3``
becomes ``125e+000002``.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import put, stack_text, strtod
from ftrl_engine.jit import COMPILED, kernel

# At most 767 digits decide how a decimal is rounded; one digit 1 stands for all that follow.
_MOST_DIGITS = 800
# Beyond it everything is 0 or infinite, whatever the digits.
_LARGEST_EXPONENT = 100_000
_MOST_EXPONENT_TEXT = 1 << 40

_ZERO, _ONE, _PLUS, _MINUS, _DOT, _SMALL_E = 48, 49, 43, 45, 46, 101


@kernel
def _read_exponent(data: NDArray[np.uint8], lo: int, hi: int) -> int:
    """The exponent whose text is ``data[lo:hi]``, or 0 where there is none."""
    negative = lo < hi and data[lo] == _MINUS
    exponent = np.int64(0)
    for i in range(lo, hi):
        if data[i] >= _ZERO and exponent < _MOST_EXPONENT_TEXT:
            exponent = exponent * 10 + np.int64(data[i]) - _ZERO
    return int(-exponent if negative else exponent)


@kernel
def _copy_digits(data: NDArray[np.uint8], lo: int, hi: int, text: int) -> tuple[int, int]:
    """Write sign and digits to the address ``text``; returns (length, exponent of the last digit)."""
    length, digits, exponent = 0, 0, 0
    after_point, more = 0, 0
    i = lo
    while i < hi and data[i] | 32 != _SMALL_E:
        byte = np.int64(data[i])
        i += 1
        if byte == _DOT:
            after_point = 1
        elif byte == _ZERO and digits == 0:
            exponent -= after_point
        elif digits < _MOST_DIGITS:
            put(text + length, byte)
            length += 1
            if byte >= _ZERO:
                digits += 1
                exponent -= after_point
        else:
            more |= byte != _ZERO
            exponent += 1 - after_point
    if more or digits == 0:
        put(text + length, _ONE if more else _ZERO)
        length += 1
        exponent -= more
    return length, exponent + _read_exponent(data, i + 1, hi)


@kernel
def _read_compiled(data: NDArray[np.uint8], lo: int, hi: int) -> float:
    text = stack_text()
    length, exponent = _copy_digits(data, lo, hi, text)
    exponent = min(max(exponent, -_LARGEST_EXPONENT), _LARGEST_EXPONENT)
    put(text + length, _SMALL_E)
    put(text + length + 1, _MINUS if exponent < 0 else _PLUS)
    rest = abs(exponent)
    for place in range(6, 0, -1):
        put(text + length + 1 + place, _ZERO + rest % 10)
        rest //= 10
    put(text + length + 8, 0)
    return float(strtod(text))


def _read_plainly(data: NDArray[np.uint8], lo: int, hi: int) -> float:
    return float(bytes(data[lo:hi]))


# The float64 nearest to the decimal number ``data[lo:hi]``, whose grammar was checked: 0 or
# infinite where it is out of range. No byte outside the text is read.
read_decimal = _read_compiled if COMPILED else _read_plainly
