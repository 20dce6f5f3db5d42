"""The partitions of a topic that are read: where each stands, and what is still to come."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from streams.kafka_positions import offset_of


@dataclass(slots=True)
class ReadPartition:
    """name  in blocks and checkpoints; position  after everything returned; begun  where reading began
    end  the offset where a bounded run finishes
    """

    name: str
    position: int
    begun: int
    end: int | None

    @property
    def offset(self) -> int:
        """The offset of the next message."""
        return offset_of(self.position)


class ReadPartitions(dict[int, ReadPartition]):
    """The partitions by number."""

    def positions(self) -> dict[str, int]:
        return {each.name: each.position for each in self.values()}

    def offsets(self) -> dict[int, int]:
        """The offset of the next message of each."""
        return {number: each.offset for number, each in self.items()}

    def fraction(self) -> float:
        """How much of a bounded run is read, in [0, 1]."""
        parts = [(offset_of(each.begun), each.offset, each.end) for each in self.values()]
        whole = sum(end - begun for begun, _, end in parts if end is not None)
        read = sum(min(at, end) - begun for begun, at, end in parts if end is not None)
        return read / whole if whole > 0 else 1.0

    def lag(self, end_of: Callable[[int], int | None]) -> int:
        """Messages to come, by what is known of the end of each partition."""
        ends = {number: end_of(number) for number in self}
        return sum(max(0, end - self[number].offset) for number, end in ends.items() if end is not None)

    def ended(self, passed: Callable[[int], int]) -> bool:
        """Whether every end is reached; ``passed`` tells how far a partition is read, events or not."""
        return all(
            each.end is None or max(each.offset, passed(number)) >= each.end for number, each in self.items()
        )
