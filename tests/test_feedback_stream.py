"""The feedback stream: durable before it answers, one sync for many, each id once, failures that say so."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.errors import ConfigError, SourceError
from serving.feedback_ids import IdWindow
from serving.feedback_record import ID_KEY, key_of
from serving.feedback_stream import FeedbackStream, Full, Item, Outcome
from serving.server_state import FeedbackState
from streams.event_log import LogWriter


def item(number: int, identified: bool = True) -> Item:
    front = f'"{ID_KEY}{number}":null,' if identified else ""
    return (key_of(str(number)) if identified else None), f'{{{front}"click":1,"x":{number}}}\n'.encode()


class Collector:
    """Outcomes by ticket, and whether everything has come."""

    def __init__(self) -> None:
        self.outcomes: dict[Any, Outcome] = {}
        self.deliveries = 0
        self._changed = threading.Condition()

    def deliver(self, outcomes: list[tuple[Any, Outcome]]) -> None:
        with self._changed:
            self.deliveries += 1
            self.outcomes |= dict(outcomes)
            self._changed.notify_all()

    def wait(self, count: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.outcomes) >= count, 30)


def open_stream(directory: Path, collector: Collector, window: int = 1000) -> FeedbackStream:
    uri = f"log:{directory}"
    stream = FeedbackStream(uri, None, window, FeedbackState(uri), collector.deliver)
    stream.start()
    return stream


def lines(directory: Path) -> list[bytes]:
    return [line for path in sorted(directory.glob("*.jsonl")) for line in path.read_bytes().splitlines()]


def test_events_are_in_the_log_when_they_are_answered_and_each_id_once(tmp_path: Path) -> None:
    collector = Collector()
    stream = open_stream(tmp_path, collector)
    stream.submit("a", [item(1), item(2), item(1)])
    collector.wait(1)
    assert len(lines(tmp_path)) == 2
    stream.submit("b", [item(2), item(3), item(9, identified=False), item(9, identified=False)])
    collector.wait(2)
    stream.close()
    assert collector.outcomes == {"a": Outcome([2]), "b": Outcome([0])}
    assert lines(tmp_path) == [
        item(number, named)[1][:-1]
        for number, named in ((1, True), (2, True), (3, True), (9, False), (9, False))
    ]


def test_ids_are_known_after_a_restart_and_forgotten_in_their_order(tmp_path: Path) -> None:
    collector = Collector()
    stream = open_stream(tmp_path, collector, window=3)
    stream.submit(1, [item(number) for number in range(5)])
    collector.wait(1)
    stream.close()
    again = open_stream(tmp_path, collector, window=3)
    again.submit(2, [item(number) for number in (4, 3, 2, 1)])
    collector.wait(2)
    again.close()
    assert collector.outcomes[2] == Outcome([0, 1, 2])


def test_many_requests_share_a_sync(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    syncs = 0
    sync = os.fsync

    def slow(descriptor: int) -> None:
        nonlocal syncs
        syncs += 1
        time.sleep(0.05)
        sync(descriptor)

    collector = Collector()
    stream = open_stream(tmp_path, collector)
    monkeypatch.setattr(os, "fsync", slow)
    for number in range(200):
        stream.submit(number, [item(number)])
    collector.wait(200)
    # One for the first request, one or two for all others (and one for the new file's name).
    assert syncs <= 6
    assert collector.deliveries <= 4
    stream.close()
    assert len(lines(tmp_path)) == 200


def test_a_failing_disk_is_told_and_nothing_is_stored_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collector = Collector()
    stream = open_stream(tmp_path, collector)
    sync = os.fsync

    def fail(descriptor: int) -> None:
        raise OSError(5, "Input/output error")

    stream.submit("fine", [item(0)])
    collector.wait(1)
    monkeypatch.setattr(os, "fsync", fail)
    stream.submit("lost?", [item(1)])
    collector.wait(2)
    assert "Input/output error" in str(collector.outcomes["lost?"].error)
    stream.submit("at once", [item(1)])
    collector.wait(3)
    assert collector.outcomes["at once"].error is not None
    assert "Input/output error" in str(stream._state.error)
    monkeypatch.setattr(os, "fsync", sync)
    time.sleep(0.6)
    # The record was written, only not synced: the same id is in the log already.
    stream.submit("again", [item(1), item(2)])
    collector.wait(4)
    assert collector.outcomes["again"] == Outcome([0])
    assert stream._state.error is None
    stream.close()
    assert len(lines(tmp_path)) == 3


def test_too_much_is_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    collector = Collector()
    stream = open_stream(tmp_path, collector)
    gate = threading.Event()
    sync = os.fsync

    def held(descriptor: int) -> None:
        gate.wait(30)
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", held)
    monkeypatch.setattr("serving.feedback_stream.MAX_WAITING", 5)
    stream.submit(0, [item(0)])
    time.sleep(0.2)
    for number in range(1, 6):
        stream.submit(number, [item(number)])
    with pytest.raises(Full):
        stream.submit(6, [item(6)])
    gate.set()
    collector.wait(6)
    stream.submit(6, [item(6)])
    collector.wait(7)
    stream.close()
    with pytest.raises(Full):
        stream.submit(7, [item(7)])


def test_what_is_wrong_from_the_start_is_raised(tmp_path: Path) -> None:
    with LogWriter(tmp_path), pytest.raises(SourceError, match="another writer"):
        open_stream(tmp_path, Collector())
    for destination, window, what in (
        ("events.jsonl", 10, "--feedback must be log:DIR or kafka://"),
        ("-", 10, "--feedback must be"),
        ("log:x", 0, "--feedback-window must be between"),
    ):
        with pytest.raises(ConfigError, match=what):
            FeedbackStream(destination, None, window, FeedbackState(""), Collector().deliver)
    bad = FeedbackStream("kafka://h/t?nonsense=1", None, 10, FeedbackState(""), Collector().deliver)
    with pytest.raises(ConfigError, match="nonsense"):
        bad.start()


def test_a_torn_record_is_no_known_id(tmp_path: Path) -> None:
    with LogWriter(tmp_path) as log:
        log.append(item(1)[1] + item(2)[1])
    with next(iter(tmp_path.glob("*.jsonl"))).open("ab") as file:
        file.write(item(3)[1][:-1])
    collector = Collector()
    stream = open_stream(tmp_path, collector)
    stream.submit(0, [item(1), item(2), item(3)])
    collector.wait(1)
    stream.close()
    assert collector.outcomes[0] == Outcome([0, 1])


@given(st.lists(st.integers(0, 12)), st.integers(1, 6))
def test_a_window_holds_the_last_keys(added: list[int], size: int) -> None:
    window, kept = IdWindow(size), list[int]()
    for number in added:
        assert (key_of(str(number)) in window) == (number in kept)
        if number not in kept:
            window.add(key_of(str(number)))
            kept = [*kept, number][-size:]
    assert len(window) == len(kept)


@given(
    st.lists(st.tuples(st.integers(0, 30), st.booleans()), max_size=40),
    st.integers(1, 20),
    st.integers(40, 400),
    st.integers(1, 64),
)
def test_the_tail_of_a_log_tells_its_ids(
    records: list[tuple[int, bool]], size: int, segment_bytes: int, step: int
) -> None:
    import tempfile

    import serving.feedback_ids

    with tempfile.TemporaryDirectory() as folder:
        with LogWriter(folder, segment_bytes=segment_bytes, fsync="never") as log:
            for number, identified in records:
                log.append(item(number, identified)[1])
        before = serving.feedback_ids._STEP_BYTES
        serving.feedback_ids._STEP_BYTES = step
        try:
            window = IdWindow.of_log(Path(folder), size)
        finally:
            serving.feedback_ids._STEP_BYTES = before
    newest = list(dict.fromkeys(number for number, identified in reversed(records) if identified))[:size]
    assert len(window) == len(newest)
    assert all(key_of(str(number)) in window for number in newest)
