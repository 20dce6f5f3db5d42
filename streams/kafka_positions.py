"""Positions in Kafka: ``offset * 1,000,000 + record`` within the message at that offset.

A message may hold many newline-separated events, so a position can point into a message:
4217000003 is record 3 (counted from 0) of the message at offset 4217. A partition is named
``kafka://TOPIC/NUMBER?id=TOPIC_ID``: without hosts, because a cluster may move, and with
the identity the broker gave the topic, because a topic deleted and made again is another one.
"""

from __future__ import annotations

import re
from typing import NamedTuple

RECORDS = 1_000_000
MAX_OFFSET = (1 << 63) // RECORDS - 2

_NAME = re.compile(r"kafka://([A-Za-z0-9._-]+)/(\d+)(?:\?id=([A-Za-z0-9_-]+))?")


class PartitionName(NamedTuple):
    """``topic_id`` is empty where the broker is too old to tell (before Kafka 2.8)."""

    topic: str
    number: int
    topic_id: str

    def __str__(self) -> str:
        suffix = f"?id={self.topic_id}" if self.topic_id else ""
        return f"kafka://{self.topic}/{self.number}{suffix}"

    @classmethod
    def parse(cls, text: str) -> PartitionName | None:
        """None for the partition of another kind of source."""
        match = _NAME.fullmatch(text)
        return None if match is None else cls(match[1], int(match[2]), match[3] or "")


def position_of(offset: int, record: int = 0) -> int:
    """The position of a record of the message at ``offset``."""
    return offset * RECORDS + record


def offset_of(position: int) -> int:
    """The offset of the message a position points to or into."""
    return position // RECORDS


def position_text(partition: str, position: int) -> str:
    """A position for people: in Kafka the offset, and the record within its message where one is begun."""
    if not partition.startswith("kafka://"):
        return f"{position:,}"
    record = position % RECORDS
    return f"offset {offset_of(position):,}" + (f", record {record}" if record else "")
