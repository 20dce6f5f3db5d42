"""The embedded event log: what was appended is read once, in order, whatever happens between."""

from __future__ import annotations

import contextlib
import itertools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ftrl_engine.errors import ConfigError, DataError, LostDataError, SourceError
from streams import event_log
from streams.event_log import LogWriter
from streams.log_segments import segments, whole_size
from streams.log_source import LogSource
from streams.source import Block, Source, SourceOptions, open_source

ROOT = Path(__file__).resolve().parent.parent


def record(number: int, width: int = 0) -> bytes:
    return b'{"n":%d,"x":"%s"}\n' % (number, b"y" * width)


def open_log(
    directory: Path, position: int | None = None, follow: bool = False, block_bytes: int = 1 << 16
) -> Source:
    positions = {} if position is None else {f"log:{directory}": position}
    return open_source(f"log:{directory}", positions, SourceOptions(follow=follow, block_bytes=block_bytes))


@contextlib.contextmanager
def opened(
    directory: Path, position: int | None = None, follow: bool = False, block_bytes: int = 1 << 16
) -> Iterator[Source]:
    with contextlib.closing(open_log(directory, position, follow, block_bytes)) as source:
        yield source


def lines_of(block: Block) -> list[bytes]:
    return [block.record(i) + b"\n" for i in range(len(block))]


def read(directory: Path, position: int | None = None, block_bytes: int = 1 << 16) -> list[bytes]:
    with opened(directory, position, block_bytes=block_bytes) as source:
        return drain(source)


def drain(source: Source) -> list[bytes]:
    found: list[bytes] = []
    while not source.finished:
        block = source.poll(0)
        found += lines_of(block) if block is not None else []
    return found


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.glob("*.jsonl"))


def tear(directory: Path, rest: bytes) -> None:
    """Add the beginning of a record, as a writer that was killed leaves it."""
    with open(segments(directory)[-1].path, "ab") as file:
        file.write(rest)


# Appends of one or more records of various lengths.
batches = st.lists(st.lists(st.integers(0, 70), min_size=1, max_size=5), max_size=12)


def numbered(appends: list[list[int]]) -> list[list[bytes]]:
    count = itertools.count()
    return [[record(next(count), width) for width in widths] for widths in appends]


@given(batches, st.integers(1, 400), st.integers(1, 200), st.data())
def test_every_position_goes_on_exactly(
    appends: list[list[int]], segment_bytes: int, block_bytes: int, data: st.DataObject
) -> None:
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name) / "log"
        written = numbered(appends)
        whole = b"".join(itertools.chain(*written))
        with LogWriter(directory, segment_bytes=segment_bytes, fsync="never") as writer:
            for batch in written:
                before = writer.position
                assert writer.append(b"".join(batch)) == before + sum(map(len, batch))
        assert b"".join(path.read_bytes() for _, path in segments(directory)) == whole
        assert [s.start for s in segments(directory)] == sorted(s.start for s in segments(directory))
        records = list(itertools.chain(*written))
        assert read(directory, block_bytes=block_bytes) == records

        # From every record border, and from every point where a source was left.
        border = data.draw(st.integers(0, len(records)))
        position = sum(map(len, records[:border]))
        assert read(directory, position, block_bytes) == records[border:]
        polls = data.draw(st.integers(0, 6))
        with opened(directory, block_bytes=block_bytes) as source:
            head = [line for _ in range(polls) if (b := source.poll(0)) for line in lines_of(b)]
            left = source.positions()
        if left:
            assert head + read(directory, left[f"log:{directory}"], 1 << 16) == records


@given(batches, batches, st.integers(1, 300), st.integers(1, 100), st.binary(max_size=90))
def test_a_torn_record_is_not_read_and_not_kept(
    first: list[list[int]], second: list[list[int]], segment_bytes: int, block_bytes: int, torn: bytes
) -> None:
    torn = torn.replace(b"\n", b"")
    with tempfile.TemporaryDirectory() as name, contextlib.ExitStack() as stack:
        directory = Path(name)
        written = [b"".join(batch) for batch in numbered(first)]
        with LogWriter(directory, segment_bytes=segment_bytes, fsync="never") as writer:
            for lines in written:
                end = writer.append(lines)
        follower = stack.enter_context(opened(directory, follow=True, block_bytes=block_bytes))
        followed: list[bytes] = []
        if written:
            tear(directory, torn)
        assert b"".join(read(directory)) == b"".join(written)
        # A reader that goes on reading has met the torn bytes before they are cut off.
        while (block := follower.poll(0)) is not None:
            followed += lines_of(block)
        assert b"".join(followed) == b"".join(written)
        again = [b"".join(batch) for batch in numbered(second)]
        with LogWriter(directory, segment_bytes=segment_bytes, fsync="never") as writer:
            assert writer.position == (end if written else 0)
            for lines in again:
                writer.append(lines)
        while (block := follower.poll(0)) is not None:
            followed += lines_of(block)
        assert b"".join(followed) == b"".join(written + again) == b"".join(read(directory))


def test_a_reader_that_holds_torn_bytes_forgets_them(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as writer:
        writer.append(record(1))
    # The torn record is longer than a block, so a reader takes a part of it in.
    tear(tmp_path, record(2, 5000).rstrip()[:4000])
    with opened(tmp_path, follow=True, block_bytes=100) as source:
        block = source.poll(0)
        assert block is not None
        assert lines_of(block) == [record(1)]
        assert source.poll(0) is None
        with LogWriter(tmp_path) as writer:
            writer.append(record(3, 8000) + record(4))
        found = [line for _ in range(4) if (b := source.poll(0)) for line in lines_of(b)]
        assert found == [record(3, 8000), record(4)]


WRITER = """
import sys
from streams.event_log import LogWriter
writer = LogWriter(sys.argv[1], segment_bytes=200_000, fsync=sys.argv[3])
number = int(sys.argv[2])
while True:
    lines = b"".join(b'{"n":%d,"x":"%s"}\\n' % (n, b"y" * (n * 37 % 400)) for n in range(number, number + 50))
    position = writer.append(lines)
    number += 50
    print(number, position, flush=True)
"""


def test_kill_of_the_writer_loses_no_acknowledged_record(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    number = 0
    followed: list[bytes] = []
    with opened(directory, follow=True, block_bytes=5000) as source:
        for delay in (0.05, 0.13, 0.02):
            writer = subprocess.Popen(
                [sys.executable, "-c", WRITER, directory, str(number), "interval"],
                stdout=subprocess.PIPE,
                cwd=ROOT,
            )
            assert writer.stdout is not None
            acknowledged = [writer.stdout.readline()]
            time.sleep(delay)
            writer.send_signal(signal.SIGKILL)
            # The kill may cut the last line.
            acknowledged += [line for line in writer.stdout.read().splitlines(True) if line.endswith(b"\n")]
            assert writer.wait() == -signal.SIGKILL
            writer.stdout.close()
            promised, position = map(int, acknowledged[-1].split())
            tear(directory, b'{"n":12345,"x":"torn')  # a kill rarely falls inside the write itself
            deadline = time.monotonic() + 20
            while source.positions().get(f"log:{directory}", 0) < position:
                assert time.monotonic() < deadline
                block = source.poll(0.1)
                followed += lines_of(block) if block is not None else []
            while (block := source.poll(0)) is not None:
                followed += lines_of(block)
            number = len(followed)
            assert number >= promised
    assert followed == [record(n, n * 37 % 400) for n in range(number)]
    assert read(directory) == followed
    assert len(names(directory)) >= 3


def test_reading_while_writing_waits_for_the_log_and_follows_it(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    sent: list[float] = []

    def write() -> None:
        time.sleep(0.05)
        with LogWriter(directory, segment_bytes=120, fsync="never") as writer:
            for number in range(30):
                sent.append(time.monotonic())
                writer.append(record(number))
                time.sleep(0.004)

    thread = threading.Thread(target=write)
    delays: list[float] = []
    found: list[bytes] = []
    with opened(directory, follow=True) as source:
        assert source.poll(0) is None
        assert source.positions() == {}
        thread.start()
        deadline = time.monotonic() + 20
        while len(found) < 30 and time.monotonic() < deadline:
            block = source.poll(0.2)
            if block is not None:
                found += lines_of(block)
                delays.append(time.monotonic() - sent[len(found) - 1])
        assert not source.finished
    thread.join()
    assert found == [record(n) for n in range(30)]
    assert len(names(directory)) > 3
    assert sorted(delays)[len(delays) // 2] < 0.05  # 10 ms between looks, and a busy machine


def test_a_reader_tells_how_far_it_is_behind(tmp_path: Path) -> None:
    lines = [record(number, 100) for number in range(50)]
    with LogWriter(tmp_path, segment_bytes=1000) as log:
        log.append(b"".join(lines[:30]))
        source = open_log(tmp_path, follow=True, block_bytes=600)
        whole = sum(map(len, lines[:30]))
        seen = [source.status()["lag_bytes"]]
        while (block := source.poll(0.0)) is not None:
            seen.append(source.status()["lag_bytes"])
            assert seen[-1] == whole - block.next
        assert (seen[0], seen[-1]) == (whole, 0)
        log.append(b"".join(lines[30:]))
        assert source.status() == {"lag_bytes": sum(map(len, lines[30:]))}
        tear(tmp_path, b'{"half')
        assert source.status() == {"lag_bytes": sum(map(len, lines[30:]))}
    source.close()
    shutil.rmtree(tmp_path)
    assert source.status() in ({}, {"lag_bytes": 0})


def test_poll_waits_no_longer_than_it_was_told(tmp_path: Path) -> None:
    now = [0.0]
    naps: list[float] = []

    def sleep(seconds: float) -> None:
        naps.append(seconds)
        now[0] += seconds

    source = LogSource(tmp_path / "no", {}, SourceOptions(follow=True), clock=lambda: now[0], sleep=sleep)
    assert source.poll(0.105) is None
    assert now[0] == pytest.approx(0.105)
    assert max(naps) <= 0.02
    source.close()
    assert source.finished


def test_without_follow_the_end_is_where_the_log_ended_when_it_was_opened(tmp_path: Path) -> None:
    with LogWriter(tmp_path, segment_bytes=30) as writer:
        writer.append(record(1))
        with opened(tmp_path) as source:
            writer.append(record(2))
            writer.append(record(3))
            assert source.fraction() == 0.0
            assert drain(source) == [record(1)]
            assert source.fraction() == 1.0
    assert read(tmp_path) == [record(1), record(2), record(3)]


def test_segments_are_named_by_position_and_cut_by_size_and_age(tmp_path: Path) -> None:
    now = [0.0]
    with LogWriter(tmp_path, segment_bytes=40, segment_seconds=10, clock=lambda: now[0]) as writer:
        assert names(tmp_path) == []
        ends = [writer.append(record(n)) for n in range(3)]  # 15 bytes each: two fit
        now[0] = 9.9
        assert writer.append(record(3)) == 4 * len(record(0))
        now[0] = 20.0
        writer.append(record(4))
        writer.append(record(5, 500))  # never cut: a segment of its own
    starts = [0, ends[1], 4 * ends[0], 5 * ends[0]]
    assert names(tmp_path) == [f"{start:020d}.jsonl" for start in starts]
    with LogWriter(tmp_path, segment_bytes=10_000) as writer:
        writer.append(record(6))
    assert len(names(tmp_path)) == 4, "a whole last segment is continued"


def test_retention_removes_the_oldest_segments_only(tmp_path: Path) -> None:
    size = len(record(0))
    with LogWriter(tmp_path, segment_bytes=2 * size, retain_bytes=3 * size) as writer:
        for number in range(9):
            writer.append(record(number))
    kept = segments(tmp_path)
    assert kept[0].start == 4 * size  # at least three records stay, in whole segments of two
    assert read(tmp_path) == [record(n) for n in range(4, 9)]
    with pytest.raises(LostDataError) as caught:
        read(tmp_path, 2 * size)
    assert str(tmp_path) in str(caught.value)
    assert f"position {2 * size} " in str(caught.value)
    assert f"first kept position is {4 * size}" in str(caught.value)
    with LogWriter(tmp_path, retain_bytes=0) as writer:
        assert len(names(tmp_path)) == 1
        assert writer.position == 9 * size


def test_a_slow_reader_is_told_when_retention_overtakes_it(tmp_path: Path) -> None:
    size = len(record(0))
    with LogWriter(tmp_path, segment_bytes=2 * size, retain_bytes=2 * size) as writer:
        writer.append(record(0))
        with opened(tmp_path, follow=True) as source:
            assert lines_of(source.poll(0) or pytest.fail("no block")) == [record(0)]
            for number in range(1, 9):
                writer.append(record(number))
            # The rest of the removed segment is still open here, what followed it is gone.
            assert lines_of(source.poll(0) or pytest.fail("no block")) == [record(1)]
            with pytest.raises(LostDataError, match=f"position {2 * size} on are gone"):
                source.poll(0)


def test_a_missing_segment_is_an_error_after_the_records_before_it(tmp_path: Path) -> None:
    size = len(record(0))
    with LogWriter(tmp_path, segment_bytes=size) as writer:
        for number in range(4):
            writer.append(record(number))
    segments(tmp_path)[2].path.unlink()
    with opened(tmp_path) as source:
        block = source.poll(0)
        assert block is not None
        assert lines_of(block) == [record(0), record(1)]
        with pytest.raises(LostDataError, match=f"first kept position is {3 * size}"):
            source.poll(0)


@pytest.mark.parametrize("follow", [False, True])
def test_positions_that_are_not_of_this_log_are_refused(tmp_path: Path, follow: bool) -> None:
    with LogWriter(tmp_path) as writer:
        end = writer.append(record(1) + record(2))
    with pytest.raises(SourceError, match=f"position {end + 1} is beyond the end of the log, {end}"):
        open_log(tmp_path, end + 1, follow)
    with pytest.raises(SourceError, match="no record begins at position 5"):
        open_log(tmp_path, 5, follow)
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="position 7 is beyond the end of the log, 0"):
        open_log(tmp_path / "empty", 7, follow)


def test_missing_and_empty_logs(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"absent: no such directory; check the name$"):
        open_log(tmp_path / "absent")
    assert read(tmp_path) == []
    with pytest.raises(ConfigError, match="names no log"):
        open_source("log:")
    with pytest.raises(ConfigError, match="a log holds jsonl, not 'csv'"):
        open_source(f"log:{tmp_path}", options=SourceOptions(format="csv"))


def test_a_log_removed_under_a_follower_is_an_error(tmp_path: Path) -> None:
    directory = tmp_path / "log"
    with LogWriter(directory) as writer:
        writer.append(record(1))
    with opened(directory, follow=True) as source:
        assert source.poll(0) is not None
        shutil.rmtree(directory)
        with pytest.raises(SourceError, match="was removed while it was read"):
            source.poll(0)


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    first = LogWriter(tmp_path)
    with pytest.raises(SourceError, match=r"another writer holds .*\.writer\.lock") as caught:
        LogWriter(tmp_path)
    assert str(tmp_path) in str(caught.value)
    first.close()
    first.close()
    with pytest.raises(SourceError, match="the writer is closed"):
        first.append(record(1))
    LogWriter(tmp_path).close()


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (b"", "must end in a newline"),
        (b'{"a":1}\n{"b"', "must end in a newline"),
        (b"\n", "line 1 is blank"),
        (b"{}\n\n{}\n", "line 2 is blank"),
        (b"{}\n\r\n", "line 2 is blank"),
    ],
)
def test_bytes_that_are_not_records_are_refused(tmp_path: Path, lines: bytes, message: str) -> None:
    with LogWriter(tmp_path) as writer:
        with pytest.raises(DataError, match=message):
            writer.append(lines)
        assert writer.position == 0
    assert names(tmp_path) == []


def test_records_over_the_limit_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "MAX_RECORD_BYTES", 20)
    monkeypatch.setattr(event_log, "MAX_APPEND_BYTES", 60)
    with LogWriter(tmp_path) as writer:
        writer.append(b"a" * 20 + b"\n")
        with pytest.raises(DataError, match="at most 20 bytes; got one of 21"):
            writer.append(b"a\n" + b"a" * 21 + b"\n")
        with pytest.raises(DataError, match="at most 60 bytes at once, got 62"):
            writer.append(b"a\n" * 31)


@pytest.mark.parametrize(
    ("settings_", "message"),
    [
        ({"fsync": "sometimes"}, "fsync must be"),
        ({"segment_bytes": 0}, "segment_bytes must be at least 1; got 0"),
        ({"segment_seconds": 0.0}, "segment_seconds must be more than 0; got 0.0"),
        ({"fsync_interval": -1.0}, "fsync_interval must be at least 0; got -1.0"),
        ({"retain_bytes": -1}, "retain_bytes must be None or at least 0; got -1"),
    ],
)
def test_bad_settings_are_refused(tmp_path: Path, settings_: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        LogWriter(tmp_path, **settings_)  # type: ignore[arg-type]


@pytest.mark.parametrize("fsync", ["always", "interval", "never"])
def test_fsync_happens_when_it_is_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: event_log.Fsync
) -> None:
    now, synced = [0.0], [0]

    def count(descriptor: int) -> None:
        synced[0] += os.path.isfile(f"/proc/self/fd/{descriptor}") or not os.path.isdir("/proc/self/fd")

    monkeypatch.setattr(os, "fsync", count)
    writer = LogWriter(tmp_path, fsync=fsync, fsync_interval=2.0, clock=lambda: now[0])
    counts = []
    for now[0] in (0.0, 1.0, 2.0, 3.0, 4.5):
        writer.append(record(1))
        counts.append(synced[0])
    writer.close()
    expected = {"always": [1, 2, 3, 4, 5], "interval": [0, 0, 1, 1, 2], "never": [0] * 5}
    assert counts == expected[fsync]
    assert synced[0] == {"always": 6, "interval": 3, "never": 0}[fsync]


DISK_FULL = textwrap.dedent("""
    import resource, signal, sys
    from ftrl_engine.errors import SourceError
    from streams.event_log import LogWriter
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    writer = LogWriter(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100_000))
    writer.append(b"a" * 39 + b"\\n")
    lines = b"b" * 39 + b"\\n" + b"c" * 39 + b"\\n"
    before = writer.position
    try:
        writer.append(lines)
    except SourceError as error:
        print(error)
    left = lines[writer.position - before:]
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
    print(writer.append(left))
""")


@pytest.mark.skipif(os.name == "nt", reason="no file size limits")
def test_a_full_disk_leaves_whole_records_and_an_error_that_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DISK_FULL, tmp_path], capture_output=True, text=True, cwd=ROOT, check=True
    )
    message, position = done.stdout.splitlines()
    assert "cannot write 80 bytes: File too large; 40 of them (whole records) were kept" in message
    assert "ends at position 80; make room" in message
    assert int(position) == 120
    assert read(tmp_path) == [letter * 39 + b"\n" for letter in (b"a", b"b", b"c")]
    # A file that was cut is never appended to again.
    assert [s.start for s in segments(tmp_path)] == [0, 80]


@settings(max_examples=50)
@given(st.lists(st.sampled_from([b"\n", b"a", b"bcd" * 30_000]), max_size=8).map(b"".join))
def test_whole_size_is_the_last_newline(text: bytes) -> None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "segment"
        path.write_bytes(text)
        assert whole_size(path) == text.rfind(b"\n") + 1
