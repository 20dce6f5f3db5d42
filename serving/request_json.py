"""The fast way from the bytes of a request to its values, in one compiled pass.

It takes ``{"context": {...}, "candidates": [{...}, ...]}`` in this order, either one left out,
whose objects hold text without escapes, numbers, truth values, null, and lists of text and
whole numbers. Everything else (escapes, nesting, other keys, a key that occurs twice, anything
malformed or above a limit) is left to :mod:`serving.request_values`, which gives the same values
or says what is wrong.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.hashing import xxh64
from ftrl_engine.intrinsics import load32, load64, trailing_zeros
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.values import FALSE_FORM, INTEGER_FORM, TEXT, TRUE_FORM, WORD
from serving.request_arrays import MISSING, RAW_DECIMAL, Values, recall

SLOW_REQUEST = -1
# Bytes that must be writable after the request; zeros there end every scan.
ROOM = 64
# Stamps of the keys of an object: cell 0 counts objects.
KEY_CELLS = 4096
MAX_FAST_KEYS = 1024
_SLOW = -3
_LONGEST_INTEGER = 18  # more digits may not fit 64 bits
_LONGEST_DECIMAL = 64  # such a one is finite if its exponent has at most two digits
_QUOTE, _OPEN, _CLOSE, _OPEN_LIST, _CLOSE_LIST, _COLON, _COMMA = 34, 123, 125, 91, 93, 58, 44
_MINUS, _PLUS, _DOT, _ZERO, _NINE, _SMALL_E = 45, 43, 46, 48, 57, 101
_SPACE, _TAB, _LINE, _RETURN = 32, 9, 10, 13

_ONES = np.uint64(0x0101010101010101)
_HIGH = np.uint64(0x8080808080808080)
_QUOTES = _ONES * np.uint64(_QUOTE)
_BACKSLASHES = _ONES * np.uint64(92)
_CONTROLS = _ONES * np.uint64(32)
_TRUE, _ALSE, _NULL = (np.uint32(int.from_bytes(word, "little")) for word in (b"true", b"alse", b"null"))
_CONTEXT, _CANDIDA = (np.uint64(int.from_bytes(word, "little")) for word in (b'"context', b'"candida'))
_TES = np.uint32(int.from_bytes(b'tes"', "little"))  # ends "candidates"


@inlined
def _skip_space(data: NDArray[np.uint8], i: int) -> int:
    while data[i] == _SPACE or data[i] == _LINE or data[i] == _RETURN or data[i] == _TAB:
        i += 1
    return i


@inlined
def _string_end(data: NDArray[np.uint8], i: int) -> int:
    """The index of the first quote, backslash or control byte from ``i`` on."""
    hits = np.uint64(0)
    while hits == np.uint64(0):
        x = load64(data, i)
        i += 8
        quotes, backslashes = x ^ _QUOTES, x ^ _BACKSLASHES
        # The lowest set high bit is exact; higher ones may be borrows, which do not matter.
        hits = (
            ((quotes - _ONES) & ~quotes) | ((backslashes - _ONES) & ~backslashes) | ((x - _CONTROLS) & ~x)
        ) & _HIGH
    i += (trailing_zeros(hits) >> 3) - 8
    return i


@inlined
def _digits(data: NDArray[np.uint8], i: int) -> int:
    while _ZERO <= data[i] <= _NINE:
        i += 1
    return i


@kernel
def _bare_word(data: NDArray[np.uint8], lo: int) -> tuple[int, int]:
    """(end, form) of the number, true, false or null at ``lo``; form _SLOW where it is none."""
    word = load32(data, lo)
    if word == _TRUE:
        return lo + 4, TRUE_FORM
    if word == _NULL:
        return lo + 4, MISSING
    if data[lo] == 102 and load32(data, lo + 1) == _ALSE:
        return lo + 5, FALSE_FORM
    first = lo + 1 if data[lo] == _MINUS else lo
    end = _digits(data, first)
    if end == first or (data[first] == _ZERO and end > first + 1):
        return end, _SLOW
    if data[end] != _DOT and data[end] | 32 != _SMALL_E:
        negative_zero = first > lo and data[first] == _ZERO
        return end, _SLOW if negative_zero or end - first > _LONGEST_INTEGER else INTEGER_FORM
    if data[end] == _DOT:
        after = _digits(data, end + 1)
        if after == end + 1:
            return after, _SLOW
        end = after
    exponent = 0
    if data[end] | 32 == _SMALL_E:
        start = end + 2 if data[end + 1] == _PLUS or data[end + 1] == _MINUS else end + 1
        end = _digits(data, start)
        exponent = end - start
        if exponent == 0:
            return end, _SLOW
    return end, _SLOW if end - lo > _LONGEST_DECIMAL or exponent > 2 else RAW_DECIMAL


@inlined
def _put(values: Values, count: int, salt: np.uint64, form: int, lo: int, hi: int) -> None:
    values.salts[count] = salt
    values.forms[count] = form
    values.starts[count] = lo
    values.ends[count] = hi


@inlined
def _is_known(values: Values, keys: NDArray[np.int64], first: int, count: int, salt: np.uint64) -> bool:
    """Whether the object whose values begin at ``first`` has the key already; notes it."""
    cell = 1 + np.int64(salt & np.uint64(KEY_CELLS - 1))
    if keys[cell] == keys[0]:
        for k in range(first, count):
            if values.salts[k] == salt:
                return True
    keys[cell] = keys[0]
    return False


@kernel
def _scan_list(
    data: NDArray[np.uint8], i: int, salts: NDArray[np.uint64], forms: NDArray[np.int64],
    starts: NDArray[np.int64], ends: NDArray[np.int64], salt: np.uint64, count: int,
) -> tuple[int, int]:  # fmt: skip
    """(the index after the list whose items begin at ``i``, or -1; the values there are then)."""
    # The list itself hides the context's value, even where it is empty.
    salts[count], forms[count], starts[count], ends[count] = salt, MISSING, i, i
    count += 1
    i = _skip_space(data, i)
    if data[i] == _CLOSE_LIST:
        return i + 1, count
    while count < len(forms):
        lo = i
        if data[i] == _QUOTE:
            lo = i + 1
            end = _string_end(data, lo)
            form = WORD if data[end] == _QUOTE else _SLOW
            i = end + 1
        else:
            end, form = _bare_word(data, lo)
            i = end
        if form == _SLOW or form == RAW_DECIMAL:
            return -1, count
        if form != MISSING:
            salts[count], forms[count], starts[count], ends[count] = salt, WORD, lo, end
            count += 1
        i = _skip_space(data, i)
        if data[i] == _CLOSE_LIST:
            return i + 1, count
        if data[i] != _COMMA:
            return -1, count
        i = _skip_space(data, i + 1)
    return -1, count


@inlined
def _scan_object(values: Values, keys: NDArray[np.int64], i: int, count: int) -> tuple[int, int]:
    """(the index after the object at ``i``, or -1; the values there are then)."""
    data = values.data
    if data[i] != _OPEN:
        return -1, count
    i = _skip_space(data, i + 1)
    if data[i] == _CLOSE:
        return i + 1, count
    keys[0] += 1
    first = count
    while data[i] == _QUOTE and count < len(values.forms) and count - first < MAX_FAST_KEYS:
        lo = i + 1
        end = _string_end(data, lo)
        salt = xxh64(data, lo, end, np.uint64(0))
        i = _skip_space(data, end + 1)
        if data[end] != _QUOTE or data[i] != _COLON or _is_known(values, keys, first, count, salt):
            return -1, count
        i = _skip_space(data, i + 1)
        if data[i] == _OPEN_LIST:
            i, count = _scan_list(
                data, i + 1, values.salts, values.forms, values.starts, values.ends, salt, count
            )
            if i < 0:
                return -1, count
        else:
            lo = i
            if data[i] == _QUOTE:
                lo = i + 1
                end = _string_end(data, lo)
                form = TEXT if data[end] == _QUOTE else _SLOW
                i = end + 1
            else:
                end, form = _bare_word(data, lo)
                i = end
            if form == _SLOW:
                return -1, count
            _put(values, count, salt, form, lo, end)
            count += 1
        i = _skip_space(data, i)
        if data[i] == _CLOSE:
            return i + 1, count
        if data[i] != _COMMA:
            return -1, count
        i = _skip_space(data, i + 1)
    return -1, count


@inlined
def _after_key(data: NDArray[np.uint8], i: int, start: np.uint64, more: int) -> int:
    """The index after a top-level key and its colon, or -1: eight bytes, ``more`` bytes, a quote."""
    quote = i + 8 + more
    if load64(data, i) != start or data[quote] != _QUOTE:
        return -1
    i = _skip_space(data, quote + 1)
    return _skip_space(data, i + 1) if data[i] == _COLON else -1


@inlined
def _enter_candidates(data: NDArray[np.uint8], i: int) -> int:
    """The index of the first thing in the list of candidates whose key is at ``i``, or -1."""
    inside = _after_key(data, i, _CANDIDA, 3)
    if inside < 0 or load32(data, i + 8) != _TES or data[inside] != _OPEN_LIST:
        return -1
    return _skip_space(data, inside + 1)


@kernel
def scan_request(words: NDArray[np.uint64], size: int) -> int:
    """Read the request in ``data[:size]``, which is valid UTF-8; its number of rows or SLOW_REQUEST.

    ``words`` are those of :data:`serving.request_arrays.KEPT`. At least ROOM bytes of ``data`` follow
    the request and are written. ``bounds`` has one cell more than candidates are allowed.
    """
    _, _, values, _, _, answer = recall(words)
    data, bounds, keys = values.data, values.bounds, answer.keys
    data[size : size + ROOM] = 0
    bounds[0] = 0
    rows, count = -1, 0  # row -1 is the context
    i = _skip_space(data, 0)
    if data[i] != _OPEN:
        return SLOW_REQUEST
    key = _skip_space(data, i + 1)
    i = _after_key(data, key, _CONTEXT, 0)
    if i < 0:
        i = _enter_candidates(data, key)
        rows = 0
    while True:
        if i < 0:
            return SLOW_REQUEST
        if rows == 0 and data[i] == _CLOSE_LIST:
            i += 1
            break
        i, count = _scan_object(values, keys, i, count)
        if i < 0:
            return SLOW_REQUEST
        bounds[rows + 1] = count
        i = _skip_space(data, i)
        if rows < 0:
            if data[i] != _COMMA:
                break
            i = _enter_candidates(data, _skip_space(data, i + 1))
            rows = 0
            continue
        rows += 1
        if data[i] == _CLOSE_LIST:
            i += 1
            break
        if data[i] != _COMMA or rows + 1 >= len(bounds):
            return SLOW_REQUEST
        i = _skip_space(data, i + 1)
    i = _skip_space(data, i)
    if data[i] != _CLOSE or _skip_space(data, i + 1) != size:
        return SLOW_REQUEST
    if rows < 0:
        # The context alone is one event: a row that adds nothing.
        bounds[1] = count
        rows = 1
    return rows
