"""Standard input and named pipes: read as they come, without waiting longer than asked."""

from __future__ import annotations

import contextlib
import gzip
import io
import os
import signal
import stat
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.file_reading import (
    MARK,
    PACKERS,
    TEXT,
    blocks_of,
    opened,
    oracle,
    read,
    records_of,
    whole_lines,
    write,
)

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def stdin() -> Iterator[io.FileIO]:
    """The writing end of a pipe that is standard input meanwhile."""
    reading, writing = os.pipe()
    before = os.dup(0)
    os.dup2(reading, 0)
    os.close(reading)
    try:
        with io.FileIO(writing, "w") as file:
            yield file
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_standard_input_is_read_as_it_comes(stdin: io.FileIO) -> None:
    with opened("-", {"-": 100}, format="csv", columns_known=False) as source:
        assert source.format == "csv"
        assert source.poll(0.01) is None
        stdin.write(MARK + b"x,y")
        assert source.poll(0.01) is None
        stdin.write(b"\n1,2\n3,")
        block = source.poll(5)
        assert block is not None
        # A pipe goes on where it stands, its positions go on from the saved one.
        assert (block.header, records_of(block), block.first, block.next) == (b"x,y", [b"1,2"], 107, 111)
        began = time.monotonic()
        assert source.poll(0.1) is None
        assert 0.1 <= time.monotonic() - began < 5
        assert not source.finished
        stdin.write(b"4")
        stdin.close()
        block = source.poll(5)
        assert block is not None
        assert records_of(block) == [b"3,4"]
        assert source.poll(5) is None
        assert source.finished
        assert source.positions() == {"-": 114}


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("damaged", [False, True])
def test_standard_input_may_be_compressed(stdin: io.FileIO, suffix: str, damaged: bool) -> None:
    data = PACKERS[suffix](TEXT)
    damaged = damaged and suffix != ""
    if damaged:
        data = data[:-3] + b"\0\0\0" if suffix == ".gz" else data[:-1]

    def feed() -> None:
        for at in range(0, len(data), 1000):
            stdin.write(data[at : at + 1000])
        stdin.close()

    feeder = threading.Thread(target=feed)
    feeder.start()
    records, refused, positions = read("-", block_bytes=10_000)
    feeder.join()
    assert records == oracle(TEXT)
    assert [refusal.event for refusal in refused] == [b""] * damaged
    assert positions == {"-": len(TEXT)}


def test_corrupt_standard_input_loses_no_complete_record(stdin: io.FileIO) -> None:
    packed = bytearray(gzip.compress(TEXT[:20_000], mtime=0))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    exact, kept = zlib.decompressobj(31), b""
    with contextlib.suppress(zlib.error):
        for i in range(len(packed)):
            kept += exact.decompress(packed[i : i + 1])
    stdin.write(packed)
    stdin.close()
    records, (refusal,), _ = read("-")
    assert records == whole_lines(kept)
    assert refusal.event == kept[kept.rfind(b"\n") + 1 :]


@pytest.mark.parametrize("suffix", PACKERS)
def test_standard_input_may_be_a_file(tmp_path: Path, suffix: str) -> None:
    path = write(tmp_path / "a", PACKERS[suffix](TEXT))
    before = os.dup(0)
    try:
        with path.open("rb") as file:
            os.dup2(file.fileno(), 0)
        assert read("-")[0] == oracle(TEXT)
    finally:
        os.dup2(before, 0)
        os.close(before)


def test_a_named_pipe_is_read_like_standard_input(tmp_path: Path) -> None:
    path = tmp_path / "pipe.tsv"
    os.mkfifo(path)

    def feed() -> None:
        with path.open("wb") as file:
            file.write(b"a\nb")

    feeder = threading.Thread(target=feed)
    with opened(path, {str(path): 10}) as source:  # which does not wait for the writer
        feeder.start()
        blocks = list(blocks_of(source))
    feeder.join()
    assert stat.S_ISFIFO(path.stat().st_mode)
    assert [record for block in blocks for record in records_of(block)] == [b"a", b"b"]
    assert source.positions() == {str(path): 13}


def test_waiting_for_standard_input_is_interrupted_at_once() -> None:
    # The first poll loads what is loaded when it is needed, which is not what is tested here.
    code = (
        "from streams.source import open_source as o; s = o('-'); s.poll(0); print('ready', flush=True); "
        "s.poll(60)"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell that runs the tests in the background has its children ignore the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    with child:
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        time.sleep(0.2)
        began = time.monotonic()
        child.send_signal(signal.SIGINT)
        child.wait(30)
        assert time.monotonic() - began < 10
        assert child.stderr is not None
        assert b"KeyboardInterrupt" in child.stderr.read()


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere a pipe is opened when its writer comes")
def test_a_named_pipe_without_a_writer_is_waited_for_without_being_stuck(tmp_path: Path) -> None:
    path = tmp_path / "pipe.tsv"
    os.mkfifo(path)
    with opened(path, {}) as source:
        assert source.poll(0.01) is None
        assert not source.finished
        with path.open("wb") as file:
            file.write(b"a\nb\n")
        assert [record for block in blocks_of(source) for record in records_of(block)] == [b"a", b"b"]
