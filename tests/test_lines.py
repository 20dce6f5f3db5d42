"""Lines to records: the compiled splitter against a slow oracle, and the reader's laws."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.errors import ConfigError, SourceError
from streams.line_ends import split, split_lines
from streams.lines import REFUSED_BYTES, LineReader, block_from_lines
from streams.source import PADDING, Block

LIMIT = 12

# Few letters, so that blank lines, \r\n and long lines are frequent.
texts = st.lists(
    st.sampled_from([b"\n", b"\r\n", b"\r", b"a", b"bc", b"\x8a\xff", b"0123456789", b"x" * 40]), max_size=60
).map(b"".join)


def padded(text: bytes, filler: bytes = b"\n") -> np.ndarray:
    return np.frombuffer(text + filler * PADDING, np.uint8).copy()


def oracle(text: bytes, final: bool) -> list[tuple[bytes, int, int]]:
    """(record, its start, the position after it), blank lines left out, one byte at a time."""
    records, start = [], 0
    for at in range(len(text)):
        if text[at : at + 1] == b"\n":
            line = text[start:at].removesuffix(b"\r")
            records += [(line, start, at + 1)] * bool(line)
            start = at + 1
    rest = text[start:].removesuffix(b"\r")
    return records + [(rest, start, len(text))] * bool(final and rest)


@given(texts, st.booleans())
def test_split_equals_the_byte_by_byte_oracle(text: bytes, final: bool) -> None:
    data = padded(text)
    starts, ends, after, consumed = split_lines(data, len(text), final)
    found = [(data[lo:hi].tobytes(), lo, next_) for lo, hi, next_ in zip(starts, ends, after, strict=True)]
    assert found == oracle(text, final)
    assert consumed == (len(text) if final else text.rfind(b"\n") + 1)


def test_many_short_lines_outgrow_the_first_guess() -> None:
    text = b"a\n" * 5000 + b"b"
    starts, ends, consumed = split(padded(text), len(text), True)
    assert len(starts) == 5001
    assert (ends - starts == 1).all()
    assert consumed == len(text)
    np.testing.assert_array_equal(starts, np.arange(0, 10_001, 2))


def test_bytes_after_n_are_not_read_as_data() -> None:
    data = padded(b"ab\ncd\nef", filler=b"\n")
    assert len(split(data, 4, False)[0]) == 1
    assert len(split(data, 6, False)[0]) == 2


def test_missing_padding_is_refused() -> None:
    with pytest.raises(ConfigError, match="64 bytes"):
        split(np.zeros(70, np.uint8), 10, False)


class Drops:
    """A stream that gives its bytes in drops of the given sizes, and sometimes nothing yet."""

    def __init__(self, text: bytes, sizes: list[int]) -> None:
        self.stream = io.BytesIO(text)
        self.sizes = sizes
        self.calls = 0

    def readinto(self, view: memoryview) -> int | None:
        size = self.sizes[self.calls % len(self.sizes)] if self.sizes else len(view)
        self.calls += 1
        return self.stream.readinto(view[:size]) if size else None

    @property
    def empty(self) -> bool:
        return self.stream.tell() == len(self.stream.getvalue())


def read_all(reader: LineReader, drops: Drops) -> list[Block]:
    blocks: list[Block] = []
    while True:
        block = reader.read()
        if block is None and drops.empty:
            block = reader.finish()
            return blocks + ([block] if block is not None else [])
        if block is not None:
            blocks.append(block)


def events(blocks: list[Block]) -> list[tuple[int, bytes, str]]:
    """Everything in the blocks, refused records included: (position after or of it, bytes, kind)."""
    rows = [
        (int(after), block.record(i), "row") for block in blocks for i, after in enumerate(block.positions)
    ]
    return rows + [(r.position, r.event, "refused") for block in blocks for r in block.refused]


def expected(text: bytes, base: int, limit: int) -> list[tuple[int, bytes, str]]:
    records = oracle(text, True)
    rows = [(base + after, record, "row") for record, _, after in records if len(record) <= limit]
    refused = [(base + at, record[:limit], "refused") for record, at, _ in records if len(record) > limit]
    return rows + refused


@given(
    texts,
    st.lists(st.integers(0, 30), min_size=1, max_size=6).filter(any),
    st.integers(1, 50),
    st.integers(0, 10**12),
)
def test_reader_gives_the_same_records_however_bytes_arrive(
    text: bytes, sizes: list[int], block_bytes: int, base: int
) -> None:
    drops = Drops(text, sizes)
    reader = LineReader(drops.readinto, "p", base, block_bytes=block_bytes, limit=LIMIT)
    blocks = read_all(reader, drops)
    assert events(blocks) == expected(text, base, LIMIT)
    # Blocks follow each other without gaps and know where their records are.
    position = base
    for block in blocks:
        assert (block.partition, block.first) == ("p", position)
        assert block.data.dtype == np.uint8
        assert block.data.flags.writeable
        assert block.data.flags.c_contiguous
        assert len(block) == 0 or len(block.data) >= block.ends[-1] + PADDING
        assert len(block) == 0 or block.next >= block.positions[-1]
        position = block.next
    assert reader.position == position
    # Blank lines at the end are not counted, so the end does not depend on the blocks.
    records = oracle(text, True)
    assert position == base + (records[-1][2] if records else 0)


@given(texts, st.integers(1, 50), st.data())
def test_reading_goes_on_exactly_at_every_position(
    text: bytes, block_bytes: int, data: st.DataObject
) -> None:
    whole = expected(text, 0, LIMIT)
    positions = [0] + [after for _, _, after in oracle(text, True)]
    start = data.draw(st.sampled_from(positions))
    drops = Drops(text[start:], [])
    reader = LineReader(drops.readinto, "p", start, block_bytes=block_bytes, limit=LIMIT)
    rest = events(read_all(reader, drops))
    kept = [e for e in whole if (e[0] > start if e[2] == "row" else e[0] >= start)]
    assert rest == kept


@given(texts, st.integers(0, 40))
def test_rewinding_after_every_read_loses_and_repeats_nothing(text: bytes, size: int) -> None:
    reader: LineReader
    offset = 0

    def readinto(view: memoryview) -> int:
        nonlocal offset
        part = text[offset : offset + min(len(view), size + 1)]
        view[: len(part)] = part
        offset += len(part)
        return len(part)

    reader = LineReader(readinto, "p", block_bytes=16, limit=4000)
    blocks = []
    while (block := reader.read()) is not None:
        blocks.append(block)
        offset = reader.rewind()
    assert [e[:2] for e in events(blocks)] == [(after, record) for record, _, after in oracle(text, False)]


def test_a_long_record_costs_bounded_memory_and_keeps_its_beginning() -> None:
    limit = 1 << 20
    text = b"first\n" + b"a" * (6 << 20) + b"\nlast\n"
    drops = Drops(text, [100_000])
    sizes: list[int] = []

    def readinto(view: memoryview) -> int | None:
        sizes.append(len(view))  # the room left in the buffer
        return drops.readinto(view)

    reader = LineReader(readinto, "p", block_bytes=1 << 16, limit=limit)
    blocks = read_all(reader, drops)
    assert max(sizes) <= 2 * limit
    assert [block.record(i) for block in blocks for i in range(len(block))] == [b"first", b"last"]
    (refusal,) = (r for block in blocks for r in block.refused)
    assert refusal.position == 6
    assert refusal.event == b"a" * REFUSED_BYTES
    assert "limit of 1048576 bytes" in refusal.reason
    assert blocks[-1].next == len(text)


def test_a_record_of_exactly_the_limit_is_read_with_either_line_end() -> None:
    text = b"a" * LIMIT + b"\n" + b"b" * LIMIT + b"\r\n" + b"c" * (LIMIT + 1) + b"\n"
    drops = Drops(text, [1])
    blocks = read_all(LineReader(drops.readinto, "p", block_bytes=4, limit=LIMIT), drops)
    assert [block.record(i) for block in blocks for i in range(len(block))] == [b"a" * LIMIT, b"b" * LIMIT]
    assert [r.event for block in blocks for r in block.refused] == [b"c" * LIMIT]


def test_a_block_keeps_its_bytes_while_reading_goes_on() -> None:
    text = b"".join(b"record %d\n" % i for i in range(2000))
    drops = Drops(text, [])
    reader = LineReader(drops.readinto, "p", block_bytes=300)
    blocks = read_all(reader, drops)
    assert len(blocks) > 50
    assert b"".join(b.record(i) + b"\n" for b in blocks for i in range(len(b))) == text


def test_header_is_taken_once_and_put_on_every_block() -> None:
    drops = Drops(b"\na,b\r\n1,2\n3,4\n", [4])
    reader = LineReader(drops.readinto, "p", block_bytes=6)
    assert reader.take_header() == b"a,b"
    assert reader.position == 6
    blocks = read_all(reader, drops)
    assert [block.header for block in blocks] == [b"a,b"] * len(blocks)
    assert [e[:2] for e in events(blocks)] == [(10, b"1,2"), (14, b"3,4")]


def test_header_without_an_end_is_not_taken() -> None:
    assert LineReader(Drops(b"a,b", []).readinto, "p").take_header() is None
    with pytest.raises(SourceError, match="header line is longer than 12 bytes"):
        LineReader(Drops(b"a" * 99, []).readinto, "p", block_bytes=8, limit=LIMIT).take_header()


@pytest.mark.parametrize("position", [0, 6, 8, 10])
def test_skip_to_goes_forward_only(position: int) -> None:
    drops = Drops(b"head\n\n1\n2\n", [3])
    reader = LineReader(drops.readinto, "p", block_bytes=4)
    reader.take_header()
    assert reader.skip_to(position) is True
    assert reader.position == max(5, position)
    left = [record for _, record, _ in events(read_all(reader, drops))]
    assert left == {0: [b"1", b"2"], 6: [b"1", b"2"], 8: [b"2"], 10: []}[position]
    assert reader.skip_to(11) is False


def test_block_from_lines_counts_from_its_base() -> None:
    text = b"one\r\n\ntwo\n\nrest"
    block, consumed = block_from_lines("file", padded(text), len(text), 100, False, b"h")
    assert consumed == 11
    assert [block.record(i) for i in range(len(block))] == [b"one", b"two"]
    assert block.positions.tolist() == [105, 110]
    assert (block.first, block.next, block.header) == (100, 110, b"h")


def test_block_size_must_be_positive() -> None:
    with pytest.raises(ConfigError, match="block_bytes must be at least 1; got 0"):
        LineReader(Drops(b"", []).readinto, "p", block_bytes=0)
