"""Text with one record a line and a separator between columns; tsv and csv share it."""

from __future__ import annotations

import csv
import re
from typing import ClassVar, cast

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError
from ftrl_engine.hashing import salt
from ftrl_engine.jit import inlined, kernel, load64, trailing_zeros
from ftrl_engine.naming import Feature
from ftrl_engine.plan import UNKNOWN, Plan, planned_fields
from ftrl_engine.rows import (
    BAD_QUOTES,
    BAD_UTF8,
    NUL_BYTE,
    OK,
    REASONS,
    TEXT,
    WRONG_COLUMNS,
    Sink,
    add_text,
    begin,
    fail,
    finish,
    has_room,
    refuse,
)
from ftrl_engine.schema import LABEL_NAMES, Schema
from ftrl_engine.text import text_problem
from streams.codecs.base import Codec
from streams.source import PADDING, Block

NO_QUOTE = 256  # no byte equals it
_LONGEST_HEADER = 1 << 20
_START = cast(int, np.int64(0))  # not a literal, for which numba would compile everything below again

_LOW_BITS = np.uint64(0x7F7F7F7F7F7F7F7F)
_HIGH_BITS = np.uint64(0x8080808080808080)
_ONES = np.uint64(0x0101010101010101)


class DelimitedCodec(Codec):
    """Columns between ``separator`` bytes, by the schema's columns or the header of the file."""

    separator: ClassVar[str]
    quote: ClassVar[int] = NO_QUOTE

    def __init__(self, schema: Schema, bits: int, need_label: bool = True) -> None:
        super().__init__(schema, bits, need_label)
        self._header: bytes | None = None
        self._columns: list[str] = []
        self.fields = np.empty(0, dtype=np.int64)
        self.salts = np.empty(0, dtype=np.uint64)
        if schema.columns:
            self._use(list(schema.columns))

    def prepare(self, block: Block) -> int:
        if block.header is not None:
            if block.header != self._header:
                self._header = block.header
                self._use(read_header(block.header, self.separator, block.partition))
                self._require_label(block.partition)
            return 0
        if not self.schema.columns:
            raise ConfigError(
                f"{block.partition}: the columns have no names; give the schema columns = [...] "
                "or a file with a header line"
            )
        self._header = None
        self._drop_label_where_it_is_missing(block)
        return int(self._is_header(block))

    def _is_header(self, block: Block) -> bool:
        """Whether a file begins with the names that the schema gives its columns anyway."""
        if block.first != 0 or not len(block) or block.positions[0] > _LONGEST_HEADER:
            return False
        names = block.record(0).decode("utf-8-sig", errors="replace").split(self.separator)
        known = list(self.schema.columns)
        if sorted(names) == sorted(known) and names != known:
            raise ConfigError(
                f"{block.partition}: the header names the schema's columns in another order; "
                "take columns out of the schema, the header says them"
            )
        return names == known

    def _use(self, columns: list[str]) -> None:
        numbers = {field.name: number for number, (field, _) in enumerate(planned_fields(self.schema))}
        self._columns = columns
        self.fields = np.array([numbers.get(name, UNKNOWN) for name in columns], dtype=np.int64)
        self.salts = np.array([salt(name) for name in columns], dtype=np.uint64)

    def _label_names(self) -> tuple[str, ...]:
        return LABEL_NAMES if self.schema.label is None else (self.schema.label,)

    def _require_label(self, partition: str) -> None:
        names = self._label_names()
        if self.need_label and not any(name in self._columns for name in names):
            raise ConfigError(
                f"{partition}: no label column ({', '.join(names)}) among "
                f'{", ".join(self._columns[:8])}...; name it in a schema: label = "..."'
            )

    def _drop_label_where_it_is_missing(self, block: Block) -> None:
        """Events to score often come without the label column."""
        columns = list(self.schema.columns)
        label = next((name for name in self._label_names() if name in columns), None)
        may_lack = not self.need_label and len(block) > 0 and label is not None
        if may_lack and self._count_columns(block.record(0)) == len(columns) - 1:
            columns.remove(str(label))
        if columns != self._columns:
            self._use(columns)

    def fill(self, block: Block, first: int, last: int, sink: Sink, check: bool) -> int:
        longest = int((block.ends[first:last] - block.starts[first:last]).max())
        text = np.empty(longest + PADDING, dtype=np.uint8)
        return encode_delimited(
            block.data, block.starts, block.ends, first, last, self.fields, self.salts,
            ord(self.separator), self.quote, text, check, self.need_label, self.plan, sink,
        )  # fmt: skip

    def _count_columns(self, line: bytes) -> int:
        outside = line if self.quote == NO_QUOTE else _unquoted(line, self.quote)
        return outside.count(self.separator.encode()) + 1

    def describe(self, block: Block, record: int, reason: int) -> str:
        found = self._count_columns(block.record(record))
        # Columns that are shifted fail for odd reasons; their number is the better one.
        if found == len(self._columns) or reason in (BAD_UTF8, NUL_BYTE, BAD_QUOTES):
            return REASONS[reason]
        return f"{REASONS[WRONG_COLUMNS]}: expected {len(self._columns)}, found {found}"

    def features(self, block: Block, record: int) -> list[Feature]:
        # The columns of the block, which may be an earlier one than that at hand.
        columns = list(self.schema.columns)
        if block.header is not None:
            columns = read_header(block.header, self.separator, block.partition)
        texts = self._split(block.record(record).decode())
        if len(texts) < len(columns):
            columns.remove(next(name for name in self._label_names() if name in columns))
        return self.namer.of_values((name, TEXT, text) for name, text in zip(columns, texts, strict=True))

    def _split(self, line: str) -> list[str]:
        """The columns of a record that is accepted."""
        quote = chr(self.quote)
        if self.quote == NO_QUOTE or quote not in line:
            return line.split(self.separator)
        column = re.compile(f"{quote}((?:[^{quote}]|{quote}{quote})*){quote}|([^{self.separator}]*)")
        texts, at = [], 0
        while at <= len(line):
            found = column.match(line, at)
            assert found is not None, "the second form takes anything"
            quoted, plain = found.groups()
            texts.append(plain if quoted is None else quoted.replace(2 * quote, quote))
            at = found.end() + 1
        return texts


def _unquoted(line: bytes, quote: int) -> bytes:
    """The line without what stands between quotes."""
    return b"".join(line.split(bytes([quote]))[::2])


def read_header(line: bytes, separator: str, partition: str) -> list[str]:
    """The column names of a header line."""
    try:
        names = next(csv.reader([line.decode("utf-8-sig")], delimiter=separator))
    except (UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise ConfigError(f"{partition}: the header line cannot be read: {error}") from error
    repeated = next((name for i, name in enumerate(names) if name in names[:i]), None)
    if repeated is not None:
        raise ConfigError(f"{partition}: column {repeated!r} stands twice in the header")
    return names


@inlined
def find_byte(data: NDArray[np.uint8], i: int, hi: int, pattern: np.uint64) -> int:
    """The first index in [i, hi) that holds the byte repeated in ``pattern``, or hi."""
    while i < hi:
        x = load64(data, i) ^ pattern
        # The high bit of every byte of x that is 0 (exact, no borrow between bytes).
        hits = ~(((x & _LOW_BITS) + _LOW_BITS) | x | _LOW_BITS) & _HIGH_BITS
        if hits != np.uint64(0):
            return int(min(i + (trailing_zeros(hits) >> 3), hi))
        i += 8
    return hi


@kernel
def closing_quote(data: NDArray[np.uint8], i: int, hi: int, quote: int) -> int:
    """The index of the quote that closes a field whose text starts at ``i``, or hi."""
    while i < hi:
        if data[i] == quote:
            if i + 1 < hi and data[i + 1] == quote:
                i += 1
            else:
                return i
        i += 1
    return hi


@kernel
def has_byte(data: NDArray[np.uint8], lo: int, hi: int, byte: int) -> bool:
    """Whether ``data[lo:hi]`` holds the byte."""
    for i in range(lo, hi):
        if data[i] == byte:
            return True
    return False


@kernel
def add_unescaped(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, data: NDArray[np.uint8], lo: int, hi: int,
    quote: int, text: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Add the text ``data[lo:hi]`` with doubled quotes read as one; ``text`` is scratch."""
    count = 0
    i = lo
    while i < hi:
        text[count] = data[i]
        count += 1
        i += 2 if data[i] == quote else 1
    add_text(plan, sink, field, salt, text, _START, count)


@inlined
def encode_record(
    plan: Plan, sink: Sink, data: NDArray[np.uint8], lo: int, hi: int,
    fields: NDArray[np.int64], salts: NDArray[np.uint64], separator: int, pattern: np.uint64, quote: int,
    text: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Add the columns of one record."""
    columns = len(fields)
    column = 0
    while True:
        if column == columns:
            fail(sink, WRONG_COLUMNS)
            return
        quoted = lo < hi and data[lo] == quote
        doubled = False
        if quoted:
            lo += 1
            stop = closing_quote(data, lo, hi, quote)
            end = stop + 1
            if stop == hi or (end < hi and data[end] != separator):
                fail(sink, BAD_QUOTES)
                return
            doubled = has_byte(data, lo, stop, quote)
        else:
            end = find_byte(data, lo, hi, pattern)
            stop = end
        # One place that adds text, because it is large and merged into this function.
        if doubled:
            add_unescaped(plan, sink, fields[column], salts[column], data, lo, stop, quote, text)
        else:
            add_text(plan, sink, fields[column], salts[column], data, lo, stop)
        column += 1
        if end == hi:
            break
        lo = end + 1
    if column != columns:
        fail(sink, WRONG_COLUMNS)


@kernel
def encode_delimited(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], first: int, last: int,
    fields: NDArray[np.int64], salts: NDArray[np.uint64], separator: int, quote: int,
    text: NDArray[np.uint8], check: bool, need_label: bool, plan: Plan, sink: Sink,
) -> int:  # fmt: skip
    """Encode records ``first <= r < last``; returns the first that found no room."""
    pattern = np.uint64(separator) * _ONES
    for r in range(first, last):
        if not has_room(sink):
            return r
        problem = text_problem(data, starts[r], ends[r]) if check else OK
        if problem != OK:
            refuse(sink, r, problem)
            continue
        begin(sink)
        encode_record(plan, sink, data, starts[r], ends[r], fields, salts, separator, pattern, quote, text)
        finish(plan, sink, r, need_label)
    return last
