"""The fast way from the bytes of a request to its scores, in one compiled call.

It takes ``{"context": {...}, "candidates": [{...}, ...]}`` in this order, either one left out, whose
objects are as :mod:`serving.request_json` reads them. Everything else is left to
:mod:`serving.request_values`.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.intrinsics import load32, load64
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.sink import OK
from serving.request_arrays import CONTEXT, Scan, Values, recall
from serving.request_json import (
    CLOSE,
    CLOSE_LIST,
    COLON,
    COMMA,
    OPEN,
    OPEN_LIST,
    QUOTE,
    ROOM,
    scan_object,
    skip_space,
)
from serving.request_like import learn_likeness, score_like
from serving.request_rows import begin_request, begin_row, end_request, finish_row, score_row
from serving.score_counts import FIRST_RESULT

SLOW_REQUEST = -1
_CONTEXT, _CANDIDA = (np.uint64(int.from_bytes(word, "little")) for word in (b'"context', b'"candida'))
_TES = np.uint32(int.from_bytes(b'tes"', "little"))  # ends "candidates"


@inlined
def _after_key(data: NDArray[np.uint8], i: int, start: np.uint64, more: int) -> int:
    """The index after a top-level key and its colon, or -1: eight bytes, ``more`` bytes, a quote."""
    quote = i + 8 + more
    if load64(data, i) != start or data[quote] != QUOTE:
        return -1
    i = skip_space(data, quote + 1)
    return skip_space(data, i + 1) if data[i] == COLON else -1


@inlined
def _enter_candidates(data: NDArray[np.uint8], i: int) -> int:
    """The index of the first thing in the list of candidates whose key is at ``i``, or -1."""
    inside = _after_key(data, i, _CANDIDA, 3)
    if inside < 0 or load32(data, i + 8) != _TES or data[inside] != OPEN_LIST:
        return -1
    return skip_space(data, inside + 1)


@inlined
def _is_end(data: NDArray[np.uint8], i: int, size: int) -> bool:
    """Whether the request ends with the brace at ``i``."""
    i = skip_space(data, i)
    return data[i] == CLOSE and skip_space(data, i + 1) == size


@inlined
def _scan(
    values: Values, scan: Scan, i: int, count: int, place: int, before: int, numbers: int, most: int
) -> tuple[int, int, int, int]:
    """As :func:`scan_object`, for objects of at most so many keys."""
    i, count, last, numbers = scan_object(values, scan, i, count, place, before, numbers)
    return i if last - place <= most else -1, count, last, numbers


@kernel
def answer_request(words: NDArray[np.uint64], size: int, max_fields: int) -> int:
    """Score the request in ``data[:size]``, which is valid UTF-8; its number of rows, or SLOW_REQUEST.

    ``words`` are those of :data:`serving.request_arrays.KEPT`. At least ROOM + MAX_LIKE_BYTES bytes of
    ``data`` follow the request, of which the first ROOM are written. The results have room for as many
    candidates as are allowed, and an object may have ``max_fields`` fields.
    """
    _, _, values, scan, like, work, _, answer = recall(words)
    data = values.data
    data[size : size + ROOM] = 0
    like.known[0] = 0
    count, place, numbers = 0, 0, 0  # of the context's values, of keys, and of different keys
    i = skip_space(data, 0)
    if data[i] != OPEN:
        return SLOW_REQUEST
    key = skip_space(data, i + 1)
    i = _after_key(data, key, _CONTEXT, 0)
    if i >= 0:
        i, count, place, numbers = _scan(values, scan, i, 0, 0, 0, 0, max_fields)
        if i < 0:
            return SLOW_REQUEST
        i = skip_space(data, i)
        key = skip_space(data, i + 1) if data[i] == COMMA else -1
    values.bounds[0] = count
    mask = begin_request(words)
    if score_row(words, CONTEXT, 0, count, mask) != OK:
        return SLOW_REQUEST
    rows = 1
    if key < 0:
        # The context alone is one event: a row that adds nothing.
        if not _is_end(data, i, size) or score_row(words, 0, count, count, mask) != OK:
            return SLOW_REQUEST
    else:
        i, rows = _score_candidates(
            words, _enter_candidates(data, key), count, place, numbers, mask, max_fields
        )
        if i < 0 or not _is_end(data, i, size):
            return SLOW_REQUEST
    end_request(work, answer.results)
    return rows


@kernel
def _score_candidates(
    words: NDArray[np.uint64], i: int, first: int, place: int, numbers: int, mask: int, max_fields: int
) -> tuple[int, int]:
    """(the index after the list of candidates that begins at ``i``, or -1; the number of candidates).

    ``first`` values, ``place`` keys and ``numbers`` different ones are the context's.
    """
    plan, sink, values, scan, like, work, weights, answer = recall(words)
    data, most = values.data, len(answer.results) - FIRST_RESULT
    before = 0  # the first key of the object before
    row = 0
    if i >= 0 and data[i] == CLOSE_LIST:
        return i + 1, 0
    while i >= 0 and row < most:
        begin_row(work, row)
        after, margin = score_like(plan, sink, values, like, work, weights, row, i)
        if after >= 0:
            reason = finish_row(plan, work, weights, answer.results, row, margin, mask)
        else:
            mine = place
            after, end, place, numbers = _scan(values, scan, i, first, mine, before, numbers, max_fields)
            if after < 0:
                break
            reason = score_row(words, row, first, end, mask)
            before = mine
            if place - mine == end - first:
                learn_likeness(words, mine, first, end)
        if reason != OK:
            break
        row += 1
        i = skip_space(data, after)
        if data[i] == CLOSE_LIST:
            return i + 1, row
        if data[i] != COMMA:
            break
        i = skip_space(data, i + 1)
    return -1, row
