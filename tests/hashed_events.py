"""Simulated clicks that are hashed once, for the tests of `ftrl compare`."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.comparison.events import Events, hash_events
from bench.inputs import Inputs
from ftrl_engine import Schema
from streams.codecs.base import open_codec
from streams.source import SourceOptions, open_source

ROWS, BITS = 3000, 16


def hashed(
    path: Path, scratch: Path, schema: str, block_bytes: int = 4 << 20, limit: int | None = None
) -> Events:
    scratch.mkdir()
    loaded = Schema.load(schema)
    options = SourceOptions(columns_known=bool(loaded.columns), block_bytes=block_bytes)
    source = open_source(str(path), {}, options)
    assert source.format is not None
    try:
        return hash_events(source, open_codec(source.format, loaded, BITS), scratch, limit)
    finally:
        source.close()


@pytest.fixture(scope="module")
def clicks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Inputs(tmp_path_factory.mktemp("inputs")).clicks("jsonl", ROWS)


@pytest.fixture(scope="module")
def events(clicks: Path, tmp_path_factory: pytest.TempPathFactory) -> Events:
    return hashed(clicks, tmp_path_factory.mktemp("events") / "scratch", "clicks")
