"""Text with one record a line and a separator between columns; tsv and csv share it."""

from __future__ import annotations

import csv
import re
from collections.abc import Container, Iterable
from functools import lru_cache
from itertools import repeat
from typing import ClassVar

import numpy as np

from ftrl_engine.column_runs import make_columns
from ftrl_engine.errors import ConfigError
from ftrl_engine.events import Value
from ftrl_engine.naming import Feature
from ftrl_engine.plan import planned_fields
from ftrl_engine.refusals import TOLD
from ftrl_engine.schema import LABEL_NAMES, Schema
from ftrl_engine.sink import (
    BAD_QUOTES,
    BAD_UTF8,
    NUL_BYTE,
    REASONS,
    WRONG_COLUMNS,
    Sink,
)
from ftrl_engine.values import TEXT
from streams.codecs.base import Codec
from streams.delimited_rows import BOUNDS_ROOM, NO_QUOTE, encode_delimited
from streams.source import PADDING, Block

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
        if not len(block):
            return 0  # a refusal alone, perhaps of what should have been the header
        if block.header is not None:
            if block.header != self._header:
                self._use(list(read_header(block.header, self.separator, block.partition)))
                self._require_label(block.partition)
                self._header = block.header
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
                f"{', '.join(self._columns[:8])}...; {self._label_cure()}"
            )

    def _label_cure(self) -> str:
        """What to do where the header has no label."""
        other = next((byte for byte in "\t;|," if len(self._columns) == 1 and byte in self._columns[0]), None)
        if other is None:
            return 'name it in a schema: label = "..."'
        names = {"\t": "tabs", ";": "';'", "|": "'|'", ",": "','"}
        cure = {"\t": "give --format tsv", ",": "give --format csv"}.get(
            other, f"write tabs instead, as with: tr '{other}' '\\t' <FILE >FILE.tsv"
        )
        return f"the fields seem to be separated by {names[other]}; {cure}"

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
            if reason not in TOLD:
                return REASONS[reason]
            texts = self._split(block.record(record).decode())
            values = ((name, TEXT, text) for name, text in zip(self._columns, texts, strict=False))
            return self.teller.tell(reason, values, self._columns)
        return f"{REASONS[WRONG_COLUMNS]}: expected {len(self._columns)}, found {found}"

    def features(self, block: Block, record: int, only: Container[int] | None = None) -> list[Feature]:
        return self.namer.of_values(self._values(block, record), only)

    def names_near(
        self, block: Block, record: int, wanted: Iterable[tuple[int, int]]
    ) -> list[tuple[int, str]] | None:
        return self.namer.near(self._values(block, record), wanted)

    def _values(self, block: Block, record: int) -> Iterable[Value]:
        # The columns of the block, which may be an earlier one than that at hand.
        columns = list(self.schema.columns)
        if block.header is not None:
            columns = list(read_header(block.header, self.separator, block.partition))
        texts = self._split(block.record(record).decode())
        if len(texts) < len(columns):
            columns.remove(next(name for name in self._label_names() if name in columns))
        return zip(columns, repeat(TEXT), texts, strict=False)

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


@lru_cache(2)
def read_header(line: bytes, separator: str, partition: str) -> tuple[str, ...]:
    """The column names of a header line."""
    try:
        names = next(csv.reader([line.decode("utf-8-sig")], delimiter=separator))
    except (UnicodeDecodeError, csv.Error, StopIteration) as error:
        raise ConfigError(f"{partition}: the header line cannot be read: {error}") from error
    known: set[str] = set()
    for name in names:
        if name in known:
            raise ConfigError(f"{partition}: column {name!r} stands twice in the header")
        known.add(name)
    return tuple(names)
