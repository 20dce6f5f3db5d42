"""Columns run by run: whatever stands next to what, each row has the features of the slow encoder."""

from __future__ import annotations

import random

import numpy as np
import pytest

from ftrl_engine import Schema
from ftrl_engine.schema import Field
from ftrl_engine.sink import CELLS, MARK_ROWS, VALUED, begin
from ftrl_engine.text import needs_check, string_end
from streams.codecs.base import open_codec
from streams.source import PADDING
from tests.blocks import make_block
from tests.codec_lines import BITS, check, rows_of

WAYS = {
    "token": {"kind": "token"},
    "bucket": {"kind": "number", "transform": "log_bucket"},
    "value": {"kind": "number", "transform": "none"},
    "words": {"kind": "tokens"},
    "auto": {"kind": "auto"},
}
TEXTS = {
    "token": ("", "a", "seven77", "eight888", "nine99999", "x" * 40, "é", "12345678"),
    "bucket": (
        "",
        "0",
        "007",
        "-3",
        "4095",
        "4096",
        "99999999",
        "100000000",
        "2.5",
        "1e3",
        "+5",
        "12345678901",
    ),
    "value": ("", "1", "1", "0", "2.5"),
    "words": ("", "a", "a,b", ",", "b,b,eight888"),
    "auto": ("", "red", "17", "2.5", "-0.5", "1e3", "eight888", "123456789", ".5", "12e7"),
}


def schema_of(ways: list[str], missing: str, crosses: tuple[tuple[str, ...], ...] = ()) -> Schema:
    """Columns f0, f1, ... taken in these ways, their fields in another order than the columns."""
    fields = [Field(f"f{k}", missing=missing, **WAYS[way]) for k, way in enumerate(ways)]  # type: ignore[arg-type]
    columns = ("label", *(field.name for field in fields), "ignored")
    return Schema(
        fields=tuple(reversed(fields)), columns=columns, label="label", ignore=("ignored",), crosses=crosses
    )


def lines_of(ways: list[str], rows: int, seed: int) -> list[bytes]:
    draw = random.Random(seed)
    lines = []
    for _ in range(rows):
        texts = [draw.choice("01"), *(draw.choice(TEXTS[way]) for way in ways), draw.choice(("", "any"))]
        lines.append("\t".join(texts).encode())
    return lines


@pytest.mark.parametrize("missing", ["ignore", "feature"])
@pytest.mark.parametrize("columns", [1, 12, 61, 62, 90])
def test_any_order_of_ways(columns: int, missing: str) -> None:
    """With and without a bit for each field: label, columns and what is ignored are 63 at most."""
    draw = random.Random(columns)
    ways = [draw.choice(list(WAYS)) for _ in range(columns)]
    ways.sort(key=lambda way: draw.random() < 0.5)
    check("tsv", lines_of(ways, 12, columns), schema_of(ways, missing))


@pytest.mark.parametrize("missing", ["ignore", "feature"])
def test_crosses_know_whose_cell_is_whose(missing: str) -> None:
    ways = ["token", "token", "bucket", "auto", "words", "value", "bucket"]
    crosses = (("f0", "f2"), ("f1", "f3", "f4"), ("f5", "f6"))
    check("tsv", lines_of(ways, 60, 7), schema_of(ways, missing, crosses))


@pytest.mark.parametrize("bits", [4, BITS])
def test_rows_do_not_mix(bits: int) -> None:
    """More rows than marks are told apart, among them such with values and, with few slots, with repeats."""
    ways = ["token"] * 3 + ["value", "bucket", "auto"]
    schema = schema_of(ways, "feature")
    lines = lines_of(ways, 3 * MARK_ROWS, bits)
    together = rows_of(open_codec("tsv", schema, bits), lines)
    assert together == [rows_of(open_codec("tsv", schema, bits), [line])[0] for line in lines]


def test_amounts_are_one_beyond_the_row() -> None:
    codec = open_codec("tsv", schema_of(["value"] * 3, "ignore"), BITS)
    for lines in ([b"1\t2\t3\t4\t"], [b"1\t5\t\t\t", b"0\t1\t1\t1\t"], [b"1\t\t\t\t"]):
        list(codec.encode(make_block(lines)))
        sink = codec._sink
        assert sink is not None
        begin(sink)
        assert (int(sink.state[CELLS]), int(sink.state[VALUED])) == (0, 0)
        assert (sink.amounts == 1.0).all()


@pytest.mark.parametrize("length", [1, 31, 64, 100])
def test_only_plain_bytes_need_no_check(length: int) -> None:
    for place in {0, length // 2, length - 1}:
        for byte in (0, 1, 127, 128, 255):
            data = np.full(length + 2, 200, dtype=np.uint8)
            data[1:-1] = 65
            data[1 + place] = byte
            assert needs_check(data, 1, length + 1) == (byte in (0, 128, 255))


@pytest.mark.parametrize("stop", [8, 9, 40])
def test_a_string_ends_at_its_first_quote(stop: int) -> None:
    for byte in (9, 31, 32, 33, 34, 35, 91, 92, 93, 127, 128, 255):
        for place in range(stop):
            data = np.full(stop + 1 + PADDING, 65, dtype=np.uint8)
            data[stop], data[place] = 34, byte
            right = stop if byte not in (9, 31, 34, 92) else place if byte == 34 else stop + 1
            assert string_end(data, 0, stop + 1) == right, (byte, place)
