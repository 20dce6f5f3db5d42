"""The objects of a request from bytes to values, the fast way.

It takes objects of text without escapes, numbers, truth values, null, and lists of text and whole
numbers. Everything else (escapes, nesting, a key that occurs twice, anything malformed or above a
limit) is left to :mod:`serving.request_values`, which gives the same values or says what is wrong.

Candidates mostly have the same keys in the same order, so each key is compared with the one at the
same place of the object before, and only another one is hashed.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.hashing import xxh64
from ftrl_engine.intrinsics import at, load32, load64, put_at, string_mask, trailing_zeros
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.values import FALSE_FORM, INTEGER_FORM, TEXT, TRUE_FORM, WORD
from serving.request_arrays import MISSING, RAW_DECIMAL, Scan, Values

# Bytes that must be writable after the request; zeros there end every scan.
ROOM = 64
# Stamps of the keys of an object, by the lowest bits of their hashes.
KEY_CELLS = 4096
MAX_FAST_KEYS = 1024
SLOW_FORM = -3
_LONGEST_INTEGER = 18  # more digits may not fit 64 bits
_LONGEST_DECIMAL = 64  # such a one is finite if its exponent has at most two digits
QUOTE, OPEN, CLOSE, OPEN_LIST, CLOSE_LIST, COLON, COMMA = 34, 123, 125, 91, 93, 58, 44
_MINUS, _PLUS, _DOT, _ZERO, _NINE, _SMALL_E = 45, 43, 46, 48, 57, 101
SPACE, _TAB, _LINE, _RETURN = 32, 9, 10, 13

_TRUE, _ALSE, _NULL = (np.uint32(int.from_bytes(word, "little")) for word in (b"true", b"alse", b"null"))


@kernel
def _skip_spaces(data: NDArray[np.uint8], i: int) -> int:
    while data[i] == SPACE or data[i] == _LINE or data[i] == _RETURN or data[i] == _TAB:
        i += 1
    return i


@inlined
def skip_space(data: NDArray[np.uint8], i: int) -> int:
    return i if at(data, i) > SPACE else _skip_spaces(data, i)


@inlined
def string_end(data: NDArray[np.uint8], i: int) -> int:
    """The index of the first quote, backslash or control byte from ``i`` on."""
    found = string_mask(data, i)
    while found == np.uint32(0):
        i += 32
        found = string_mask(data, i)
    return i + trailing_zeros(np.uint64(found))


@inlined
def _digits(data: NDArray[np.uint8], i: int) -> int:
    while _ZERO <= data[i] <= _NINE:
        i += 1
    return i


@inlined
def bare_word(data: NDArray[np.uint8], lo: int) -> tuple[int, int]:
    """(end, form) of the number, true, false or null at ``lo``; form SLOW_FORM where it is none."""
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
        return end, SLOW_FORM
    if data[end] != _DOT and data[end] | 32 != _SMALL_E:
        negative_zero = first > lo and data[first] == _ZERO
        return end, SLOW_FORM if negative_zero or end - first > _LONGEST_INTEGER else INTEGER_FORM
    if data[end] == _DOT:
        after = _digits(data, end + 1)
        if after == end + 1:
            return after, SLOW_FORM
        end = after
    exponent = 0
    if data[end] | 32 == _SMALL_E:
        start = end + 2 if data[end + 1] == _PLUS or data[end + 1] == _MINUS else end + 1
        end = _digits(data, start)
        exponent = end - start
        if exponent == 0:
            return end, SLOW_FORM
    return end, SLOW_FORM if end - lo > _LONGEST_DECIMAL or exponent > 2 else RAW_DECIMAL


@inlined
def _put(values: Values, count: int, key: int, form: int, lo: int, hi: int) -> None:
    put_at(values.keys, count, key)
    put_at(values.forms, count, form)
    put_at(values.starts, count, lo)
    put_at(values.ends, count, hi)


@inlined
def _is_at(data: NDArray[np.uint8], lo: int, before: int, end: int) -> bool:
    """Whether what stands in ``data[before:end]`` stands at ``lo`` too; reads on for seven bytes."""
    while before + 8 < end:
        if load64(data, lo) != load64(data, before):
            return False
        lo += 8
        before += 8
    differing = (load64(data, lo) ^ load64(data, before)) << np.uint64(64 - 8 * (end - before))
    return bool(differing == np.uint64(0))


@inlined
def _expected(data: NDArray[np.uint8], scan: Scan, place: int, last: int, lo: int) -> int:
    """The key at ``place`` or the one after it, below ``last``, that stands at ``lo`` too; or -1."""
    if place < last and _is_at(data, lo, at(scan.starts, place), at(scan.ends, place) + 1):
        return place
    # An object may lack a key that the one before has.
    place += 1
    if place < last and _is_at(data, lo, at(scan.starts, place), at(scan.ends, place) + 1):
        return place
    return -1


@kernel
def _note_keys(salts: NDArray[np.uint64], scan: Scan, first: int, last: int) -> None:
    """Note the keys of an object so far, which are all different."""
    stamps = scan.stamps
    stamps[0] += 1
    for k in range(first, last):
        stamps[1 + np.int64(salts[scan.numbers[k]] & np.uint64(KEY_CELLS - 1))] = stamps[0]


@inlined
def _is_known(values: Values, scan: Scan, first: int, last: int, salt: np.uint64) -> bool:
    """Whether the object whose keys begin at ``first`` has the key already; notes it."""
    stamps = scan.stamps
    cell = 1 + np.int64(salt & np.uint64(KEY_CELLS - 1))
    if stamps[cell] == stamps[0]:
        for k in range(first, last):
            if values.salts[scan.numbers[k]] == salt:
                return True
    stamps[cell] = stamps[0]
    return False


@kernel
def _scan_list(
    data: NDArray[np.uint8], i: int, keys: NDArray[np.int64], forms: NDArray[np.int64],
    starts: NDArray[np.int64], ends: NDArray[np.int64], key: int, count: int,
) -> tuple[int, int]:  # fmt: skip
    """(the index after the list whose items begin at ``i``, or -1; the values there are then)."""
    # The list itself hides the context's value, even where it is empty.
    keys[count], forms[count], starts[count], ends[count] = key, MISSING, i, i
    count += 1
    i = skip_space(data, i)
    if data[i] == CLOSE_LIST:
        return i + 1, count
    while count < len(forms):
        lo = i
        if data[i] == QUOTE:
            lo = i + 1
            end = string_end(data, lo)
            form = WORD if data[end] == QUOTE else SLOW_FORM
            i = end + 1
        else:
            end, form = bare_word(data, lo)
            i = end
        if form == SLOW_FORM or form == RAW_DECIMAL:
            return -1, count
        if form != MISSING:
            keys[count], forms[count], starts[count], ends[count] = key, WORD, lo, end
            count += 1
        i = skip_space(data, i)
        if data[i] == CLOSE_LIST:
            return i + 1, count
        if data[i] != COMMA:
            return -1, count
        i = skip_space(data, i + 1)
    return -1, count


@inlined
def _scan_value(values: Values, i: int, count: int, key: int) -> tuple[int, int]:
    """(the index after the value at ``i``, or -1; the values there are then)."""
    data = values.data
    if data[i] == OPEN_LIST:
        return _scan_list(data, i + 1, values.keys, values.forms, values.starts, values.ends, key, count)
    lo = i
    if data[i] == QUOTE:
        lo = i + 1
        end = string_end(data, lo)
        form = TEXT if data[end] == QUOTE else SLOW_FORM
        i = end + 1
    else:
        end, form = bare_word(data, lo)
        i = end
    if form == SLOW_FORM:
        return -1, count
    _put(values, count, key, form, lo, end)
    return i, count + 1


@inlined
def scan_object(
    values: Values, scan: Scan, i: int, count: int, place: int, before: int, numbers: int
) -> tuple[int, int, int, int]:
    """(the index after the object at ``i``, or -1; values, places of keys and numbers that there are then).

    At the places from ``before`` to ``place`` are the keys of the object before, all different. So keys
    that follow each other there need no look at the others; all are noted as soon as another one is met.
    """
    data, first, noted = values.data, place, False
    if data[i] != OPEN:
        return -1, count, place, numbers
    i = skip_space(data, i + 1)
    if data[i] == CLOSE:
        return i + 1, count, place, numbers
    # A new number takes a place, so this bounds both.
    last = min(len(scan.starts), first + MAX_FAST_KEYS)
    while data[i] == QUOTE and count < len(values.forms) and place < last:
        lo = i + 1
        same = _expected(data, scan, before, first, lo)
        if same >= 0:
            before = same + 1
            end = lo + at(scan.ends, same) - at(scan.starts, same)
            key = at(scan.numbers, same)
        else:
            end = string_end(data, lo)
            if data[end] != QUOTE:
                break
            key = numbers
            values.salts[key] = xxh64(data, lo, end, np.uint64(0))
            numbers += 1
            if not noted:
                _note_keys(values.salts, scan, first, place)
                noted = True
        if noted and _is_known(values, scan, first, place, at(values.salts, key)):
            break
        put_at(scan.starts, place, lo)
        put_at(scan.ends, place, end)
        put_at(scan.numbers, place, key)
        place += 1
        i = skip_space(data, end + 1)
        if data[i] != COLON:
            break
        i, count = _scan_value(values, skip_space(data, i + 1), count, key)
        if i < 0:
            break
        i = skip_space(data, i)
        if data[i] == CLOSE:
            return i + 1, count, place, numbers
        if data[i] != COMMA:
            break
        i = skip_space(data, i + 1)
    return -1, count, place, numbers
