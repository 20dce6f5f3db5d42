"""JSON lines: one object a line.

The fast path takes objects of text without escapes, numbers, truth values, null, and lists
of text and whole numbers. Everything else (escapes, nesting, decimals as tokens, a key that
occurs twice, anything malformed) is decoded by msgspec and gives the same slots, or a reason.
"""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from ftrl_engine.counted_values import add_counted_value
from ftrl_engine.errors import DataError
from ftrl_engine.events import EventEncoder
from ftrl_engine.intrinsics import at, load64
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.json_keys import (
    KEY_FACTS,
    KEY_FIELD,
    KEY_WAY,
    Keys,
    find_key,
    make_keys,
    start_object,
)
from ftrl_engine.naming import Feature
from ftrl_engine.numbers import DECIMAL, EXPONENT, INTEGER, digit_count, scan_number
from ftrl_engine.plan import LABEL, NUMBER, TOKEN, TOKENS, WEIGHT, Plan
from ftrl_engine.rows import finish, finish_given, needs_owners
from ftrl_engine.schema import Schema
from ftrl_engine.sink import BAD_SYNTAX, OK, REASONS, Sink, begin, cell_count, has_room, refuse, set_cells
from ftrl_engine.text import skip_space, string_end, text_problem
from ftrl_engine.values import (
    DECIMAL_FORM,
    FALSE_FORM,
    INTEGER_FORM,
    TEXT,
    TRUE_FORM,
    WORD,
    add_value,
    kind_of,
)
from streams.codecs.base import Codec
from streams.source import Block

_NULL_FORM, _LIST_FORM, _SLOW_FORM = -1, -2, -3
_LONGEST_INTEGER = 18  # more digits may not fit 64 bits
_LONGEST_DECIMAL = 64  # such a one is finite if its exponent has at most two digits
_QUOTE, _BACKSLASH, _OPEN, _CLOSE, _COMMA = 34, 92, 123, 125, 44
_OPEN_LIST, _CLOSE_LIST, _MINUS, _DIGIT_0, _DIGIT_9, _SPACE, _TAB = 91, 93, 45, 48, 57, 32, 9
_DOT, _SMALL_E = 46, 101


class JsonlCodec(Codec):
    """One JSON object a record."""

    def __init__(self, schema: Schema, bits: int, need_label: bool) -> None:
        super().__init__(schema, bits, need_label)
        self._events = EventEncoder(self.plan)
        self._decode = msgspec.json.Decoder().decode
        self._why: dict[int, str] = {}
        self._keys = make_keys()

    def prepare(self, block: Block) -> int:
        self._why.clear()
        return 0

    def fill(self, block: Block, first: int, last: int, sink: Sink, check: bool) -> int:
        record = first
        while True:
            record, slow = encode_json(
                block.data, block.starts, block.ends, record, last, check, self.need_label,
                self._keys, self.plan, sink,
            )  # fmt: skip
            if not slow:
                return record
            self._add_slowly(block, record, sink)
            record += 1

    def _add_slowly(self, block: Block, record: int, sink: Sink) -> None:
        try:
            event: Any = self._decode(block.record(record))
            self._events.add(event, sink, record, self.need_label)
        except (msgspec.DecodeError, DataError, UnicodeError, RecursionError) as error:
            self._why[record] = str(error) or type(error).__name__
            refuse(sink, record, BAD_SYNTAX)

    def describe(self, block: Block, record: int, reason: int) -> str:
        if reason != BAD_SYNTAX:
            return REASONS[reason]
        return f"not a JSON event: {self._why[record]}"

    def features(self, block: Block, record: int) -> list[Feature]:
        return self.namer.of_event(self._decode(block.record(record)))


def codec(schema: Schema, bits: int, need_label: bool) -> JsonlCodec:
    return JsonlCodec(schema, bits, need_label)


@inlined
def _word_end(data: NDArray[np.uint8], i: int, hi: int) -> int:
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
def _form_of_word(data: NDArray[np.uint8], lo: int, hi: int) -> int:
    """The form of a bare word; _SLOW_FORM where it is not one of the plain ones."""
    if lo == hi:
        return _SLOW_FORM
    first = data[lo]
    if first == _MINUS or _DIGIT_0 <= first <= _DIGIT_9:
        digits = lo + 1 if first == _MINUS else lo
        if digits == hi or data[digits] < _DIGIT_0 or data[digits] > _DIGIT_9:
            return _SLOW_FORM
        found = scan_number(data, lo, hi)
        leading_zero = (
            data[digits] == _DIGIT_0 and digits + 1 < hi and _DIGIT_0 <= data[digits + 1] <= _DIGIT_9
        )
        if found == INTEGER and not leading_zero and hi - digits <= _LONGEST_INTEGER:
            negative_zero = first == _MINUS and data[digits] == _DIGIT_0
            return _SLOW_FORM if negative_zero else INTEGER_FORM
        if (found == DECIMAL or found == EXPONENT) and not leading_zero and _is_plain_decimal(data, lo, hi):
            return DECIMAL_FORM
        return _SLOW_FORM
    if _is_word(data, lo, hi, _TRUE, 4):
        return TRUE_FORM
    if _is_word(data, lo, hi, _FALSE, 5):
        return FALSE_FORM
    if _is_word(data, lo, hi, _NULL, 4):
        return _NULL_FORM
    return _SLOW_FORM


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
def _is_short_integer(data: NDArray[np.uint8], lo: int, end: int, hi: int) -> bool:
    """Whether the digits ``data[lo:end]`` are a whole number that a comma or a brace follows."""
    after = at(data, end)
    return bool(
        lo < end < hi and (after == _COMMA or after == _CLOSE) and (at(data, lo) != _DIGIT_0 or end == lo + 1)
    )


@kernel
def _add_list(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, data: NDArray[np.uint8], i: int, hi: int
) -> int:
    """Add the values of a list that starts after its bracket; the index after it, or -1 for the slow path."""
    kind = kind_of(plan, field)
    if kind == LABEL or kind == WEIGHT or kind == NUMBER:
        return -1
    i = skip_space(data, i, hi)
    if i < hi and data[i] == _CLOSE_LIST:
        return i + 1
    while i < hi:
        if data[i] == _QUOTE:
            lo = i + 1
            end = string_end(data, lo, hi)
            i = end + 1
            form = WORD if end < hi else _SLOW_FORM
        else:
            lo = i
            end = _word_end(data, lo, hi)
            i = end
            form = _form_of_word(data, lo, end)
        if form == _SLOW_FORM or form == DECIMAL_FORM:
            return -1
        if form != _NULL_FORM:
            add_value(plan, sink, field, salt, WORD, data, lo, end)
        i = skip_space(data, i, hi)
        if i < hi and data[i] == _CLOSE_LIST:
            return i + 1
        if i >= hi or data[i] != _COMMA:
            return -1
        i = skip_space(data, i + 1, hi)
    return -1


@inlined
def _encode_object(
    plan: Plan, sink: Sink, data: NDArray[np.uint8], i: int, hi: int, keys: Keys
) -> tuple[bool, np.uint64]:
    """Add the fields of the object at ``i``; False sends the record to the slow path.

    Also returns which fields have a value, as :func:`ftrl_engine.rows.finish_given` takes it.
    """
    given = np.uint64(0)
    i = skip_space(data, i, hi)
    if i >= hi or at(data, i) != _OPEN:
        return False, given
    i = skip_space(data, i + 1, hi)
    key, cells = 0, 0
    start_object(keys)
    while i < hi and at(data, i) == _QUOTE:
        key, i = find_key(keys, plan, key, data, i + 1, hi)
        if key < 0:
            return False, given
        facts = KEY_FACTS * key
        field, way = at(keys.facts, facts + KEY_FIELD), at(keys.facts, facts + KEY_WAY)
        i = skip_space(data, i, hi)
        before = cells
        if at(data, i) == _QUOTE:
            lo = i + 1
            end = string_end(data, lo, hi)
            form = TEXT if end < hi else _SLOW_FORM
            i = end + 1
        elif at(data, i) == _OPEN_LIST:
            set_cells(sink, cells)
            i = _add_list(plan, sink, field, at(keys.salts, key), data, i + 1, hi)
            cells = cell_count(sink)
            form = _LIST_FORM if i > 0 else _SLOW_FORM
        else:
            lo = i
            # Short whole numbers occur most, and where they end cannot be foreseen.
            end = lo + digit_count(data, lo)
            form = INTEGER_FORM
            if not _is_short_integer(data, lo, end, hi):
                end = _word_end(data, lo, hi)
                form = _form_of_word(data, lo, end)
            i = end
        if form == _SLOW_FORM:
            return False, given
        if form == DECIMAL_FORM:
            kind = kind_of(plan, field)
            if kind == TOKEN or kind == TOKENS:
                return False, given
        if form >= 0:
            cells = add_counted_value(plan, sink, cells, way, field, at(keys.salts, key), form, data, lo, end)
        given |= np.uint64(cells != before) << np.uint64(field & 63)
        key += 1
        if i + 1 < hi and at(data, i) == _COMMA and at(data, i + 1) == _QUOTE:
            i += 1
            continue
        i = skip_space(data, i, hi)
        if i >= hi or at(data, i) != _COMMA:
            break
        i = skip_space(data, i + 1, hi)
        if i >= hi or at(data, i) != _QUOTE:
            return False, given
    set_cells(sink, cells)
    return i < hi and at(data, i) == _CLOSE and skip_space(data, i + 1, hi) == hi, given


@kernel
def encode_json(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], first: int, last: int,
    check: bool, need_label: bool, keys: Keys, plan: Plan, sink: Sink,
) -> tuple[int, bool]:  # fmt: skip
    """Encode records until one needs the slow path, (r, True), or none fits or is left, (r, False)."""
    owned = needs_owners(plan)
    for r in range(first, last):
        if not has_room(sink):
            return r, False
        problem = text_problem(data, starts[r], ends[r]) if check else OK
        if problem != OK:
            refuse(sink, r, problem)
            continue
        begin(sink)
        plain, given = _encode_object(plan, sink, data, starts[r], ends[r], keys)
        if not plain:
            return r, True
        if owned:
            finish(plan, sink, r, need_label)
        else:
            finish_given(plan, sink, r, need_label, given)
    return last, False
