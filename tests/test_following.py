"""Following files: records as they are completed, newer files, and what goes wrong meanwhile."""

from __future__ import annotations

import gzip
import os
import threading
import time
import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import zstandard

from ftrl_engine.errors import SourceError
from streams.file_source import FileSource
from tests.file_reading import PACKERS, opened, options, records_of, write

Follow = Callable[..., "Follower"]


class Follower:
    """A source that follows, on a clock of its own: what shall happen meanwhile happens while it sleeps."""

    def __init__(self, *names: str | Path, positions: Mapping[str, int] | None = None, **given: Any) -> None:
        self.now = 0.0
        self.events: list[Callable[[], object]] = []
        self.source = FileSource(
            [*map(str, names)], positions or {}, options(follow=True, **given), lambda: self.now, self.sleep
        )

    def sleep(self, seconds: float) -> None:
        assert 0 < seconds <= 0.05
        self.now += seconds
        if self.events:
            self.events.pop(0)()

    def read(self, *events: Callable[[], object]) -> list[bytes]:
        """The records of the next second."""
        self.events = [*events]
        until, records = self.now + 1, []
        while self.now < until and not self.source.finished:
            block = self.source.poll(until - self.now)
            records += records_of(block) if block is not None else []
        assert not self.events
        return records


@pytest.fixture
def follow() -> Iterator[Follow]:
    """Makes followers and closes them."""
    followers: list[Follower] = []

    def make(*names: str | Path, **given: Any) -> Follower:
        followers.append(Follower(*names, **given))
        return followers[-1]

    yield make
    for follower in followers:
        follower.source.close()


def append(path: Path, data: bytes) -> Callable[[], object]:
    def run() -> None:
        with path.open("ab") as file:
            file.write(data)

    return run


def test_following_waits_for_line_ends(follow: Follow, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    follower = follow(path)
    assert follower.read() == []  # it is not there yet
    assert follower.read(
        append(path, b""), append(path, b"P"), append(path, b"1\nb"), append(path, b"2")
    ) == [b"P1"]
    assert follower.source.positions() == {str(path): 3}
    assert follower.read(append(path, b"\nc\n")) == [b"b2", b"c"]
    assert not follower.source.finished
    assert follow(path, positions={str(path): 3}).read(append(path, b"d\n")) == [b"b2", b"c", b"d"]


def test_a_newer_file_ends_the_one_before_it(follow: Follow, tmp_path: Path) -> None:
    follower = follow(tmp_path / "e-*.tsv")
    assert follower.read() == []
    nine, ten, eight = tmp_path / "e-9.tsv", tmp_path / "e-10.tsv", tmp_path / "e-8.tsv"
    assert follower.read(append(nine, b"one\ntwo")) == [b"one"]
    # The last words of the old file are read even where they come with the new one.
    assert follower.read(append(nine, b"!\nthree"), append(ten, b"four\nfive")) == [
        b"two!",
        b"three",
        b"four",
    ]
    assert follower.read(append(eight, b"late\n")) == []
    assert follower.source.positions() == {str(nine): 14, str(ten): 5}
    assert follower.read(append(ten, b"\n")) == [b"five"]
    again = follow(tmp_path / "e-*.tsv", positions=follower.source.positions())
    assert again.read() == [b"late"]


@pytest.mark.parametrize("suffix", [".gz", ".zst"])
def test_following_a_growing_compressed_file(follow: Follow, tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a.tsv{suffix}"
    sync: Any
    if suffix == ".gz":
        packer: Any = zlib.compressobj(wbits=31)
        sync = zlib.Z_SYNC_FLUSH
    else:
        packer, sync = zstandard.ZstdCompressor().compressobj(), zstandard.COMPRESSOBJ_FLUSH_BLOCK
    parts = [packer.compress(text) + packer.flush(sync) for text in (b"one\ntw", b"o\nthree\n", b"four\nfi")]
    follower = follow(path)
    assert follower.read(append(path, parts[0][:3]), append(path, parts[0][3:])) == [b"one"]
    assert follower.read(append(path, parts[1])) == [b"two", b"three"]
    again = follow(path, positions=follower.source.positions())
    assert again.read(append(path, parts[2])) == [b"four"]
    assert again.read(append(path, packer.flush()), append(path, PACKERS[suffix](b"ve\nsix\n"))) == [
        b"five",
        b"six",
    ]


def test_a_followed_file_that_is_cut_replaced_or_removed_is_an_error(follow: Follow, tmp_path: Path) -> None:
    path = tmp_path / "a.tsv"
    for happens, message in [
        (lambda: os.truncate(path, 1), r"a\.tsv: was cut to 1 bytes while it was followed, 4 had been read"),
        (lambda: write(tmp_path / "new", b"x\ny\n").replace(path), r"a\.tsv: was replaced or removed"),
        (path.unlink, r"a\.tsv: was replaced or removed"),
    ]:
        write(path, b"a\nb\n")
        follower = follow(path)
        assert follower.read() == [b"a", b"b"]
        with pytest.raises(SourceError, match=message):
            follower.read(happens)


def test_following_a_corrupt_file_ends(follow: Follow, tmp_path: Path) -> None:
    path = write(tmp_path / "a.tsv", gzip.compress(b"a\n") + b"something else")
    follower = follow(path)
    assert follower.read() == [b"a"]
    assert follower.source.finished


def test_a_newer_file_of_another_format_is_an_error(follow: Follow, tmp_path: Path) -> None:
    write(tmp_path / "a.1.tsv", b"a\n")
    follower = follow(tmp_path / "a.*")
    with pytest.raises(SourceError, match=r"a\.2\.csv, which is not of the format tsv"):
        follower.read(append(tmp_path / "a.2.csv", b"b\n"))


def test_following_in_real_time(tmp_path: Path) -> None:
    path = write(tmp_path / "a.vw", b"a\n")
    with opened(path, follow=True) as source:
        assert source.poll(0) is not None
        began = time.monotonic()
        assert source.poll(0.1) is None
        assert 0.1 <= time.monotonic() - began < 5
        timer = threading.Timer(0.1, append(path, b"b\n"))
        timer.start()
        block = source.poll(30)
        timer.join()
        assert block is not None
        assert records_of(block) == [b"b"]
    assert source.finished
