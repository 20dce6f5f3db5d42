"""What the tests of codecs share: a schema with every kind of field, lines, and the rows of a codec."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ftrl_engine import Schema
from ftrl_engine.naming import Feature
from streams.codecs.base import Codec, open_codec
from tests.blocks import make_block
from tests.oracles import encoding
from tests.oracles.encoding import Row

BITS = 22
FORMATS = ("csv", "jsonl", "libsvm", "tsv", "vw")
COLUMNS = ("click", "w", "when", "id", "user", "item", "tags", "price", "age", "income", "raw", "other")
SCHEMA = Schema.from_dict(
    {
        "label": "click",
        "weight": "w",
        "timestamp": "when",
        "ignore": ["id"],
        "crosses": [["user", "item"], ["tags", "user"], ["user", "tags", "item"], ["raw", "other"]],
        "columns": COLUMNS,
        "fields": {
            "user": {"kind": "token"},
            "tags": {"kind": "tokens", "separator": ",", "missing": "feature"},
            "price": {"kind": "number", "transform": "log_bucket"},
            "age": {"kind": "number", "bins": [-1.5, 0, 18, 30.25], "missing": "feature"},
            "income": {"kind": "number", "transform": "log1p"},
            "raw": {"kind": "number"},
        },
    }
)

# Texts of numbers, and texts that only look like some.
NUMBERS = (
    "0", "1", "-1", "+5", "42", "-0", "0.0", "007", "3.25", "-2.5", ".5", "5.", "-.75", "1e5", "1E-5",
    "2.5e+3", "1.7e308", "5e-324", "1e-999", "999999999999999", "9999999999999999999",
    "0.1234567890123456789", "123456789.123456789",
)  # fmt: skip
OTHER_TEXTS = (
    "", "a", "ab cd", "u7", "0x1f", "1e", "e5", "1e+", ".", "-", "+", "--1", "1.2.3", "12e7", "7e9999",
    "1_000", "nan", "inf", "-Infinity", "é", "日本語", "😀", "a" * 31, "b" * 32, "c" * 33, "x" * 100,
    "true", "null",
)  # fmt: skip

# Lines with all that a format allows; mutations of them are the broken lines.
LINES: dict[str, tuple[str, ...]] = {
    "tsv": (
        "1\t\t\t\t\t\t\t\t\t\t\t",
        "0\t2.5\t2024-01-01\tz9\tu1\ti1\ta,b,,c\t17\t18\t1000\t-3.5\tx",
        "1\t0\t\t\tü\t日本\t,\t-2\t-1.5\t-7\t1e-3\t5.5",
        '1\t1\t"\t\t"q\tx"y\ta\t0.75\t30.25\t0\t0\t12e7',
    ),
    "csv": (
        "1,,,,,,,,,,,",
        '0,2.5,2024-01-01,z9,u1,i1,"a,b,,c",17,18,1000,-3.5,x',
        '1,0,,,"ü","日本",",",-2,-1.5,-7,1e-3,5.5',
        '"1","1",,"i""d","q""",x"y,"a",0.75,"30.25",0,0,""',
    ),
    "jsonl": (
        '{"click":1}',
        '{"click": 0, "w": 2.5, "when": "t", "id": "z9", "user": "u1", "item": "i1", "tags": "a,b,,c"}',
        '{"age":18,"income":1000,"raw":-3.5,"other":"x","click":true,"item":5.5,"tags":["a","b,c",7,null,true]}',
        '{"user":"\\u00fc\\ud83d\\ude00","item":"a\\"b\\\\","click":"1","new":{"x":{"y":[1,2.5]},"z":null}}',
        '{"user":1.0,"item":-0,"price":1e-3,"click":false,"user":"last","id":{"any":[[1]]},"when":[{}]}',
        ' {"click" :\t1 , "user":2.5e+3, "item":[], "other":[-0.0, 1e2], "price":12345678901234567890}',
    ),
    "libsvm": (
        "1",
        "-1 3:1 7:0.5 10:2",
        "+1 qid:7 1:1 2:-3.25 03:1e-2 5 # 9:1",
        "0  user:1\tü:2.5  4:0 4:1 4:-1 ",
        "1.0 1:1e5 2:.5 3:5.#",
    ),
    "vw": (
        "1 |",
        "-1 2.5 'tag|user u1 |item i1 i2:3 |tags:0.5 a b:2 c:-1 | 3:1 7",
        "0 tag|raw x:1e-3|other y:.5 |id hidden:1 |when 9 |",
        "1 0  'x |user ü:2  a:0 a:1 a:-1 |:  |item",
        "+1\t1\t|a  x\ty:2",
    ),
}


def rows_of(codec: Codec, records: Sequence[bytes], **how: Any) -> list[Row | None]:
    """What the codec makes of each record: a row, or None and a reason."""
    block = make_block(records, **how)
    rows: list[Row | None] = [None] * len(records)
    seen: list[int] = []
    first = 0
    for part in codec.encode(block):
        assert first < part.stop <= len(records)
        refused = [int(np.searchsorted(block.starts, refusal.position)) for refusal in part.refused]
        for refusal, record in zip(part.refused, refused, strict=True):
            assert refusal.reason
            assert refusal.event == records[record][: 64 << 10]
        assert sorted([*part.records.tolist(), *refused]) == list(range(first, part.stop))
        for row, record in enumerate(part.records.tolist()):
            rows[record] = found = _row(part.batch, row)
            features = codec.features(block, record)
            check_names(features, found.features)
            only = {feature.slot for feature in features[::2]}
            assert codec.features(block, record, only) == [f for f in features if f.slot in only]
        seen += [*part.records.tolist(), *refused]
        first = part.stop
    assert len(seen) == len(records)
    return rows


def check_names(named: Sequence[Feature], features: Sequence[tuple[int, float]]) -> None:
    """Named features must have the slots of the compiled ones, and add up to their values."""
    sums: dict[int, float] = {}
    sizes: dict[int, float] = {}
    for feature in named:
        sums[feature.slot] = sums.get(feature.slot, 0.0) + feature.value
        sizes[feature.slot] = sizes.get(feature.slot, 0.0) + abs(feature.value)
        assert feature.name
        assert feature.fields
    assert sorted(sums) == sorted(slot for slot, _ in features)
    for slot, value in features:
        assert abs(sums[slot] - value) <= 1e-9 * sizes[slot], (slot, sums[slot], value)


def _row(batch: Any, row: int) -> Row:
    one = batch.rows(row, row + 1)
    features = list(zip(one.slots.tolist(), one.values.tolist(), strict=True))
    label = None if one.labels is None else float(one.labels[0])
    return Row(features, label, float(one.importance[0]))


def expected_rows(
    format_name: str,
    records: Sequence[bytes],
    schema: Schema = SCHEMA,
    bits: int = BITS,
    need_label: bool = True,
) -> list[Row | None]:
    """What the oracle makes of each record."""
    return [encoding.encode(format_name, record, schema, bits, need_label) for record in records]


def check(
    format_name: str, records: Sequence[bytes], schema: Schema = SCHEMA, bits: int = BITS, **how: Any
) -> list[Row | None]:
    """The codec's rows, which must be the oracle's."""
    found = rows_of(open_codec(format_name, schema, bits), records, **how)
    expected = expected_rows(format_name, records, schema, bits)
    for record, row, right in zip(records, found, expected, strict=True):
        assert row == right, (record[:2000], row, right)
    return found
