"""From messages to blocks: values joined in one buffer, records and positions found without a loop.

A message holds one event, or many with newlines between them. Blank lines, empty messages and
tombstones hold none.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from streams.kafka_positions import RECORDS, position_of
from streams.line_ends import split_lines
from streams.lines import REFUSED_BYTES, refuse_long
from streams.source import MAX_RECORD_BYTES, PADDING, Block, Refusal

Bytes = NDArray[np.uint8]
Offsets = NDArray[np.int64]


def block_of_messages(
    partition: str,
    values: list[bytes],
    offsets: Offsets,
    position: int,
    limit: int = MAX_RECORD_BYTES,
) -> Block:
    """The records of consecutive messages from ``position`` on, which may point into the first one.

    values    the messages, at least one; an empty one has no record
    offsets   int64[messages], rising, not always by one
    limit     a longer record is refused, and so is what follows the millionth record of a message

    The position after a record is that of the next record in the block, so positions are exact
    where offsets are missing (compaction, aborted transactions); after the last record it is the
    beginning of the message after the last one. Whatever row a block is cut at, reading again
    from there gives exactly the rest.
    """
    data = np.frombuffer(bytearray(b"\n").join((*values, bytes(PADDING))), np.uint8)
    starts, ends, _, _ = split_lines(data, len(data) - PADDING, final=True)
    message, record = _places(values, starts)
    refused: list[Refusal] = []
    if (record >= RECORDS).any():
        refused += _beyond(partition, offsets, message[record >= RECORDS])
        kept = record < RECORDS
        starts, ends, message, record = starts[kept], ends[kept], message[kept], record[kept]
    at = offsets[message] * RECORDS + record
    skipped = int(np.searchsorted(at, position))
    starts, ends, at = starts[skipped:], ends[skipped:], at[skipped:]
    following = position_of(int(offsets[-1]) + 1)
    after = np.append(at[1:], following)[: len(at)]
    if len(data) > limit and (long := ends - starts > limit).any():
        for row in np.flatnonzero(long):
            beginning = data[starts[row] : starts[row] + min(limit, REFUSED_BYTES)].tobytes()
            refused.append(refuse_long(partition, int(at[row]), beginning, limit))
        starts, ends, at, after = starts[~long], ends[~long], at[~long], after[~long]
    first = int(at[0]) if len(at) else position
    refused.sort(key=lambda each: each.position)
    return Block(partition, data, starts, ends, after, first, following, refused=tuple(refused))


def _places(values: list[bytes], starts: Offsets) -> tuple[Offsets, Offsets]:
    """Of every record: the message it is in, and its number there."""
    begins = np.zeros(len(values), np.int64)
    np.cumsum(np.fromiter(map(len, values), np.int64, len(values))[:-1] + 1, out=begins[1:])
    rows = np.arange(len(starts))
    if len(starts) == len(values) and (starts == begins).all():
        return rows, np.zeros(len(starts), np.int64)
    message = np.searchsorted(begins, starts, side="right") - 1
    opens = np.ones(len(starts), bool)
    opens[1:] = message[1:] != message[:-1]
    return message, rows - np.maximum.accumulate(np.where(opens, rows, 0))


def _beyond(partition: str, offsets: Offsets, messages: Offsets) -> list[Refusal]:
    """One refusal a message with too many records."""
    found, counts = np.unique(messages, return_counts=True)
    return [
        Refusal(
            partition,
            position_of(int(offsets[message]), RECORDS - 1),
            f"the message at offset {int(offsets[message])} holds {RECORDS + count:,} events, "
            f"more than the limit of {RECORDS:,}; the last {count:,} are refused",
            b"",
        )
        for message, count in zip(found.tolist(), counts.tolist(), strict=True)
    ]


def empty_block(name: str, position: int, refused: tuple[Refusal, ...]) -> Block:
    """No records: it brings a position, and what was refused there."""
    none = np.empty(0, np.int64)
    return Block(name, np.zeros(PADDING, np.uint8), none, none, none, position, position, refused=refused)


def without_tombstones(values: list[bytes | None]) -> list[bytes]:
    """Every message as bytes; one without a value has no event."""
    if None in values:
        return [value or b"" for value in values]
    return cast(list[bytes], values)


def runs_of(values: list[bytes], size: int) -> list[tuple[int, list[bytes]]]:
    """The messages in runs of about ``size`` bytes, each with the number of its first message."""
    total = sum(map(len, values))
    if total <= size:
        return [(0, values)]
    found: list[tuple[int, list[bytes]]] = []
    lo = filled = 0
    for at, value in enumerate(values):
        if filled and filled + len(value) > size:
            found.append((lo, values[lo:at]))
            lo, filled = at, 0
        filled += len(value)
    found.append((lo, values[lo:]))
    return found
