"""LIBSVM and svmlight text: ``label index:value ... # comment``, separated by white space.

An index is a token of the field with the empty name, so it may be any text without a colon;
without a value it counts 1, and a value of 0 is no feature. ``qid:N`` is left out. The first
word is the label unless it holds a colon. ``#`` starts a comment wherever it stands.
"""

from __future__ import annotations

import math
import re
from collections.abc import Container, Mapping
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.hashing import salt, xxh64
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
    MAX_VALUE,
    OK,
    REASONS,
    Sink,
    add_cell,
    begin,
    fail,
    has_room,
    refuse,
)
from ftrl_engine.text import find_stop, text_problem
from ftrl_engine.values import kind_of, set_label
from streams.codecs.base import Codec
from streams.source import Block

# Reasons of this format only, beside those of all formats.
BAD_PAIR, BAD_VALUE = 100, 101

_SPACE, _HASH, _COLON = 32, 35, 58
_Q, _I, _D = 113, 105, 100
_SALT = np.uint64(salt(""))
_HASHES = np.uint64(_HASH * 0x0101010101010101)
_WORD = re.compile("[^\x01-\x20]+")


class LibsvmCodec(Codec):
    """Pairs of index and value."""

    reasons: ClassVar[Mapping[int, str]] = REASONS | {
        BAD_LABEL: "the label must be -1, 0 or 1",
        BAD_PAIR: "a feature must be index:value with one colon and an index before it",
        BAD_VALUE: "a value is not a finite number",
    }

    def fill(self, block: Block, first: int, last: int, sink: Sink, check: bool) -> int:
        return int(
            encode_libsvm(
                block.data, block.starts, block.ends, first, last, check, self.need_label, self.plan, sink
            )
        )

    def describe(self, block: Block, record: int, reason: int) -> str:
        return self.reasons[reason] + _culprit(reason, block.record(record))

    def features(self, block: Block, record: int, only: Container[int] | None = None) -> list[Feature]:
        words = _WORD.findall(block.record(record).decode().partition("#")[0])
        if words and ":" not in words[0]:
            del words[0]  # the label
        pairs = [word.partition(":") for word in words]
        tokens = [
            ("", index, float(value) if colon else 1.0)
            for index, colon, value in pairs
            if not (colon and index == "qid")
        ]
        return self.namer.of_tokens(tokens, only)


def _culprit(reason: int, record: bytes) -> str:
    """The word that is refused, where it can be told."""
    if reason not in (BAD_LABEL, BAD_PAIR, BAD_VALUE, BAD_NUMBER):
        return ""
    words = _WORD.findall(record.decode().partition("#")[0])
    if reason == BAD_LABEL:
        return f", got {shown(words[0])}"
    if words and ":" not in words[0]:
        del words[0]  # the label
    for word in words:
        index, colon, value = word.partition(":")
        in_pairs = not value.count(":") and index
        if reason == BAD_PAIR and not in_pairs:
            return f", got {shown(word)}"
        if reason != BAD_PAIR and in_pairs and colon and index != "qid":
            x = number_of(value)
            if not math.isfinite(x) or (reason == BAD_NUMBER and abs(x) > MAX_VALUE):
                return f", got {shown(word)}"
    return ""


def codec(schema: Schema, bits: int, need_label: bool) -> LibsvmCodec:
    return LibsvmCodec(schema, bits, need_label)


@kernel
def _read_label(data: NDArray[np.uint8], lo: int, hi: int, signed: bool) -> float:
    """The label's number; -1 is 0 where only its sign counts."""
    x = parse_number(data, lo, hi)
    return 0.0 if signed and x == -1.0 else x


@inlined
def _is_qid(data: NDArray[np.uint8], lo: int, colon: int) -> bool:
    return colon - lo == 3 and data[lo] == _Q and data[lo + 1] == _I and data[lo + 2] == _D


@inlined
def _encode_line(plan: Plan, sink: Sink, data: NDArray[np.uint8], i: int, hi: int, field: int) -> None:
    """Add the label of one line and its features, which belong to ``field``."""
    read = kind_of(plan, field) != SKIP
    words = 0
    while i < hi and data[i] != _HASH:
        if data[i] <= _SPACE:
            i += 1
            continue
        lo, colon, colons = i, hi, 0
        while True:
            i = find_stop(data, i, hi, _HASHES)
            if i == hi or data[i] != _COLON:
                break
            colon = i
            colons += 1
            i += 1
        words += 1
        if words == 1 and colons == 0:
            set_label(plan, sink, _read_label(data, lo, i, math.isnan(plan.label_at_least)))
            continue
        if colons == 1 and _is_qid(data, lo, colon):
            continue
        value = 1.0 if colons == 0 else parse_number(data, colon + 1, i)
        end = min(colon, i)
        if colons > 1 or lo == end:
            fail(sink, BAD_PAIR)
        elif math.isnan(value):
            fail(sink, BAD_VALUE)
        elif read:
            add_cell(sink, field, xxh64(data, lo, end, _SALT), value)


@kernel
def encode_libsvm(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], first: int, last: int,
    check: bool, need_label: bool, plan: Plan, sink: Sink,
) -> int:  # fmt: skip
    """Encode records ``first <= r < last``; returns the first that found no room."""
    field = find_field(plan, _SALT)
    for r in range(first, last):
        if not has_room(sink):
            return r
        problem = text_problem(data, starts[r], ends[r]) if check else OK
        if problem != OK:
            refuse(sink, r, problem)
            continue
        begin(sink)
        _encode_line(plan, sink, data, starts[r], ends[r], field)
        finish(plan, sink, r, need_label)
    return last
