"""Broken lines by the ten thousand: nothing crashes, and every one is a right row or refused."""

from __future__ import annotations

import random
from collections.abc import Sequence

import pytest

from streams.codecs.base import open_codec
from streams.source import Refusal
from tests.blocks import make_block
from tests.codec_lines import BITS, FORMATS, LINES, NUMBERS, OTHER_TEXTS, SCHEMA, check, rows_of

LINES_A_FORMAT = 10_000
# Bytes with a meaning in some format, and bytes with none in any.
MARKS = b"\0\t\r \"',#|:;\\/{}[]()0123456789+-.eEnaif_~\x01\x1f\x7f\x80\xa0\xc0\xe9\xf0\xff"
WORDS = [text.encode() for text in (*NUMBERS, *OTHER_TEXTS)] + [
    b"NaN", b"Infinity", b"2", b"-1", b"null", b"1e999", b"9" * 30, b"{}", b"[]", b"[[", b'":', b'""', b"||",
    b"::", b"\xc3", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\\u0000", b"\\ud800", b"\\x", b"\\",
]  # fmt: skip


def mutate(line: bytes, others: Sequence[bytes], choose: random.Random) -> bytes:
    """The line with one thing wrong with it, perhaps."""
    at = choose.randrange(len(line) + 1)
    end = min(len(line), at + choose.choice((1, 1, 1, 2, 5, 30)))
    other = choose.choice(others)
    return choose.choice(
        (
            lambda: line[:at] + line[end:],
            lambda: line[:at] + bytes([choose.choice(MARKS)]) + line[at:],
            lambda: line[:at] + bytes([choose.choice(MARKS)]) + line[end:],
            lambda: line[:at] + bytes([choose.randrange(256)]) + line[end:],
            lambda: line[:at] + choose.choice(WORDS) + line[end:],
            lambda: line[:at],
            lambda: line[:at] + line[at:end] * 2 + line[end:],
            lambda: line[:at] + other[choose.randrange(len(other)) :],
        )
    )().replace(b"\n", b" ")


def mutants(name: str, count: int, seed: int) -> list[bytes]:
    """Lines with one to four mutations each."""
    choose = random.Random(seed)
    lines = [line.encode() for line in LINES[name]]
    found = []
    for _ in range(count):
        line = choose.choice(lines)
        for _ in range(choose.choice((1, 1, 2, 4))):
            line = mutate(line, lines, choose)
        found.append(line)
    return found


@pytest.mark.parametrize("name", FORMATS)
def test_broken_lines(name: str) -> None:
    rows = check(name, mutants(name, LINES_A_FORMAT, seed=7))
    kept = sum(row is not None for row in rows)
    assert LINES_A_FORMAT / 20 < kept < LINES_A_FORMAT * 19 / 20


@pytest.mark.parametrize("name", FORMATS)
def test_one_broken_line_does_not_touch_its_neighbours(name: str) -> None:
    good = [line.encode() for line in LINES[name]]
    alone = rows_of(open_codec(name, SCHEMA, BITS), good)
    codec = open_codec(name, SCHEMA, BITS)
    for line in mutants(name, 50, seed=11):
        rows = rows_of(codec, [*good, line, *good])
        assert rows[: len(good)] == rows[len(good) + 1 :] == alone


HUGE = 10 << 20


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize(
    "filler", [b"x", b"1", b"\t", b",", b'"', b"[", b" a:1", b"|a b ", b'{"a":', b"\\", b"\xff"]
)
def test_huge_lines(name: str, filler: bytes) -> None:
    """Ten megabytes of the same between the halves of a good line."""
    line = LINES[name][1].encode()
    half = len(line) // 2
    huge = line[:half] + filler * (HUGE // len(filler)) + line[half:]
    kept: list[int] = []
    refused: list[Refusal] = []
    for part in open_codec(name, SCHEMA, BITS).encode(make_block([line, huge, line])):
        kept += part.records.tolist()
        refused += part.refused
    assert {0, 2} <= set(kept)
    assert len(kept) + len(refused) == 3
    assert all(refusal.reason and len(refusal.event) <= 64 << 10 for refusal in refused)
