"""Comma separated values (RFC 4180), except that a record is always one line."""

from __future__ import annotations

from typing import ClassVar

from ftrl_engine.schema import Schema
from streams.codecs.delimited import DelimitedCodec


class CsvCodec(DelimitedCodec):
    """Columns between commas; a column may stand in double quotes."""

    separator: ClassVar[str] = ","
    quote: ClassVar[int] = ord('"')
    has_header: ClassVar[bool] = True


def codec(schema: Schema, bits: int, need_label: bool) -> CsvCodec:
    return CsvCodec(schema, bits, need_label)
