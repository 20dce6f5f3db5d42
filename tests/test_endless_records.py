"""A record that never ends holds up nothing: the first signal ends the command cleanly."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest

from streams.lines import LineReader

FTRL = [sys.executable, "-m", "ftrl_engine"]
ROW = b'{"label": 1, "user": "a"}\n'

pytestmark = pytest.mark.skipif(not os.path.exists("/dev/zero"), reason="there is no /dev/zero")


def stopped(words: Sequence[object], number: int, source: str = "/dev/zero") -> tuple[int, float]:
    """(exit status, seconds it took to end) of a command that is at work on ``source``."""
    with open(source, "rb") as stdin:
        process = subprocess.Popen([*FTRL, *map(str, words)], stdin=stdin, stdout=subprocess.DEVNULL)
    try:
        time.sleep(4)
        assert process.poll() is None
        started = time.monotonic()
        process.send_signal(number)
        return process.wait(timeout=60), time.monotonic() - started
    finally:
        process.kill()
        process.wait()


def test_learning_is_stopped_by_the_first_signal(tmp_path: Path) -> None:
    words = ["learn", "-", "--format", "jsonl", "--model", tmp_path / "m", "--bits", "10", "--quiet"]
    status, seconds = stopped(words, signal.SIGTERM)
    assert status == 130
    assert seconds < 5
    done = subprocess.run([*FTRL, "learn", *map(str, words[1:]), "--json"], input=ROW, capture_output=True)
    assert json.loads(done.stdout)["rows"] == 1, "the checkpoint is whole"


def test_scoring_is_stopped_by_the_first_signal(tmp_path: Path) -> None:
    path = tmp_path / "events.jsonl"
    path.write_bytes(ROW)
    learn = [*FTRL, "learn", str(path), "--model", str(tmp_path / "m"), "--bits", "10", "--quiet"]
    assert subprocess.run(learn).returncode == 0
    words = ["score", "-", "--format", "jsonl", "--model", tmp_path / "m", "--quiet"]
    status, seconds = stopped(words, signal.SIGTERM)
    assert status == 130
    assert seconds < 5


def test_a_reader_comes_back_from_a_record_that_does_not_end() -> None:
    given = bytearray(b"one\n" + b"a" * 5000 + b"\ntwo\n")

    def readinto(view: memoryview) -> int:
        count = min(len(view), len(given), 10)
        view[:count] = given[:count]
        del given[:count]
        return count

    reader = LineReader(readinto, "p", block_bytes=10, limit=1000)
    blocks, pauses = [], 0
    while (block := reader.read(100)) is not None or reader.busy:
        pauses += block is None
        blocks += [block] if block is not None else []
    assert pauses >= 5
    assert [block.record(i) for block in blocks for i in range(len(block))] == [b"one", b"two"]
    assert [refusal.position for block in blocks for refusal in block.refused] == [4]
    assert reader.position == 5009
