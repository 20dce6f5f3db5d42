"""Candidates like one before: scanned and scored in one loop.

Candidates mostly have the same keys in the same order, with one text or number each. So once such a
one is scored, its keys are kept with what they mean, and the next candidates are compared with it as
they are read. A key may be lacking; whatever else is different (another key, a list, a field that is
crossed or that the context has too, any white space but the one after a comma or colon) ends the
comparison, and the candidate is read again by :mod:`serving.request_json`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.counted_values import AUTO_TEXT, HASH_TEXT, SKIP_TEXT, add_counted_value
from ftrl_engine.hashing import xxh64_short
from ftrl_engine.intrinsics import at, flat, load64, put_at
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.plan import TOKENS, UNKNOWN, Plan
from ftrl_engine.sink import OK, Sink, begin, status
from ftrl_engine.values import DECIMAL_FORM, TEXT, WORD, kind_of
from ftrl_engine.weight_table import ask_for
from serving.request_arrays import (
    CONTEXT,
    CONTEXT_LINKED,
    FEATURES,
    FIELD_CELLS,
    KEY_FIELD,
    KEY_PLAIN,
    KEY_WAY,
    LIKE_END,
    LIKE_FACTS,
    LIKE_FIELD,
    LIKE_LENGTH,
    LIKE_MASK,
    LIKE_PLACE,
    LIKE_SALT,
    LIKE_START,
    LIKE_WAY,
    LIKE_WORDS,
    MAX_LIKE,
    MISSING,
    NOTES,
    PRESENT,
    PRESENT_IN,
    RAW_DECIMAL,
    ROW_FEATURES,
    UNKNOWN_FIELDS,
    Likeness,
    Scan,
    Values,
    Weights,
    Work,
    is_token_kind,
    recall,
)
from serving.request_crosses import weight_of
from serving.request_json import CLOSE, COMMA, OPEN, QUOTE, SLOW_FORM, SPACE, bare_word, string_end

NOT_LIKE = -1
# More bytes from a key to its value are read one by one. Comparing reads so many beyond the request, which
# must be there; what they are does not matter, because a zero is before them.
MAX_LIKE_BYTES = 512
_DIGIT_9 = 57  # no number starts with a byte above it
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def _has_one_cell(plan: Plan, values: Values, work: Work, i: int, first: int) -> bool:
    """Whether value ``i`` of a row that is scored is one cell of a plain key, or is left out."""
    note = NOTES * values.keys[i]
    before = work.ends[i - 1] if i > first else 0
    left_out = work.notes[note + KEY_WAY] == SKIP_TEXT
    return (
        values.forms[i] != MISSING
        and values.forms[i] != WORD
        and work.notes[note + KEY_PLAIN] == 1
        and (left_out or work.ends[i] - before == 1)
        and kind_of(plan, work.notes[note + KEY_FIELD]) != TOKENS
    )


@kernel
def learn_likeness(words: NDArray[np.uint64], place: int, first: int, end: int) -> None:
    """Keep what the candidate looks like whose keys are those from ``place`` on; its values are scored.

    Nothing changes where others cannot be compared with it.
    """
    plan, _, values, scan, like, work, _, _ = recall(words)
    if end - first > MAX_LIKE:
        return
    for i in range(first, end):
        to_value = values.starts[i] - scan.starts[place + i - first]
        if to_value > MAX_LIKE_BYTES or not _has_one_cell(plan, values, work, i, first):
            return
    for i in range(first, end):
        _keep_key(values, scan, like, work, i - first, place + i - first, i)
    like.known[0] = end - first


@inlined
def _keep_key(
    values: Values, scan: Scan, like: Likeness, work: Work, number: int, place: int, i: int
) -> None:
    data, start = values.data, scan.starts[place]
    length = values.starts[i] - start - (1 if values.forms[i] == TEXT else 0)
    note, w, f = NOTES * values.keys[i], LIKE_WORDS * number, LIKE_FACTS * number
    like.words[w + LIKE_START] = load64(data, start)
    like.words[w + LIKE_END] = load64(data, start + max(length - 8, 0))
    like.words[w + LIKE_MASK] = _ALL >> np.uint64(8 * max(8 - length, 0))
    like.words[w + LIKE_SALT] = values.salts[values.keys[i]]
    like.facts[f + LIKE_PLACE], like.facts[f + LIKE_LENGTH] = start, length
    like.facts[f + LIKE_FIELD] = work.notes[note + KEY_FIELD]
    like.facts[f + LIKE_WAY] = work.notes[note + KEY_WAY]


@kernel
def _goes_on(data: NDArray[np.uint8], lo: int, before: int, length: int) -> bool:
    """Whether two texts of more than 16 bytes are the same but for the last eight."""
    for k in range(8, length - 8, 8):
        if load64(data, lo + k) != load64(data, before + k):
            return False
    return True


@inlined
def _begins(data: NDArray[np.uint8], like: Likeness, key: int, lo: int) -> bool:
    """Whether at ``lo`` stands what is expected from this key to its value."""
    w, length = LIKE_WORDS * key, at(like.facts, LIKE_FACTS * key + LIKE_LENGTH)
    first = load64(data, lo) ^ at(like.words, w + LIKE_START)
    last = load64(data, lo + max(length - 8, 0)) ^ at(like.words, w + LIKE_END)
    if (first | last) & at(like.words, w + LIKE_MASK) != np.uint64(0):
        return False
    return length <= 16 or _goes_on(data, lo, at(like.facts, LIKE_FACTS * key + LIKE_PLACE), length)


@kernel
def _is_one_cell(
    plan: Plan, sink: Sink, field: int, way: int, salt: np.uint64, form: int,
    data: NDArray[np.uint8], lo: int, hi: int,
) -> bool:  # fmt: skip
    """Make a value the only cell of the row at hand; False where it is none, several or without meaning."""
    begin(sink)
    if form == RAW_DECIMAL:
        if is_token_kind(kind_of(plan, field)):
            return False
        form = DECIMAL_FORM
    cells = add_counted_value(plan, sink, 0, way, field, salt, form, data, lo, hi)
    return status(sink) == OK and cells == 1


@inlined
def _value_at(data: NDArray[np.uint8], i: int) -> tuple[int, int, int]:
    """(start, end, form) of the value at ``i``."""
    if at(data, i) != QUOTE:
        end, form = bare_word(data, i)
        return i, end, form if form != MISSING else SLOW_FORM
    end = string_end(data, i + 1)
    return i + 1, end, TEXT if at(data, end) == QUOTE else SLOW_FORM


@inlined
def _after_value(data: NDArray[np.uint8], i: int) -> int:
    """The index of the next key's quote, or NOT_LIKE."""
    if at(data, i) != COMMA:
        return NOT_LIKE
    i += 2 if at(data, i + 1) == SPACE else 1
    return i if at(data, i) == QUOTE else NOT_LIKE


@inlined
def score_like(
    plan: Plan, sink: Sink, values: Values, like: Likeness, work: Work, weights: Weights, row: int, i: int
) -> tuple[int, float]:
    """(the index after the candidate at ``i``, the margin of its values); NOT_LIKE: nothing is done."""
    data, state, count = values.data, work.state, like.known[0]
    unknown, present, features, key = 0, 0, 0, 0
    first = state[CONTEXT_LINKED]  # cells before it are the context's
    alike = count > 0 and at(data, i) == OPEN and at(data, i + 1) == QUOTE
    i += 1
    while alike:
        if not _begins(data, like, key, i + 1):
            key += 1
            if key >= count or not _begins(data, like, key, i + 1):
                break
        f = LIKE_FACTS * key
        field, way = at(like.facts, f + LIKE_FIELD), at(like.facts, f + LIKE_WAY)
        salt = at(like.words, LIKE_WORDS * key + LIKE_SALT)
        lo, end, form = _value_at(data, i + 1 + at(like.facts, f + LIKE_LENGTH))
        if form == SLOW_FORM:
            break
        if form == TEXT and (way == HASH_TEXT or (way == AUTO_TEXT and at(data, lo) > _DIGIT_9)) and lo < end:
            _put_cell(plan, work, weights, first + features, xxh64_short(data, lo, end, salt), 1.0, field)
            features += 1
        elif way != SKIP_TEXT:
            if not _is_one_cell(plan, sink, field, way, salt, form, data, lo, end):
                break
            _put_cell(plan, work, weights, first + features, at(sink.hashes, 0), at(sink.amounts, 0), field)
            features += 1
        if field == UNKNOWN:
            unknown += way == SKIP_TEXT
        elif way != SKIP_TEXT:
            present += 1
            put_at(flat(work.fields), FIELD_CELLS * field + PRESENT_IN, row)
        i = end + 1 if form == TEXT else end
        key += 1
        if at(data, i) == CLOSE:
            state[UNKNOWN_FIELDS] += unknown
            state[PRESENT] += present
            state[ROW_FEATURES] = features
            state[FEATURES] += features + key
            return i + 1, _sum_cells(plan, work, weights, first, first + features)
        i = _after_value(data, i)
        alike = i >= 0 and key < count
    _forget(like, work, count)
    return NOT_LIKE, 0.0


@inlined
def _put_cell(
    plan: Plan, work: Work, weights: Weights, k: int, h: np.uint64, amount: float, field: int
) -> None:
    """Keep a cell of the candidate at hand; its weight is on its way when the others are read."""
    ask_for(weights.cells, np.uint32(h >> plan.shift))
    put_at(work.hashes, k, h)
    put_at(work.amounts, k, amount)
    put_at(work.following, k, field)


@inlined
def _sum_cells(plan: Plan, work: Work, weights: Weights, first: int, end: int) -> float:
    """The margin of the candidate's cells; counts those that change nothing and no field is known for."""
    margin, unknown = 0.0, 0
    for k in range(first, end):
        weight = weight_of(weights, np.uint32(at(work.hashes, k) >> plan.shift))
        margin += weight * at(work.amounts, k)
        unknown += (weight == 0.0) & (at(work.following, k) == UNKNOWN)
    work.state[UNKNOWN_FIELDS] += unknown
    return margin


@inlined
def _forget(like: Likeness, work: Work, count: int) -> None:
    """No field has a value yet in the row that was begun."""
    for key in range(count):
        field = like.facts[LIKE_FACTS * key + LIKE_FIELD]
        if field != UNKNOWN:
            work.fields[field, PRESENT_IN] = CONTEXT - 1
    work.state[FEATURES] += count
