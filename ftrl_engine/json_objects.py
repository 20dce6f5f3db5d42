"""JSON objects to rows, in one compiled pass.

It takes text without escapes, numbers, truth values, null, and lists of text and whole numbers.
Everything else (escapes, nesting, decimals as tokens, a key that occurs twice, anything malformed) is
left to the careful path, which gives the same slots or a reason: see :mod:`ftrl_engine.events`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.counted_values import AUTO_TEXT, BUCKET_TEXT, HASH_TEXT, add_counted_value, put_bucket
from ftrl_engine.hashing import MIN_BITS, xxh64_short
from ftrl_engine.intrinsics import at
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.json_keys import (
    KEY_FACTS,
    KEY_FIELD,
    KEY_WAY,
    Keys,
    bucket_hash,
    find_key,
    make_keys,
    start_object,
)
from ftrl_engine.json_words import NULL_FORM, SLOW_FORM, form_of_word, is_last, is_short_integer, word_end
from ftrl_engine.kept import Kept
from ftrl_engine.numbers import digit_count, plain_decimal, short_whole
from ftrl_engine.plan import LABEL, NUMBER, TOKEN, TOKENS, WEIGHT, Plan, make_plan
from ftrl_engine.rows import finish_given, needs_owners, settle_owners
from ftrl_engine.schema import Schema
from ftrl_engine.sink import (
    MAX_ROW_FEATURES,
    OK,
    Sink,
    begin,
    cell_count,
    has_room,
    make_sink,
    put_cell,
    refuse,
    set_cells,
)
from ftrl_engine.text import skip_space, string_end, text_problem
from ftrl_engine.values import DECIMAL_FORM, INTEGER_FORM, TEXT, WORD, add_value, kind_of

_ADDED_FORM = -3  # a value that is added already
_QUOTE, _OPEN, _CLOSE, _COMMA, _OPEN_LIST, _CLOSE_LIST = 34, 123, 125, 44, 91, 93


@kernel
def _add_list(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, data: NDArray[np.uint8], i: int, hi: int
) -> int:
    """Add the values of a list that starts after its bracket; the index after it, or -1: the careful path."""
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
            form = WORD if end < hi else SLOW_FORM
        else:
            lo = i
            end = word_end(data, lo, hi)
            i = end
            form = form_of_word(data, lo, end)
        if form == SLOW_FORM or form == DECIMAL_FORM:
            return -1
        if form != NULL_FORM:
            add_value(plan, sink, field, salt, WORD, data, lo, end)
        i = skip_space(data, i, hi)
        if i < hi and data[i] == _CLOSE_LIST:
            return i + 1
        if i >= hi or data[i] != _COMMA:
            return -1
        i = skip_space(data, i + 1, hi)
    return -1


@inlined
def _add_object(
    plan: Plan, sink: Sink, data: NDArray[np.uint8], i: int, hi: int, keys: Keys
) -> tuple[bool, np.uint64]:
    """Add the fields of the object that is ``data[i:hi]``; False leaves it to the careful path.

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
            form = TEXT if end < hi else SLOW_FORM
            i = end + 1
            if way == HASH_TEXT and form == TEXT and cells < MAX_ROW_FEATURES:
                # What occurs most, and whether it is empty cannot be foreseen.
                put_cell(sink, cells, field, xxh64_short(data, lo, end, at(keys.salts, key)))
                cells += end != lo
                form = _ADDED_FORM
        elif at(data, i) == _OPEN_LIST:
            set_cells(sink, cells)
            i = _add_list(plan, sink, field, at(keys.salts, key), data, i + 1, hi)
            cells = cell_count(sink)
            form = _ADDED_FORM if i > 0 else SLOW_FORM
        else:
            lo = i
            # Short whole numbers occur most, and where they end cannot be foreseen.
            end = lo + digit_count(data, lo)
            form = INTEGER_FORM
            if is_short_integer(data, lo, end, hi):
                if way == BUCKET_TEXT and cells < MAX_ROW_FEATURES:
                    whole = short_whole(data, lo, end)
                    cells = put_cell(sink, cells, field, bucket_hash(keys, key, whole))
                    form = _ADDED_FORM
            else:
                end, x = plain_decimal(data, lo, hi)
                if (
                    (way == AUTO_TEXT or way == BUCKET_TEXT)
                    and is_last(data, lo, end, hi)
                    and cells < MAX_ROW_FEATURES
                ):
                    cells = put_bucket(sink, cells, field, at(keys.salts, key), x)
                    form = _ADDED_FORM
                else:
                    end = word_end(data, lo, hi)
                    form = form_of_word(data, lo, end)
            i = end
        if form == SLOW_FORM:
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


KEPT = Kept(lambda: (make_plan(Schema(), MIN_BITS), make_sink(0, 0), make_keys()))
_recall = KEPT.recall


@kernel
def encode_json(
    words: NDArray[np.uint64], data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64],
    first: int, last: int, check: bool, need_label: bool,
) -> tuple[int, bool]:  # fmt: skip
    """Encode records until one needs the careful path, (r, True), or none fits or is left, (r, False).

    Record r is ``data[starts[r]:ends[r]]``; ``words`` are those of KEPT. Without ``check`` all are UTF-8.
    """
    plan, sink, keys = _recall(words)
    owned = needs_owners(plan)
    for r in range(first, last):
        if not has_room(sink):
            return r, False
        problem = text_problem(data, starts[r], ends[r]) if check else OK
        if problem != OK:
            refuse(sink, r, problem)
            continue
        begin(sink)
        plain, given = _add_object(plan, sink, data, starts[r], ends[r], keys)
        if not plain:
            return r, True
        if owned:
            given = settle_owners(plan, sink)
        finish_given(plan, sink, r, need_label, given)
    return last, False
