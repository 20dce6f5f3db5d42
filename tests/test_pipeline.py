"""Blocks are encoded by several threads and come out as if one had done it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from ftrl_engine.errors import SourceError
from ftrl_engine.schema import Schema
from streams import pipeline as pipeline_module
from streams.codecs.base import Codec, open_codec
from streams.pipeline import SPARE_BLOCKS, Pipeline, Step, steps_of
from streams.source import Block, Source
from tests.blocks import make_block

BITS = 18


class Listed(Source):
    """Gives the blocks of a list, then raises ``error`` or ends."""

    uri, format = "listed", "jsonl"

    def __init__(self, blocks: list[Block], error: Exception | None = None) -> None:
        self._blocks, self._error = iter(blocks), error
        self._ended = False

    @property
    def finished(self) -> bool:
        return self._ended

    def poll(self, wait: float) -> Block | None:
        block = next(self._blocks, None)
        if block is None:
            if self._error is not None:
                raise self._error
            self._ended = True
        return block

    def positions(self) -> dict[str, int]:
        return {}

    def fraction(self) -> float | None:
        return None

    def close(self) -> None:
        return None


def blocks(count: int, rows: int = 50) -> list[Block]:
    """Events of which every seventh is broken; each block is a partition of its own."""
    made = []
    for number in range(count):
        lines = [
            b"no event" if row % 7 == 3 else b'{"click": %d, "user": "u%d", "n": %d}' % (row % 2, number, row)
            for row in range(rows)
        ]
        made.append(replace(make_block(lines), partition=f"p{number}"))
    return made


def codec() -> Codec:
    return open_codec("jsonl", Schema.load("auto"), BITS)


def steps_with(helpers: int, source: Source) -> Iterator[Step]:
    with Pipeline(source, codec(), helpers) as pipeline:
        yield from (step for step in pipeline.steps() if step is not None)


def told(step: Step) -> tuple[Any, ...]:
    batch = step.batch
    arrays = (batch.indptr, batch.slots, batch.values, batch.labels, step.records, step.ends)
    return (step.partition, step.first, step.next, step.refused, *(np.asarray(a).tobytes() for a in arrays))


def test_any_number_of_helpers_gives_the_steps_of_one_codec_in_order() -> None:
    one = codec()
    alone = [told(step) for block in blocks(40) for step in steps_of(one, block)]
    assert [name for name, *_ in alone] == [f"p{number}" for number in range(40)]
    for helpers in (0, 1, 4):
        assert [told(step) for step in steps_with(helpers, Listed(blocks(40)))] == alone


def test_several_threads_encode_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first wait until the caller, the reader and the helper have all begun."""
    together, met = threading.Barrier(3, timeout=30), threading.Event()
    encode = Codec.encode

    def meet(self: Codec, block: Block) -> Iterator[Any]:
        if not met.is_set():
            together.wait()
            met.set()
        return encode(self, block)

    monkeypatch.setattr(Codec, "encode", meet)
    assert len(list(steps_with(1, Listed(blocks(12))))) == 12
    assert met.is_set()


def test_the_caller_encodes_while_the_reader_waits_for_the_source() -> None:
    more = threading.Event()

    class Slow(Listed):
        def poll(self, wait: float) -> Block | None:
            block = super().poll(wait)
            if block is None:
                assert more.wait(30)
            return block

    with Pipeline(Slow(blocks(2)), codec(), 0) as pipeline:
        steps = (step for step in pipeline.steps() if step is not None)
        assert [next(steps).partition, next(steps).partition] == ["p0", "p1"]
        more.set()
        assert list(steps) == []


def test_the_reader_encodes_while_enough_blocks_wait_for_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    encoded: list[str] = []
    enough = threading.Event()
    encode = Codec.encode

    def count(self: Codec, block: Block) -> Iterator[Any]:
        encoded.append(threading.current_thread().name)
        if len(encoded) == SPARE_BLOCKS:
            enough.set()
        return encode(self, block)

    monkeypatch.setattr(Codec, "encode", count)
    with Pipeline(Listed(blocks(10)), codec(), 0) as pipeline:
        assert enough.wait(30), "nobody has asked for a step"
        assert encoded == ["ftrl-reader"] * SPARE_BLOCKS
        assert sum(step is not None for step in pipeline.steps()) == 10


def test_what_the_source_raises_comes_after_the_steps_before_it() -> None:
    seen: list[str] = []
    with pytest.raises(SourceError, match="gone"):  # noqa: PT012
        for step in steps_with(3, Listed(blocks(5), SourceError("the file is gone"))):
            seen.append(step.partition)
    assert seen == [f"p{number}" for number in range(5)]


def test_what_a_codec_raises_comes_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    encode = Codec.encode

    def fail(self: Codec, block: Block) -> Iterator[Any]:
        if block.partition == "p2":
            raise SourceError("cannot be encoded")
        return encode(self, block)

    monkeypatch.setattr(Codec, "encode", fail)
    seen: list[str] = []
    with pytest.raises(SourceError, match="cannot be encoded"):  # noqa: PT012
        for step in steps_with(4, Listed(blocks(8))):
            seen.append(step.partition)
    assert seen == ["p0", "p1"]


def test_a_codec_that_has_no_twin_ends_the_run_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    encode = Codec.encode

    def late(self: Codec, block: Block) -> Iterator[Any]:
        assert asked.wait(30)
        return encode(self, block)

    def fail(self: Codec) -> Codec:
        asked.set()
        raise SourceError("no room for another one")

    monkeypatch.setattr(Codec, "encode", late)
    monkeypatch.setattr(Codec, "twin", fail)
    with pytest.raises(SourceError, match="no room"):
        list(steps_with(1, Listed(blocks(8))))


def test_an_interrupt_of_the_caller_is_raised_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Not as an error of the block that it was encoding, which may come later or never."""
    encode = Codec.encode
    first = threading.Event()

    def interrupted(self: Codec, block: Block) -> Iterator[Any]:
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        first.set()
        time.sleep(1.0)
        return encode(self, block)

    monkeypatch.setattr(Codec, "encode", interrupted)
    with Pipeline(Listed(blocks(3)), codec(), 1) as pipeline:
        assert first.wait(30), "a helper encodes the block that is learned first"
        began = time.monotonic()
        with pytest.raises(KeyboardInterrupt):
            next(pipeline.steps())
        assert time.monotonic() - began < 1.0


class Stuck(Listed):
    """Waits for ever, as some systems do for a network drive."""

    def __init__(self) -> None:
        super().__init__([])
        self.go_on = threading.Event()

    def poll(self, wait: float) -> Block | None:
        self.go_on.wait()
        return super().poll(wait)


def test_a_source_that_is_stuck_does_not_keep_the_program(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline_module, "_LEAVE_SECONDS", 0.1)
    source = Stuck()
    with Pipeline(source, codec(), 1) as pipeline:
        assert next(pipeline.steps(0.01)) is None
    source.go_on.set()


def test_no_thread_is_left_where_one_cannot_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_some(self: threading.Thread) -> None:
        if self.name == "ftrl-encoder":
            raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", start_some)
    with pytest.raises(RuntimeError, match="new thread"), Pipeline(Listed(blocks(100)), codec(), 1):
        pass
    assert not any(thread.name.startswith("ftrl-") for thread in threading.enumerate())


def test_a_pipeline_that_is_left_early_leaves_no_threads_and_reads_no_more_than_it_may_hold() -> None:
    given = 0

    def counted() -> Iterator[Block]:
        nonlocal given
        for block in blocks(100):
            given += 1
            yield block

    source = Listed([])
    source._blocks = counted()
    with Pipeline(source, codec(), 2) as pipeline:
        steps = pipeline.steps()
        while next(steps) is None:
            pass
        time.sleep(0.3)
        assert given <= SPARE_BLOCKS + 4, "one is learned, two more wait for two helpers, one for room"
    names = {thread.name for thread in threading.enumerate()}
    assert not any(name.startswith("ftrl-") for name in names), names
