"""``missing = "feature"``: a field without a value gives a feature of its own, whatever the format."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest

from ftrl_engine import FeatureHasher, Schema
from ftrl_engine.batch import Batch
from ftrl_engine.errors import ConfigError
from ftrl_engine.hashing import hash_bytes, salt
from streams.codecs.base import open_codec
from tests.blocks import make_block

BITS = 20
SCHEMA = Schema.from_toml(
    """
    label = "click"
    columns = ["click", "site", "price", "tags"]
    crosses = [["site", "tags"]]
    [fields]
    site = { kind = "token", missing = "feature" }
    price = { kind = "number", transform = "log_bucket", missing = "feature" }
    tags = { kind = "tokens" }
    """
)
EVENTS = [
    {"click": 1, "site": "a", "price": 3, "tags": "x,y"},
    {"click": 0, "site": "", "price": 3, "tags": "x"},
    {"click": 0, "site": "a", "price": "", "tags": ""},
    {"click": 1, "site": "", "price": "", "tags": ""},
]


def features(batch: Batch) -> list[dict[int, float]]:
    rows = []
    for lo, hi in zip(batch.indptr[:-1], batch.indptr[1:], strict=True):
        rows.append(dict(zip(batch.slots[lo:hi].tolist(), batch.values[lo:hi].tolist(), strict=True)))
    return rows


def encoded(format: str, lines: list[bytes]) -> list[dict[int, float]]:
    (part,) = open_codec(format, SCHEMA, BITS).encode(make_block(lines))
    assert not part.refused
    return features(part.batch)


def missing(field: str) -> int:
    return hash_bytes(b"", salt(field)) >> (64 - BITS)


def test_every_way_in_agrees() -> None:
    expected = features(FeatureHasher(SCHEMA, BITS).transform(EVENTS))
    assert [(missing("site") in row, missing("price") in row) for row in expected] == [
        (False, False), (True, False), (False, True), (True, True),
    ]  # fmt: skip
    texts = ["\t".join(str(event[name]) for name in SCHEMA.columns).encode() for event in EVENTS]
    assert encoded("tsv", texts) == expected
    assert encoded("jsonl", [json.dumps(event).encode() for event in EVENTS]) == expected
    absent = [{k: v for k, v in event.items() if v != ""} for event in EVENTS]
    assert encoded("jsonl", [json.dumps(event).encode() for event in absent]) == expected
    null = [{k: None if v == "" else v for k, v in event.items()} for event in EVENTS]
    assert encoded("jsonl", [json.dumps(event).encode() for event in null]) == expected
    frame = pd.DataFrame(EVENTS).replace("", np.nan).astype({"price": "float64"})
    assert features(SCHEMA.encode(frame, bits=BITS)) == expected


def test_it_joins_no_cross() -> None:
    rows = features(FeatureHasher(SCHEMA, BITS).transform(EVENTS))
    assert len(rows[0]) == 1 + 1 + 2 + 2
    assert len(rows[1]) == 1 + 1 + 1
    assert set(rows[3]) == {missing("site"), missing("price")}


def test_it_travels_with_the_schema() -> None:
    assert Schema.from_dict(SCHEMA.to_dict()) == SCHEMA
    with pytest.raises(ConfigError, match="missing must be ignore or feature, got 'maybe'"):
        Schema.from_toml('[fields]\na = { missing = "maybe" }')
