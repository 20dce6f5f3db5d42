"""Tab separated values: no quoting, no escapes; columns by the schema or a header line."""

from __future__ import annotations

from typing import ClassVar

from ftrl_engine.schema import Schema
from streams.codecs.delimited import DelimitedCodec


class TsvCodec(DelimitedCodec):
    """Columns between tabs."""

    separator: ClassVar[str] = "\t"
    has_header: ClassVar[bool] = True


def codec(schema: Schema, bits: int, need_label: bool) -> TsvCodec:
    return TsvCodec(schema, bits, need_label)
