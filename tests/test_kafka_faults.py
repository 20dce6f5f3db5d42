"""What goes wrong around a topic, with a real broker: nothing is lost or learned twice in silence."""

from __future__ import annotations

import json
import resource
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from ftrl_engine import cli
from ftrl_engine.errors import LostDataError, SourceUnavailableError
from streams.kafka_positions import position_of
from streams.source import Source
from tests.kafka_broker import Broker
from tests.kafka_learner import start
from tests.kafka_topic import CLIENTS, Topic, blocks_of, opened, records_of, take

pytestmark = [
    pytest.mark.kafka,
    # kafka-python leaves the sockets of refused connections to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def topic(kafka_servers: str) -> Iterator[Topic]:
    with Topic(kafka_servers) as topic:
        yield topic


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def fragile(kafka_broker: Broker, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Broker]:
    """A broker to be killed; it closes connections that are idle for three seconds."""
    directory = tmp_path_factory.mktemp("fragile") / "broker"
    broker = Broker(directory, properties={"connections.max.idle.ms": "3000"})
    broker.start()
    yield broker
    broker.kill()


def event(number: int, label: int = 1) -> bytes:
    return json.dumps({"id": f"e{number}", "label": label}).encode()


def named(count: int, first: int = 0) -> list[bytes]:
    return [f"e{number}".encode() for number in range(first, first + count)]


def poll_until(source: Source, condition: Callable[[], bool], seconds: float = 30.0) -> list[bytes]:
    """Poll until something outside has happened; the records that came meanwhile."""
    found: list[bytes] = []
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        block = source.poll(0.05)
        if block is not None:
            found += records_of([block])
    return found


def learn(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, dict[str, Any], str]:
    """Run `ftrl learn` here; its status, its JSON and what it said on stderr."""
    capsys.readouterr()
    status = cli.main(["learn", *words, "--json", "--quiet", "--bits", "16"])
    said = capsys.readouterr()
    return status, json.loads(said.out) if said.out else {}, said.err


def test_a_broker_killed_and_restarted_in_mid_stream(
    fragile: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    with Topic(fragile.address) as topic:
        topic.send(named(20_000))
        sources = {
            client: opened(topic.uri, follow=True, client=client, refresh="500ms") for client in CLIENTS
        }
        found = {client: take(source, 3000) for client, source in sources.items()}
        fragile.kill()
        for client, source in sources.items():
            caplog.clear()
            found[client] += poll_until(source, lambda: "no answer for" in caplog.text)
        late: list[Source] = []
        waiting = threading.Thread(
            target=lambda: late.append(opened(topic.uri, client="kafka-python", give_up_after="60s"))
        )
        waiting.start()  # a learner started while the broker is away
        fragile.start()
        topic.send(named(5000, 20_000))
        for client, source in sources.items():
            found[client] += take(source, 25_000 - len(found[client]))
            source.close()
            assert found[client] == named(25_000), client
        waiting.join(60)
        assert len(records_of(blocks_of(late[0]))) in (20_000, 25_000)
    assert "answers again" in caplog.text


def test_a_bounded_run_gives_up_on_a_broker_that_stays_away(fragile: Broker, client: str) -> None:
    with Topic(fragile.address) as topic:
        topic.send(named(100))
        source = opened(topic.uri, client=client, give_up_after="1s", refresh="200ms")
        fragile.kill()
        try:
            with pytest.raises(SourceUnavailableError, match="given up after"):
                poll_until(source, lambda: source.finished)
            source.close()
        finally:
            fragile.start()


def test_a_minute_of_pause_longer_than_any_connection_lives(fragile: Broker) -> None:
    clients = ("kafka-python", "confluent")
    with Topic(fragile.address) as topic:
        topic.send(named(20_000))
        sources = [opened(topic.uri, follow=True, client=client) for client in clients]
        found = [take(source, 1000) for source in sources]
        time.sleep(60)
        topic.send(named(10, 20_000))
        for source, before in zip(sources, found, strict=True):
            assert before + take(source, 20_010 - len(before)) == named(20_010)
            source.close()


def test_no_broker_at_the_start_is_said_and_given_up(
    client: str, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"kafka://127.0.0.1:{nobody.getsockname()[1]}/t?client={client}&give_up_after=2s"
        status, _, said = learn(capsys, uri, "--model", str(tmp_path / "m"))
    assert status == 1
    assert "given up after 2 s" in said.splitlines()[-1]
    assert uri.partition("?")[0] in said.splitlines()[-1]
    assert "trying again for" in caplog.text
    assert not (tmp_path / "m").exists()


def test_waiting_for_a_broker_is_interrupted_at_once(client: str, tmp_path: Path) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        uri = f"kafka://127.0.0.1:{nobody.getsockname()[1]}/t?client={client}"
        words = ["learn", uri, "--model", str(tmp_path / "m"), "--follow"]
        learner = subprocess.Popen(
            [sys.executable, "-m", "ftrl_engine", *words],
            stderr=subprocess.PIPE,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )
        assert learner.stderr is not None
        with learner:
            assert b"trying again" in next(line for line in learner.stderr if b"trying" in line)
            learner.send_signal(signal.SIGINT)
            assert learner.wait(15) == 130


def test_removed_by_retention_stops_by_default_and_names_what_is_gone(topic: Topic, client: str) -> None:
    topic.send(named(100))
    blocks = blocks_of(opened(topic.uri, client=client))
    saved = {blocks[0].partition: position_of(10)}
    topic.remove_before(0, 40)
    expected = (
        rf"partition 0 of topic {topic.name}: offsets 10 to 39 are gone \(30 messages.*--on-lost-data skip"
    )
    with pytest.raises(LostDataError, match=expected):
        opened(topic.uri, saved, client=client)
    source = opened(topic.uri, saved, client=client, on_lost_data="skip")
    again = blocks_of(source)
    assert records_of(again) == named(60, 40)
    assert source.status()["lost"] == 30
    (report,) = [refusal for block in again for refusal in block.refused]
    assert "offsets 10 to 39" in report.reason
    # Nothing is gone for a reader that has not begun.
    assert records_of(blocks_of(opened(topic.uri, client=client))) == named(60, 40)


def test_removed_by_retention_while_it_is_read(topic: Topic, client: str) -> None:
    # Large messages, because a client may have fetched some of them before they are removed.
    topic.send(b"%d" % number + b" " * (1 << 20) for number in range(80))
    slow = [opened(topic.uri, follow=True, client=client, on_lost_data=what) for what in ("stop", "skip")]
    topic.remove_before(0, 75)
    with pytest.raises(LostDataError, match=r"offsets \d+ to 74 are gone"):
        take(slow[0], 80)
    records = [int(record) for record in poll_to(slow[1], position_of(80))]
    lost = int(slow[1].status()["lost"])
    assert records == [*range(75 - lost), *range(75, 80)]
    assert lost > 0
    for source in slow:
        source.close()


def poll_to(source: Source, position: int) -> list[bytes]:
    """Poll until the only partition stands at ``position``."""
    return poll_until(source, lambda: list(source.positions().values()) == [position])


def test_a_topic_deleted_and_made_again_between_two_runs(topic: Topic, client: str) -> None:
    topic.send(named(50))
    source = opened(topic.uri, client=client)
    blocks_of(source)
    remake(topic)
    topic.send(named(80, 1000))
    with pytest.raises(LostDataError, match=f"topic {topic.name} was deleted and made again"):
        opened(topic.uri, source.positions(), client=client)
    skipping = opened(topic.uri, source.positions(), client=client, on_lost_data="skip")
    blocks = blocks_of(skipping)
    assert records_of(blocks) == named(80, 1000)
    assert "made again" in blocks[0].refused[0].reason
    # Both topics' positions stand in the checkpoint now, and the new one's count.
    both = dict(source.positions()) | dict(skipping.positions())
    assert records_of(blocks_of(opened(topic.uri, both, client=client))) == []


def remake(topic: Topic) -> None:
    topic.delete()
    for _ in range(100):
        try:
            topic.make()
            return
        except Exception as error:
            if "exists" not in str(error).lower():
                raise
            time.sleep(0.1)
    raise AssertionError("the topic was not deleted in time")


def test_a_topic_deleted_and_made_again_while_it_is_read(topic: Topic, client: str) -> None:
    topic.send(named(50))
    watching = {
        what: opened(topic.uri, follow=True, client=client, on_lost_data=what, refresh="200ms")
        for what in ("stop", "skip")
    }
    for source in watching.values():
        assert take(source, 50) == named(50)
    remake(topic)
    topic.send(named(30, 500))
    with pytest.raises(LostDataError, match="made again"):
        poll_until(watching["stop"], lambda: False)
    assert take(watching["skip"], 30) == named(30, 500)
    for source in watching.values():
        source.close()


def test_poison_is_kept_and_counted_and_learning_goes_on(
    topic: Topic, client: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    poison = [b"{", b"\xff\xfe\x00", b'{"id": 1}', b"null", b"x" * 70_000]
    topic.send([event(0), *poison, event(1), event(2) + b"\n{broken\n" + event(3)])
    uri = f"{topic.uri}?client={client}"
    status, result, _ = learn(capsys, uri, "--model", str(tmp_path / "m"))
    assert (status, result["rows"], result["rejected"]) == (0, 4, 6)
    kept = [json.loads(line) for line in (tmp_path / "m" / "rejected.jsonl").read_text().splitlines()]
    assert [entry["position"] for entry in kept] == [position_of(n) for n in range(1, 6)] + [
        position_of(7, 1)
    ]
    assert kept[0]["event"] == "{"
    # ... and elsewhere, if somewhere else is named.
    with Topic(topic.servers) as refused:
        words = ["--model", str(tmp_path / "n"), "--rejects", f"{refused.uri}?client={client}"]
        assert learn(capsys, uri, *words)[1]["rejected"] == 6
        assert [json.loads(r) for r in records_of(blocks_of(opened(refused.uri)))] == kept
    assert not (tmp_path / "n" / "rejected.jsonl").exists()
    file = tmp_path / "refused.jsonl"
    file.write_text("before\n")
    learn(capsys, uri, "--model", str(tmp_path / "o"), "--rejects", str(file))
    assert file.read_text().splitlines()[1:] == [json.dumps(entry, ensure_ascii=False) for entry in kept]


def test_a_limit_in_the_middle_of_a_packed_message_is_exact(
    topic: Topic, client: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    topic.send([b"\n".join(event(n, n % 2) for n in range(at, at + 50)) for at in range(0, 1000, 50)])
    words = [f"{topic.uri}?client={client}", "--model", str(tmp_path / "m")]
    for _ in range(3):
        assert learn(capsys, *words, "--limit", "77")[1]["rows"] == 77
    result = learn(capsys, *words)[1]
    assert (result["rows"], result["total"]["rows"], result["slots_touched"] > 900) == (769, 1000, True)


def test_lost_events_are_reported_by_the_command(
    topic: Topic, client: str, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    topic.send([event(number) for number in range(100)])
    words = [f"{topic.uri}?client={client}", "--model", str(tmp_path / "m")]
    learn(capsys, *words, "--limit", "10")
    topic.remove_before(0, 30)
    status, _, said = learn(capsys, *words)
    assert status == 1
    assert "offsets 10 to 29 are gone" in said
    status, result, _ = learn(capsys, *words, "--on-lost-data", "skip")
    assert (status, result["rows"], result["source"]["lost"]) == (0, 70, 20)
    assert "offsets 10 to 29" in (tmp_path / "m" / "rejected.jsonl").read_text()


def test_a_second_learner_on_the_same_model_is_refused(
    topic: Topic, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    topic.send([event(number) for number in range(100)])
    model = tmp_path / "m"
    words = [topic.uri, "--model", str(model), "--bits", "16"]
    first = start(["learn", *words, "--follow", "--publish-every", "1rows"], tmp_path / "first.txt")
    try:
        deadline = time.monotonic() + 60
        while not list(model.glob("snapshots/*.safetensors")) and time.monotonic() < deadline:
            time.sleep(0.05)
        status, _, said = learn(capsys, topic.uri, "--model", str(model))
        assert status == 1
        assert "another learner is at work on it" in said
        assert first.is_alive()
    finally:
        first.kill()
        first.join(10)


def test_a_slow_learner_buffers_within_bounds(topic: Topic, client: str) -> None:
    text = b"x" * 1000
    topic.send((b"%08d" % number + text for number in range(150_000)), compression="lz4")
    source = opened(topic.uri, follow=True, client=client)
    found = take(source, 1)
    time.sleep(0.5)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for _ in range(6):
        time.sleep(0.25)
        block = source.poll(0.05)
        assert block is not None
        found += records_of([block])
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    source.close()
    assert [record[:8] for record in found] == [b"%08d" % number for number in range(len(found))]
    assert grown < 64 << 10, f"the peak grew by {grown} kB while 150 MB waited"
