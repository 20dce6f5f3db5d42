"""FeatureHasher: events in Python to a Batch."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from ftrl_engine.batch import Batch
from ftrl_engine.errors import DataError
from ftrl_engine.events import EventEncoder
from ftrl_engine.hashing import check_bits, hash_bytes, salt
from ftrl_engine.plain_events import PlainEvents
from ftrl_engine.plan import Plan, make_plan
from ftrl_engine.schema import Schema
from ftrl_engine.sink import REASONS, REFUSED, Sink, make_sink, reset, with_room

# So many events are encoded in memory that is kept for the next call.
_FEW, _FEW_FEATURES = 64, 1 << 14
_MOST_SPARE = 4


class _Encoders(NamedTuple):
    """The two ways of an event: plain dictionaries are asked first."""

    plain: PlainEvents
    any: EventEncoder

    @classmethod
    def of(cls, plan: Plan) -> _Encoders:
        return cls(PlainEvents(plan), EventEncoder(plan))


class FeatureHasher:
    """Turns mappings of fields into rows of slots, by the same rules as every file format.

    >>> batch = FeatureHasher(Schema(), bits=22).transform([{"user": "u7", "item": 42, "click": 1}])
    """

    def __init__(self, schema: Schema | None = None, bits: int = 22) -> None:
        self.schema = schema or Schema()
        self.bits = check_bits(bits)
        self._plan = make_plan(self.schema, bits)
        # Encoders and sinks for a few events, of which each is used by one call at a time.
        self._spare: list[tuple[_Encoders, Sink]] = []

    def slot(self, field: str, value: str) -> int:
        """The slot of one token."""
        return hash_bytes(value.encode(), salt(field)) >> (64 - self.bits)

    def transform(self, events: Iterable[Mapping[str, Any]]) -> Batch:
        """The events as a Batch; DataError names the first that cannot be one."""
        rows: Sequence[Mapping[str, Any]] = list(events)
        if len(rows) > _FEW:
            features = sum(len(row) for row in rows if isinstance(row, Mapping))
            return self._fill(_Encoders.of(self._plan), make_sink(len(rows), features), rows, copy=False)
        # Making a sink takes twenty times as long as encoding an event.
        spare = self._spare
        encoders, sink = spare.pop() if spare else (_Encoders.of(self._plan), make_sink(_FEW, _FEW_FEATURES))
        reset(sink)
        batch = self._fill(encoders, sink, rows, copy=True)
        if len(spare) < _MOST_SPARE:
            spare.append((encoders, sink))
        return batch

    def _fill(self, encoders: _Encoders, sink: Sink, rows: Sequence[Mapping[str, Any]], copy: bool) -> Batch:
        for index, event in enumerate(rows):
            # Lists and crosses make more features than the events have fields.
            sink = with_room(sink)
            if not encoders.plain.add(event, sink):
                try:
                    encoders.any.add(event, sink, index, need_label=False)
                except DataError as error:
                    raise DataError(f"event {index}: {error}") from error
            if sink.state[REFUSED]:
                raise DataError(f"event {index}: {REASONS[int(sink.refused[0, 1])]}")
        return Batch.from_sink(sink, 1 << self.bits, copy)
