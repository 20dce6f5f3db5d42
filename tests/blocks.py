"""Blocks of given records, for tests of codecs and of what uses them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from streams.source import PADDING, Block


def make_block(
    records: Sequence[bytes], header: bytes | None = None, between: bytes = b"\n", after: bytes = b"\0"
) -> Block:
    """A block of the records; ``between`` stands after each, ``after`` fills the padding."""
    data = b"".join(record + between for record in records)
    lengths = np.array([len(record) for record in records], dtype=np.int64)
    following = np.cumsum(lengths + len(between))
    starts = following - lengths - len(between)
    padded = bytearray(data + (after * PADDING)[:PADDING])
    return Block(
        partition="test",
        data=np.frombuffer(padded, dtype=np.uint8),
        starts=starts,
        ends=starts + lengths,
        positions=following,
        first=0,
        next=len(data),
        header=header,
    )
