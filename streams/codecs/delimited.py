"""Text with one record a line and a separator between columns; tsv and csv share it."""

from __future__ import annotations

import csv
import re
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.column_runs import Columns, add_columns, make_columns
from ftrl_engine.errors import ConfigError
from ftrl_engine.intrinsics import byte_mask, count_ones, put_at, trailing_zeros
from ftrl_engine.jit import inlined, kernel
from ftrl_engine.naming import Feature
from ftrl_engine.plan import Plan, planned_fields
from ftrl_engine.rows import finish_given, needs_owners, settle_owners
from ftrl_engine.schema import LABEL_NAMES, Schema
from ftrl_engine.sink import (
    BAD_QUOTES,
    BAD_UTF8,
    NUL_BYTE,
    OK,
    REASONS,
    WRONG_COLUMNS,
    Sink,
    begin,
    fail,
    has_room,
    refuse,
)
from ftrl_engine.text import text_problem
from ftrl_engine.values import TEXT, add_text
from streams.codecs.base import Codec
from streams.source import PADDING, Block

NO_QUOTE = 256  # no byte equals it
_AT_A_TIME = 8
BOUNDS_ROOM = _AT_A_TIME
_LONGEST_HEADER = 1 << 20


class DelimitedCodec(Codec):
    """Columns between ``separator`` bytes, by the schema's columns or the header of the file."""

    separator: ClassVar[str]
    quote: ClassVar[int] = NO_QUOTE

    def __init__(self, schema: Schema, bits: int, need_label: bool = True) -> None:
        super().__init__(schema, bits, need_label)
        self._header: bytes | None = None
        self._columns: list[str] = []
        self._places = make_columns(self.plan, [], {})
        self._bounds = np.empty(BOUNDS_ROOM, dtype=np.int64)
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
        self._places = make_columns(self.plan, columns, numbers)
        self._bounds = np.empty(len(columns) + BOUNDS_ROOM, dtype=np.int64)

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
            block.data, block.starts, block.ends, first, last, self._places, ord(self.separator), self.quote,
            self._bounds, text, check, self.need_label, self.plan, sink,
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
def split_columns(
    data: NDArray[np.uint8], lo: int, hi: int, separator: int, bounds: NDArray[np.int64]
) -> int:
    """Write where each column of ``data[lo:hi]`` ends to ``bounds``; returns how many columns there are.

    Of the room of ``bounds``, BOUNDS_ROOM cells are for its own use; columns beyond the rest are counted
    and not written. Reads up to 63 bytes past ``hi``.
    """
    room = len(bounds) - BOUNDS_ROOM
    count = 0
    for start in range(lo, hi, 64):
        found = byte_mask(data, start, separator)
        if hi - start < 64:
            found &= (np.uint64(1) << np.uint64(hi - start)) - np.uint64(1)
        last = count + count_ones(found)
        # Eight at a time, wanted or not: how many there are cannot be foreseen.
        while count < last and count <= room:
            for k in range(_AT_A_TIME):
                put_at(bounds, count + k, start + trailing_zeros(found))
                found &= found - np.uint64(1)
            count += _AT_A_TIME
        count = last
    if count <= room:
        put_at(bounds, count, hi)
    return count + 1


@inlined
def holds_byte(data: NDArray[np.uint8], lo: int, hi: int, byte: int) -> bool:
    """Whether ``data[lo:hi]`` holds the byte, which may be NO_QUOTE. Reads up to 63 bytes past ``hi``."""
    if byte == NO_QUOTE:
        return False
    for start in range(lo, hi, 64):
        found = byte_mask(data, start, byte)
        if found != np.uint64(0) and start + trailing_zeros(found) < hi:
            return True
    return False


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
    add_column(plan, sink, field, salt, text, 0, count)


@kernel
def add_column(
    plan: Plan, sink: Sink, field: int, salt: np.uint64, data: NDArray[np.uint8], lo: int, hi: int
) -> None:
    """As :func:`ftrl_engine.values.add_text`, compiled once for all callers here."""
    add_text(plan, sink, field, salt, data, lo, hi)


@inlined
def _encode_plain(
    plan: Plan, sink: Sink, data: NDArray[np.uint8], lo: int, hi: int, columns: Columns, separator: int,
    bounds: NDArray[np.int64],
) -> np.uint64:  # fmt: skip
    """Add the columns of a record without quotes; returns which fields have a value."""
    if split_columns(data, lo, hi, separator, bounds) != len(columns.fields):
        fail(sink, WRONG_COLUMNS)
        return np.uint64(0)
    return add_columns(plan, sink, columns, data, lo, bounds)


@kernel
def _encode_quoted(
    plan: Plan, sink: Sink, data: NDArray[np.uint8], lo: int, hi: int, columns: Columns, separator: int,
    quote: int, text: NDArray[np.uint8],
) -> None:  # fmt: skip
    """Add the columns of a record, any of which may stand in quotes; ``text`` is scratch."""
    fields, salts = columns.fields, columns.salts
    column = 0
    while True:
        if column == len(fields):
            fail(sink, WRONG_COLUMNS)
            return
        if lo < hi and data[lo] == quote:
            lo += 1
            stop = closing_quote(data, lo, hi, quote)
            end = stop + 1
            if stop == hi or (end < hi and data[end] != separator):
                fail(sink, BAD_QUOTES)
                return
            add_unescaped(plan, sink, fields[column], salts[column], data, lo, stop, quote, text)
        else:
            end = lo
            while end < hi and data[end] != separator:
                end += 1
            add_column(plan, sink, fields[column], salts[column], data, lo, end)
        column += 1
        if end == hi:
            break
        lo = end + 1
    if column != len(fields):
        fail(sink, WRONG_COLUMNS)


@kernel
def encode_delimited(
    data: NDArray[np.uint8], starts: NDArray[np.int64], ends: NDArray[np.int64], first: int, last: int,
    columns: Columns, separator: int, quote: int, bounds: NDArray[np.int64], text: NDArray[np.uint8],
    check: bool, need_label: bool, plan: Plan, sink: Sink,
) -> int:  # fmt: skip
    """Encode records ``first <= r < last``; returns the first that found no room."""
    owned = needs_owners(plan)
    for r in range(first, last):
        if not has_room(sink):
            return r
        lo, hi = starts[r], ends[r]
        problem = text_problem(data, lo, hi) if check else OK
        if problem != OK:
            refuse(sink, r, problem)
            continue
        begin(sink)
        given = np.uint64(0)
        quoted = holds_byte(data, lo, hi, quote)
        if quoted:
            _encode_quoted(plan, sink, data, lo, hi, columns, separator, quote, text)
        else:
            given = _encode_plain(plan, sink, data, lo, hi, columns, separator, bounds)
        if quoted or owned:
            given = settle_owners(plan, sink)
        finish_given(plan, sink, r, need_label, given)
    return last
