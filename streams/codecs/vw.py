"""Vowpal Wabbit text, one event a line.

``[label] [importance] ['tag]|namespace[:scale] feature[:value] ... |namespace ...``

Namespaces are fields and features are tokens with values (1 where none is given), each
multiplied by its namespace's scale. Labels are -1, 0 and 1. As in Vowpal Wabbit, a word that
touches the first bar is a tag, not a label: ``1 |a x`` has a label, ``1|a x`` has a tag.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Iterator, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.hashing import xxh64
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.naming import Feature, number_of
from ftrl_engine.numbers import parse_number
from ftrl_engine.plan import SKIP, Plan, find_field
from ftrl_engine.refusals import shown
from ftrl_engine.rows import finish
from ftrl_engine.schema import Schema
from ftrl_engine.sink import (
    BAD_LABEL,
    BAD_NUMBER,
    BAD_WEIGHT,
    MAX_VALUE,
    NO_LABEL,
    OK,
    REASONS,
    Sink,
    add_cell,
    begin,
    fail,
    has_room,
    refuse,
    status,
)
from ftrl_engine.text import find_stop, text_problem
from ftrl_engine.values import kind_of, set_importance, set_label
from streams.codecs.base import Codec
from streams.source import Block

# Reasons of this format only, beside those of all formats.
NO_BAR, HAS_BASE, LATE_TAG, BAD_NAME, BAD_VALUE = 100, 101, 102, 103, 104
_REASONS = REASONS | {
    NO_LABEL: "no label (a word that touches the first | is a tag)",
    BAD_LABEL: "the label must be -1, 0 or 1",
    NO_BAR: "no | before the features",
    HAS_BASE: "a base (initial prediction) is not supported; leave out the third word before the |",
    LATE_TAG: "a 'tag must be the last word before the |",
    BAD_NAME: "a feature must be name or name:value with one colon and a name before it",
    BAD_VALUE: "a value or scale is not a finite number",
}

_SPACE, _BAR, _COLON, _APOSTROPHE = 32, 124, 58, 39
_BARS = np.uint64(_BAR * 0x0101010101010101)
_SALT_OF_NAMES = np.uint64(0)
_WHITE_SPACE = re.compile("[\x01-\x20]")


class VwCodec(Codec):
    """Namespaces of features."""

    reasons: ClassVar[Mapping[int, str]] = _REASONS

    def fill(self, block: Block, first: int, last: int, sink: Sink, check: bool) -> int:
        return int(
            encode_vw(
                block.data, block.starts, block.ends, first, last, check, self.need_label, self.plan, sink
            )
        )

    def describe(self, block: Block, record: int, reason: int) -> str:
        return self.reasons[reason] + _culprit(reason, block.record(record))

    def features(self, block: Block, record: int, only: Container[int] | None = None) -> list[Feature]:
        return self.namer.of_tokens(_tokens(block.record(record).decode()), only)


def _tokens(line: str) -> Iterator[tuple[str, str, float]]:
    """(namespace, feature, value) of every feature of a line."""
    for namespace in line.split("|")[1:]:
        head, *words = _WHITE_SPACE.split(namespace)
        name, colon, number = head.partition(":")
        scale = float(number) if colon else 1.0
        for word in filter(None, words):
            feature, colon, number = word.partition(":")
            yield name, feature, (float(number) if colon else 1.0) * scale


def _culprit(reason: int, record: bytes) -> str:
    """The word that is refused, where it can be told."""
    if reason not in (BAD_LABEL, BAD_WEIGHT, BAD_NAME, BAD_VALUE, BAD_NUMBER):
        return ""
    start, *namespaces = record.decode().split("|")
    if reason in (BAD_LABEL, BAD_WEIGHT):
        words = [word for word in _WHITE_SPACE.split(start) if word]
        return f", got {shown(words[0 if reason == BAD_LABEL else 1])}"
    for namespace in namespaces:
        head, *words = _WHITE_SPACE.split(namespace)
        for word in filter(None, (head, *words)):
            name, colon, value = word.partition(":")
            named = bool(name) and ":" not in value
            if reason == BAD_NAME and not named:
                return f", got {shown(word)}"
            x = number_of(value) if colon else 1.0
            wrong = not math.isfinite(x) or (reason == BAD_NUMBER and abs(x) > MAX_VALUE)
            if reason != BAD_NAME and named and wrong:
                return f", got {shown(word)}"
    return ""


def codec(schema: Schema, bits: int, need_label: bool) -> VwCodec:
    return VwCodec(schema, bits, need_label)


@kernel
def _read_number(data: NDArray[np.uint8], lo: int, hi: int) -> float:
    return parse_number(data, lo, hi)


@inlined
def _encode_start(plan: Plan, sink: Sink, data: NDArray[np.uint8], i: int, hi: int) -> int:
    """Set label and importance; returns the index of the first bar, or hi where there is none."""
    words = 0
    tagged = False
    while i < hi and data[i] != _BAR:
        if data[i] <= _SPACE:
            i += 1
            continue
        lo = i
        while i < hi and data[i] > _SPACE and data[i] != _BAR:
            i += 1
        if tagged:
            fail(sink, LATE_TAG)
        elif data[lo] == _APOSTROPHE or (i < hi and data[i] == _BAR):
            tagged = True
        elif words == 0:
            x = _read_number(data, lo, i)
            set_label(plan, sink, 0.0 if x == -1.0 and math.isnan(plan.label_at_least) else x)
        elif words == 1:
            set_importance(sink, _read_number(data, lo, i))
        else:
            fail(sink, HAS_BASE)
        words += 1
    return i


@inlined
def _encode_features(plan: Plan, sink: Sink, data: NDArray[np.uint8], i: int, hi: int) -> None:
    """Add the features from the first bar on."""
    salt, scale, field, read = _SALT_OF_NAMES, 1.0, 0, False
    while i < hi:
        if data[i] <= _SPACE:
            i += 1
            continue
        opens = data[i] == _BAR
        if opens:
            i += 1
        lo, colon, colons = i, hi, 0
        while True:
            i = find_stop(data, i, hi, _BARS)
            if i == hi or data[i] != _COLON:
                break
            colon = i
            colons += 1
            i += 1
        value = 1.0 if colons == 0 else parse_number(data, colon + 1, i)
        end = min(colon, i)
        if colons > 1 or (lo == end and (colons > 0 or not opens)):
            fail(sink, BAD_NAME)
        elif math.isnan(value):
            fail(sink, BAD_VALUE)
        h = xxh64(data, lo, end, _SALT_OF_NAMES if opens else salt)
        if opens:
            salt, scale, field = h, value, find_field(plan, h)
            read = kind_of(plan, field) != SKIP
        elif read:
            add_cell(sink, field, h, value * scale)


@kernel
def encode_vw(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], first: int, last: int,
    check: bool, need_label: bool, plan: Plan, sink: Sink,
) -> int:  # fmt: skip
    """Encode records ``first <= r < last``; returns the first that found no room."""
    for r in range(first, last):
        if not has_room(sink):
            return r
        problem = text_problem(data, starts[r], ends[r]) if check else OK
        if problem != OK:
            refuse(sink, r, problem)
            continue
        begin(sink)
        bar = _encode_start(plan, sink, data, starts[r], ends[r])
        if bar == ends[r]:
            begin(sink)  # whatever the words before it are taken for
            fail(sink, NO_BAR)
        elif status(sink) == OK:
            _encode_features(plan, sink, data, bar, ends[r])
        finish(plan, sink, r, need_label)
    return last
