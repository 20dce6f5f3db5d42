"""Simulated click events as text: JSON lines, tab and comma separated values, Vowpal Wabbit."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.click_events import AD_FORMATS, COLUMNS, CONTEXTS, DEVICES, MAX_TAGS, TAGS, Events
from streams.text_columns import Column, decimals, join_rows, numerals, word_table

TRUTH = "true_probability"

_DEVICES, _AD_FORMATS, _CONTEXTS = map(word_table, (DEVICES, AD_FORMATS, CONTEXTS))
_TRUTH_PLACES = 9
# The fields that JSON writes without quotes.
_NUMBERS = {"timestamp", "hour", "position", "price", "click", TRUTH}


def to_jsonl(events: Events, with_truth: bool = False) -> bytes:
    """One JSON object a line; ``with_truth`` adds ``true_probability``."""
    values = _values(events, _tag_columns(events, b'"', b'"', b","))
    names = [*COLUMNS[1:], COLUMNS[0], *([TRUTH] if with_truth else [])]
    columns: list[Column] = []
    for name in names:
        before, after = (b"[", b"]") if name == "tags" else (b"", b"") if name in _NUMBERS else (b'"', b'"')
        start = b"," if columns else b"{"
        columns += [start + b'"%s":' % name.encode() + before, *values[name], after]
    return join_rows([*columns, b"}\n"], len(events))


def to_tsv(events: Events, with_truth: bool = False) -> bytes:
    """Tab separated, no header, in the order of ``COLUMNS``; tags joined by ``|``."""
    return _separated(events, b"\t", with_truth)


def to_csv(events: Events, with_truth: bool = False, header: bool = True) -> bytes:
    """Comma separated with a header line; tags joined by ``|``, so nothing needs quotes."""
    names = (*COLUMNS, TRUTH) if with_truth else COLUMNS
    line = ",".join(names).encode() + b"\n" if header else b""
    return line + _separated(events, b",", with_truth)


def to_vw(events: Events) -> bytes:
    """Vowpal Wabbit text, every field a namespace; labels 1 and -1; no id, time or truth."""
    tags = _tag_columns(events, b" ", b"", b"")
    values = _values(events, tags)
    columns: list[Column] = [word_table([b"-1", b"1"])[events.label]]
    for name in COLUMNS[3:]:
        start = b" |%s" % name.encode() + (b"" if name == "tags" else b" price:" if name == "price" else b" ")
        columns += [start, *values[name]]
    return join_rows([*columns, b"\n"], len(events))


def _separated(events: Events, separator: bytes, with_truth: bool) -> bytes:
    values = _values(events, _tag_columns(events, b"", b"", b"|"))
    columns: list[Column] = []
    for name in (*COLUMNS, TRUTH) if with_truth else COLUMNS:
        columns += [separator, *values[name]]
    return join_rows([*columns[1:], b"\n"], len(events))


def _values(events: Events, tags: Sequence[Column]) -> dict[str, list[Column]]:
    """The text of every field, without quotes or separators."""
    return {
        "click": [numerals(events.label, 1)],
        "id": [b"e", numerals(events.number)],
        "timestamp": decimals(events.milliseconds, 3),
        "user_id": [b"u", numerals(events.user_id)],
        "segment": [b"s", numerals(events.segment)],
        "item_id": [b"i", numerals(events.item_id)],
        "category": [b"c", numerals(events.category)],
        "site": [b"p", numerals(events.site)],
        "device": [_DEVICES[events.device]],
        "hour": [numerals(events.hour)],
        "position": [numerals(events.position + 1)],
        "ad_format": [_AD_FORMATS[events.ad_format]],
        "context": [_CONTEXTS[events.context]],
        "price": decimals(events.cents, 2),
        "tags": list(tags),
        TRUTH: decimals(np.rint(events.probability * 10**_TRUTH_PLACES).astype(np.int64), _TRUTH_PLACES),
    }


def _tag_columns(events: Events, before: bytes, after: bytes, between: bytes) -> list[Column]:
    """One column a tag; a tag that is not there is empty, ``between`` included."""
    words = [before + b"t%d" % tag + after for tag in range(TAGS)]
    first, later = word_table(words), word_table([between + word for word in words])
    return [(first if place == 0 else later)[events.tags[:, place]] for place in range(MAX_TAGS)]
