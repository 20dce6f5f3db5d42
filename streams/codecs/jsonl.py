"""JSON lines: one object a line.

The fast path takes objects of text without escapes, numbers, truth values, null, and lists
of text and whole numbers. Everything else (escapes, nesting, decimals as tokens, a key that
occurs twice, anything malformed) is decoded by msgspec and gives the same slots, or a reason.
"""

from __future__ import annotations

from collections.abc import Container, Iterable
from typing import Any

import msgspec

from ftrl_engine.errors import DataError
from ftrl_engine.events import EventEncoder, flatten
from ftrl_engine.json_keys import make_keys
from ftrl_engine.json_objects import KEPT, encode_json
from ftrl_engine.naming import Feature
from ftrl_engine.refusals import TOLD
from ftrl_engine.schema import Schema
from ftrl_engine.sink import BAD_SYNTAX, REASONS, Sink, refuse
from streams.codecs.base import Codec
from streams.source import Block


class JsonlCodec(Codec):
    """One JSON object a record."""

    def __init__(self, schema: Schema, bits: int, need_label: bool) -> None:
        super().__init__(schema, bits, need_label)
        self._events = EventEncoder(self.plan)
        self._decode = msgspec.json.Decoder().decode
        self._why: dict[int, str] = {}
        self._keys = make_keys()
        self._kept_sink: Sink | None = None
        self._words: Any = None  # of what is kept with it

    def prepare(self, block: Block) -> int:
        self._why.clear()
        return 0

    def fill(self, block: Block, first: int, last: int, sink: Sink, check: bool) -> int:
        record = first
        if sink is not self._kept_sink:
            self._kept_sink, self._words = sink, KEPT.words(self.plan, sink, self._keys)
        while True:
            record, slow = encode_json(
                self._words, block.data, block.starts, block.ends, record, last, check, self.need_label
            )
            if not slow:
                return record
            self._add_slowly(block, record, sink)
            record += 1

    def _add_slowly(self, block: Block, record: int, sink: Sink) -> None:
        try:
            event: Any = self._decode(block.record(record))
            self._events.add(event, sink, record, self.need_label)
        except (msgspec.DecodeError, DataError, UnicodeError, RecursionError) as error:
            self._why[record] = str(error) or type(error).__name__
            refuse(sink, record, BAD_SYNTAX)

    def describe(self, block: Block, record: int, reason: int) -> str:
        if reason == BAD_SYNTAX:
            return f"not a JSON event: {self._why[record]}"
        if reason not in TOLD:
            return REASONS[reason]
        event = self._decode(block.record(record))
        return self.teller.tell(reason, flatten(event, self.teller.skips), list(event))

    def features(self, block: Block, record: int, only: Container[int] | None = None) -> list[Feature]:
        return self.namer.of_event(self._decode(block.record(record)), only)

    def names_near(
        self, block: Block, record: int, wanted: Iterable[tuple[int, int]]
    ) -> list[tuple[int, str]] | None:
        return self.namer.near(self.namer.values(self._decode(block.record(record))), wanted)


def codec(schema: Schema, bits: int, need_label: bool) -> JsonlCodec:
    return JsonlCodec(schema, bits, need_label)
