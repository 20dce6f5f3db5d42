"""From blocks of bytes to batches of slots, one compiled pass a format.

Adding a format is one file in this folder that defines ``codec(schema, bits, need_label)``
returning a :class:`Codec`; the file's name is the format's name and its usual extension.
"""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC, abstractmethod
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.batch import Batch
from ftrl_engine.errors import ConfigError
from ftrl_engine.naming import Feature, FeatureNamer
from ftrl_engine.plan import MAX_PLANNED_FIELDS, make_plan, planned_fields
from ftrl_engine.refusals import RefusalTeller
from ftrl_engine.schema import Schema
from ftrl_engine.sink import MAX_ROW_FEATURES, REASONS, REFUSED, ROWS, Sink, make_sink, reset
from ftrl_engine.text import needs_check
from streams.source import Block, Refusal

# Rows of one batch: more than a block has nearly always, because a short part costs as much by itself
# as a long one.
MAX_BATCH_ROWS = 16384
_KEPT_BYTES = 64 << 10  # of a refused event
_DESCRIBED_BYTES = 1 << 20  # of a larger one only the rule is told


@dataclass(frozen=True, slots=True)
class Encoded:
    """Part of a block, encoded.

    batch     the rows that can be learned or scored
    records   int64[rows], the record of the block each row came from
    refused   the records of this part that are refused, in order
    stop      the first record of the block that is not part of this
    """

    batch: Batch
    records: NDArray[np.int64]
    refused: tuple[Refusal, ...]
    stop: int


class Codec(ABC):
    """Encodes the records of one format by one schema."""

    has_header: ClassVar[bool] = False  # the first line of a file names the columns
    reasons: ClassVar[Mapping[int, str]] = REASONS

    def __init__(self, schema: Schema, bits: int, need_label: bool = True) -> None:
        self.schema = schema
        self.bits = bits
        self.need_label = need_label
        self.plan = make_plan(schema, bits)
        # By number, which crossed fields some record had a value of; twins share it.
        self._met = np.zeros(MAX_PLANNED_FIELDS, dtype=np.uint8)
        self._sink: Sink | None = None
        self.namer = FeatureNamer(schema, bits)
        self.teller = RefusalTeller(schema)

    def twin(self) -> Codec:
        """Another codec that encodes as this one does, for another thread."""
        twin = type(self)(self.schema, self.bits, self.need_label)
        twin._met = self._met
        return twin

    def unmet(self) -> set[str]:
        """The crossed fields that no record had a value of, so far: their crosses have no feature."""
        numbers = {field.name: number for number, (field, _) in enumerate(planned_fields(self.schema))}
        return {name for cross in self.schema.crosses for name in cross if not self._met[numbers[name]]}

    def encode(self, block: Block) -> Iterator[Encoded]:
        """All records of ``block``, in order, in parts of at most MAX_BATCH_ROWS."""
        first = self.prepare(block)
        while first < len(block):
            part = self._encode_part(block, first)
            yield part
            first = part.stop

    def prepare(self, block: Block) -> int:
        """Look at the block before its records are encoded; returns the first that is an event."""
        return 0

    def _encode_part(self, block: Block, first: int) -> Encoded:
        last = min(first + MAX_BATCH_ROWS, len(block))
        lo, hi = int(block.starts[first]), int(block.ends[last - 1])
        # A feature takes two bytes of text at least, crosses apart; a full sink ends the part early.
        sink = self._sink_for(last - first, (hi - lo) // 2 + (last - first))
        stop = self.fill(block, first, last, sink, needs_check(block.data, lo, hi))
        batch = Batch.from_sink(sink, 1 << self.bits, copy=True)
        refused = tuple(
            self._refusal(block, int(sink.refused[k, 0]), int(sink.refused[k, 1]))
            for k in range(int(sink.state[REFUSED]))
        )
        return Encoded(batch, sink.records[: int(sink.state[ROWS])].copy(), refused, stop)

    def _sink_for(self, rows: int, features: int) -> Sink:
        """The codec's own sink, empty: its memory stays in the cache, that of a new one would not."""
        if (
            self._sink is None
            or len(self._sink.records) < rows
            or len(self._sink.slots) < features + MAX_ROW_FEATURES
        ):
            # With room to spare, because no two blocks are of the same size.
            self._sink = make_sink(rows + rows // 8, features + features // 8)._replace(met=self._met)
        reset(self._sink)
        return self._sink

    def _refusal(self, block: Block, record: int, reason: int) -> Refusal:
        position = int(block.positions[record - 1]) if record else block.first
        event = block.record(record)
        short = len(event) <= _DESCRIBED_BYTES
        text = self.describe(block, record, reason) if short else self.reasons[reason]
        return Refusal(block.partition, position, text, event[:_KEPT_BYTES])

    def describe(self, block: Block, record: int, reason: int) -> str:
        """Why a record is refused, in words; with the field and the value where they can be told."""
        return self.reasons[reason]

    @abstractmethod
    def fill(self, block: Block, first: int, last: int, sink: Sink, check: bool) -> int:
        """Write records ``first <= i < last`` to the sink; returns the first one not written.

        ``check`` says that some record holds a NUL or a byte above 127 and must be looked at.
        """

    @abstractmethod
    def features(self, block: Block, record: int, only: Container[int] | None = None) -> list[Feature]:
        """The features of a record that :meth:`encode` accepts, by name; slow, for a person to read.

        Those of the slots ``only``, where they are given: that is less slow the fewer they are.
        It may be called from another thread than the one that encodes.
        """

    def names_near(
        self, block: Block, record: int, wanted: Iterable[tuple[int, int]]
    ) -> list[tuple[int, str]] | None:
        """As :meth:`FeatureNamer.near` of the record's values; None: :meth:`features` tells."""
        return None


def format_names() -> list[str]:
    """The formats there are: one a file in this folder."""
    import streams.codecs as package

    helpers = ("base", "delimited")
    return sorted(m.name for m in pkgutil.iter_modules(package.__path__) if m.name not in helpers)


def open_codec(name: str, schema: Schema, bits: int, need_label: bool = True) -> Codec:
    """The codec of format ``name``; with ``need_label`` an event without a label is refused."""
    if name not in format_names():
        raise ConfigError(f"format must be one of {', '.join(format_names())}, got {name!r}")
    module = importlib.import_module(f"streams.codecs.{name}")
    codec: Codec = module.codec(schema, bits, need_label)
    return codec
