"""`ftrl serve --workers 2`: one copy of the model, one truth in /metrics, equal scores, deaths and ends."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ftrl_engine.batch import Batch
from ftrl_engine.errors import ConfigError, CorruptFileError
from ftrl_engine.schema import Schema
from ftrl_engine.snapshot import Snapshot
from serving.channel import Channel
from serving.counts import CELLS, Counts
from serving.restarts import Restarts
from serving.shared_snapshot import SharedSnapshot, load_shared
from tests.serving_process import Server, serving

BITS = 20
WEIGHTS = 300_000
BODY = {"context": {"user": "u1"}, "candidates": [{"item": f"i{number}"} for number in range(40)]}
linux = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")


def snapshot_of(rows: int) -> Snapshot:
    random = np.random.default_rng(rows)
    slots = np.sort(random.choice(1 << BITS, WEIGHTS, replace=False)).astype(np.uint32)
    weights = random.normal(0, 0.5, WEIGHTS).astype(np.float32)
    return Snapshot(slots, weights, -1.0, BITS, Schema(), {"rows": rows, "published_at": time.time()})


def publish(model: Path, rows: int) -> None:
    (model / "snapshots").mkdir(parents=True, exist_ok=True)
    snapshot_of(rows).save(model / "snapshots" / f"{rows}.safetensors")


def children(pid: int) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                status = (entry / "stat").read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if int(status[1]) == pid and status[0] != "Z":
                found.append(int(entry.name))
    return sorted(found)


def wait_for(happened: Callable[[], bool], seconds: float = 60.0) -> None:
    end = time.monotonic() + seconds
    while not happened():
        assert time.monotonic() < end, f"it has not happened in {seconds} s"
        time.sleep(0.02)


@contextmanager
def only(pid: int, others: list[int]) -> Iterator[None]:
    """Stop the other workers, so that this one answers."""
    rest = [other for other in others if other != pid]
    for other in rest:
        os.kill(other, signal.SIGSTOP)
    try:
        yield
    finally:
        for other in rest:
            os.kill(other, signal.SIGCONT)


def metrics(server: Server) -> dict[str, float]:
    text = httpx.get(server.url + "/metrics", timeout=30).text
    pairs = (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))
    return {name: float(value) for name, value in pairs}


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    model = tmp_path_factory.mktemp("model")
    publish(model, 5)
    return model


@pytest.fixture(scope="module")
def server(model: Path) -> Iterator[Server]:
    with serving(model, "--workers", "2") as server:
        yield server


@linux
def test_every_worker_gives_the_same_scores_and_all_are_counted(server: Server) -> None:
    workers = children(server.process.pid)
    assert len(workers) == 2
    assert server.facts["workers"] == 2
    before = metrics(server).get("ftrl_candidates_total", 0.0)
    answers, seen = [], []
    for number, pid in enumerate(workers, 1):
        with only(pid, workers):
            for _ in range(3):
                answer = httpx.post(server.url + "/score", json=BODY, timeout=30).json()
                answers.append((answer["model"]["version"], answer["scores"]))
            # Whoever is asked tells of all.
            seen.append(metrics(server)["ftrl_candidates_total"] - before)
            assert seen[-1] == number * 3 * 40
    assert all(answer == answers[0] for answer in answers)
    assert len(set(answers[0][1])) > 5
    found = metrics(server)
    assert found['ftrl_requests_total{route="/score",status="200"}'] >= 6
    assert found["ftrl_score_seconds_count"] == found['ftrl_requests_total{route="/score",status="200"}']
    assert found["ftrl_workers"] == 2
    assert found["ftrl_reloads_total"] == 1
    assert "process_cpu_seconds_total" not in found


@linux
def test_the_model_is_in_memory_once(server: Server) -> None:
    pids = [server.process.pid, *children(server.process.pid)]
    httpx.post(server.url + "/score", json=BODY, timeout=30)
    mapped = [mappings(pid) for pid in pids]
    size = 2 ** np.ceil(np.log2(2 * WEIGHTS)) * 8 + WEIGHTS * 8
    for kilobytes in mapped:
        assert kilobytes["Size"] * 1024 == pytest.approx(size, rel=0.05), "every process maps all of it"
        assert kilobytes["Anonymous"] == 0, "and has no page of its own"
    assert sum(kilobytes["Pss"] for kilobytes in mapped) * 1024 <= 1.05 * size


def mappings(pid: int) -> dict[str, int]:
    """Kilobytes of the mappings of shared memory of one process, by kind."""
    found = {"Size": 0, "Pss": 0, "Anonymous": 0}
    ours = False
    for line in Path(f"/proc/{pid}/smaps").read_text().splitlines():
        name, _, rest = line.partition(":")
        if name in found:
            found[name] += int(rest.split()[0]) if ours else 0
        elif "-" in line.split()[0]:
            ours = "memfd:ftrl" in line
    return found


@linux
def test_a_worker_that_dies_is_started_again_and_takes_no_counts_with_it(server: Server) -> None:
    workers = children(server.process.pid)
    for pid in workers:
        with only(pid, workers):
            httpx.post(server.url + "/score", json=BODY, timeout=30)
    before = metrics(server)["ftrl_candidates_total"]
    os.kill(workers[0], signal.SIGKILL)
    wait_for(lambda: len(set(children(server.process.pid)) - set(workers)) == 1)
    again = children(server.process.pid)
    wait_for(lambda: metrics(server)["ftrl_worker_restarts_total"] == 1)
    new = next(pid for pid in again if pid not in workers)
    with only(new, again):
        # It begins to answer when it has the model.
        assert httpx.post(server.url + "/score", json=BODY, timeout=60).status_code == 200
        assert metrics(server)["ftrl_candidates_total"] == before + 40


@linux
def test_reloading_in_all_workers_and_a_damaged_snapshot_in_none(
    server: Server, model: Path, tmp_path: Path
) -> None:
    publish(model, 6)
    workers = children(server.process.pid)
    for pid in workers:
        with only(pid, workers):
            wait_for(lambda: httpx.get(server.url + "/readyz", timeout=30).json()["rows"] == 6)
    path = model / "snapshots" / "7.safetensors"
    # Put there at once: a file seen while it grows would fail more than once.
    whole = tmp_path / "whole"
    whole.write_bytes((model / "snapshots" / "6.safetensors").read_bytes()[:-100])
    whole.replace(path)
    for pid in workers:
        with only(pid, workers):
            wait_for(lambda: httpx.get(server.url + "/readyz", timeout=30).json()["reload_error"] is not None)
            ready = httpx.get(server.url + "/readyz", timeout=30)
            assert (ready.status_code, ready.json()["rows"]) == (200, 6)
            assert "7.safetensors" in ready.json()["reload_error"]
            found = metrics(server)
            assert (found["ftrl_reload_failing"], found["ftrl_reload_failures_total"]) == (1, 1)
    path.unlink()
    wait_for(lambda: metrics(server)["ftrl_reload_failing"] == 0)


@linux
@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_ends_all_and_the_open_request_finishes(model: Path, number: int, status: int) -> None:
    body = b'{"context": {"user": "u1"}}'
    with serving(model, "--workers", "2") as server:
        workers = children(server.process.pid)
        with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
            head = b"POST /score HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body[:9])
            time.sleep(0.3)
            server.process.send_signal(number)
            time.sleep(0.3)
            connection.sendall(body[9:])
            assert connection.recv(65536).startswith(b"HTTP/1.1 200 ")
        assert server.process.wait(30) == status
        assert [pid for pid in workers if Path(f"/proc/{pid}").exists()] == []
        with pytest.raises(OSError, match="refused"):
            socket.create_connection(("127.0.0.1", server.port), timeout=5)
        _, stderr = server.process.communicate()
        assert [line for line in stderr.splitlines() if "loading" not in line and "serving" not in line] == []


@linux
def test_workers_end_when_the_server_is_killed(model: Path) -> None:
    with serving(model, "--workers", "2") as server:
        workers = children(server.process.pid)
        assert len(workers) == 2
        server.process.kill()
        wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers), 30)


# The parts.


@given(st.lists(st.integers(0, (1 << 16) - 1), unique=True, max_size=50), st.integers(0, 99))
def test_a_shared_snapshot_is_the_snapshot(found: list[int], rows: int) -> None:
    slots = np.array(sorted(found), dtype=np.uint32)
    weights = np.arange(1, len(slots) + 1, dtype=np.float32)
    plain = Snapshot(slots, weights, 0.25, 16, Schema(name="ü"), {"rows": rows, "learner": "any"})
    shared = SharedSnapshot.copy_of(plain)
    again = SharedSnapshot.map(os.dup(shared.descriptor), shared.size)
    batch = Batch(np.arange(len(found) + 1), np.array(found, dtype=np.int64), n_slots=1 << 16)
    for each in (shared, again):
        assert each.parts()[1] == plain.parts()[1]
        assert each.slots.tolist() == slots.tolist()
        assert each.margins(batch).tobytes() == plain.margins(batch).tobytes()
        assert each.table.cells.tobytes() == plain.table.cells.tobytes()


@linux
def test_shared_memory_cannot_be_changed_and_is_given_back() -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    shared = SharedSnapshot.copy_of(snapshot_of(1))
    with pytest.raises(OSError, match=r"not permitted|read-only"):
        os.pwrite(shared.descriptor, b"x", 0)
    with pytest.raises(OSError, match=r"not permitted|read-only"):
        os.ftruncate(shared.descriptor, 10)
    with pytest.raises(CorruptFileError, match="not a complete snapshot"):
        SharedSnapshot.map(os.memfd_create("empty"), 0)
    del shared
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_damaged_file_is_not_shared(tmp_path: Path) -> None:
    publish(tmp_path, 1)
    path = tmp_path / "snapshots" / "1.safetensors"
    data = bytearray(path.read_bytes())
    data[-5] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptFileError, match=r"1\.safetensors"):
        load_shared(path)


def test_messages_arrive_whole_and_in_order_with_their_descriptors() -> None:
    ours, theirs = socket.socketpair()
    one, other = Channel(ours), Channel(theirs)
    sent = [bytes([number]) * size for number, size in enumerate((0, 1, 1 << 20, 7, 300_000))]

    def send() -> None:
        for each in sent:
            one.send(each, [ours.fileno()] if len(each) == 7 else [])

    sender = threading.Thread(target=send)
    sender.start()
    got = [other.receive() for _ in sent]
    sender.join()
    assert [message for message, _ in filter(None, got)] == sent
    descriptors = [descriptors for _, descriptors in filter(None, got)]
    assert [len(each) for each in descriptors] == [0, 0, 0, 1, 0]
    os.close(descriptors[3][0])
    one.close()
    assert other.receive() is None
    other.close()


def test_a_message_that_nobody_reads_does_not_wait_for_ever() -> None:
    ours, theirs = socket.socketpair()
    channel = Channel(ours, seconds=0.2)
    with theirs, pytest.raises(OSError):
        channel.send(bytes(64 << 20))
    channel.close()


def test_rows_of_counts_add_up() -> None:
    memory = memoryview(bytearray(Counts.size(3)))
    rows = [Counts(memory, row) for row in range(3)]
    for number, row in enumerate(rows, 1):
        row.mine[7] += number
        row.mine[CELLS - 1] += 0.5
    assert [row.total(7) for row in rows] == [6.0] * 3
    assert rows[0].totals(CELLS - 2, 2) == [0.0, 1.5]
    assert Counts(memory, 1).mine[7] == 2.0, "a worker that is started again goes on"
    with pytest.raises(ConfigError, match="row must be one of 3 rows, got 3"):
        Counts(memory, 3)


@given(st.lists(st.floats(0, 100), min_size=1, max_size=60))
def test_restarts_are_bounded(lives: list[float]) -> None:
    restarts = Restarts(first=0.1, most=10.0, calm=30.0, per_minute=20)
    now, starts = 0.0, [0.0]
    for life in lives:
        ended = now + life
        now = restarts.due(now, ended)
        assert ended + 0.1 <= now
        assert now <= max(ended + 10.0, starts[-20] + 60.0 if len(starts) >= 20 else 0.0) + 1e-9
        starts.append(now)
    for first, last in zip(starts[1:], starts[21:], strict=False):
        assert last - first >= 60.0 - 1e-9


def test_waits_double_and_begin_anew_after_a_calm_time() -> None:
    restarts = Restarts(first=1.0, most=4.0, calm=30.0)
    assert [restarts.due(0.0, 0.0) for _ in range(4)] == [1.0, 2.0, 4.0, 4.0]
    assert restarts.due(0.0, 30.0) == 31.0
