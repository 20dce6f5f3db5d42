"""Reading a topic of a real broker, with every client: what is read, and where reading goes on."""

from __future__ import annotations

import logging
import random
import time
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest

from ftrl_engine.errors import ConfigError, SourceError
from streams.kafka_positions import PartitionName, position_of
from streams.source import Source, SourceOptions, open_source
from tests.kafka_topic import CLIENTS, Topic, blocks_of, opened, records_of, take

pytestmark = pytest.mark.kafka


@pytest.fixture
def topic(kafka_servers: str) -> Iterator[Topic]:
    with Topic(kafka_servers) as topic:
        yield topic


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def named(count: int, prefix: str = "e", first: int = 0) -> list[bytes]:
    return [f"{prefix}{number}".encode() for number in range(first, first + count)]


def test_a_bounded_run_reads_what_is_there_in_order(topic: Topic, client: str) -> None:
    topic.send(named(5000))
    source = opened(topic.uri, client=client)
    assert source.fraction() == 0.0
    topic.send([b"late"])
    blocks = blocks_of(source)
    assert records_of(blocks) == named(5000)
    assert all(one.next == other.first for one, other in pairwise(blocks))
    assert source.fraction() == 1.0
    ((name, position),) = source.positions().items()
    assert position == position_of(5000)
    assert PartitionName.parse(name) is not None
    assert topic.servers not in name, "a checkpoint outlives the address of the broker"
    assert records_of(blocks_of(opened(topic.uri, source.positions(), client=client))) == [b"late"]


def test_an_empty_topic_ends_at_once(topic: Topic, client: str) -> None:
    source = opened(topic.uri, client=client)
    assert blocks_of(source, polls=40) == []
    assert list(source.positions().values()) == [0]


def test_reading_goes_on_exactly_at_every_position_of_packed_messages(topic: Topic, client: str) -> None:
    values = [b"a\nb\nc", b"", b"d", None, b"\ne\r\n\nf\n", b"g"]
    topic.send(values)
    blocks = blocks_of(opened(topic.uri, client=client))
    whole = records_of(blocks)
    assert whole == [b"a", b"b", b"c", b"d", b"e", b"f", b"g"]
    positions = [int(at) for block in blocks for at in block.positions]
    for row in random.Random(5).sample(range(len(whole)), 4):
        source = opened(topic.uri, {blocks[0].partition: positions[row]}, client=client)
        assert records_of(blocks_of(source)) == whole[row + 1 :], row


def test_many_partitions_each_in_its_order_and_a_subset(kafka_servers: str, client: str) -> None:
    with Topic(kafka_servers, partitions=4) as topic:
        for number in range(4):
            topic.send(named(300, f"p{number}-"), partition=number)
        blocks = blocks_of(opened(topic.uri, client=client))
        for number in range(4):
            mine = [b for b in blocks if PartitionName.parse(b.partition).number == number]  # type: ignore[union-attr]
            assert records_of(mine) == named(300, f"p{number}-")
        some = records_of(blocks_of(opened(topic.uri, client=client, partitions="1,3")))
        assert sorted(some) == sorted(named(300, "p1-") + named(300, "p3-"))
        with pytest.raises(SourceError, match="has 4 partitions, none of them numbered 4"):
            opened(topic.uri, client=client, partitions="3-4")


@pytest.mark.parametrize("codec", ["gzip", "snappy", "lz4", "zstd"])
def test_compressed_batches(topic: Topic, client: str, codec: str) -> None:
    topic.send(named(2000), compression=codec)
    topic.send(named(10, "plain"))
    assert records_of(blocks_of(opened(topic.uri, client=client))) == named(2000) + named(10, "plain")


def test_a_message_of_ten_megabytes(topic: Topic, client: str) -> None:
    large = b'{"text":"' + b"x" * (10 << 20) + b'"}'
    packed = b"\n".join(b"%0100d" % number for number in range(100_000))
    topic.send([b"before", large, packed, b"after"])
    found = records_of(blocks_of(opened(topic.uri, client=client)))
    assert found == [b"before", large, *packed.split(b"\n"), b"after"]


def test_aborted_transactions_are_never_read(topic: Topic, client: str) -> None:
    from kafka import KafkaProducer

    producer: Any = KafkaProducer(bootstrap_servers=topic.servers, transactional_id=topic.name)
    producer.init_transactions()
    expected = []
    for number in range(6):
        producer.begin_transaction()
        for value in named(50, f"t{number}-"):
            producer.send(topic.name, value, partition=0)
        producer.flush()
        if number % 2:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
            expected += named(50, f"t{number}-")
    source = opened(topic.uri, client=client)
    assert records_of(blocks_of(source)) == expected
    producer.begin_transaction()
    producer.send(topic.name, b"undecided", partition=0)
    producer.flush()
    # An open transaction holds back the end: a bounded run finishes before it and waits for nothing.
    again = opened(topic.uri, source.positions(), client=client)
    assert records_of(blocks_of(again)) == []
    producer.commit_transaction()
    assert records_of(blocks_of(opened(topic.uri, again.positions(), client=client))) == [b"undecided"]
    producer.close()


def test_key_timestamp_and_headers_reach_the_events(topic: Topic, client: str) -> None:
    topic.send(
        [b'{"a":1}\n{"a":2}'], key=b"user-7", timestamp_ms=1_700_000_000_123, headers=[("app", b"web")]
    )
    found = records_of(blocks_of(opened(topic.uri, client=client, fields="_key,_timestamp,_header.app")))
    head = b'{"_key": "user-7", "_timestamp": 1700000000123, "_header.app": "web",'
    assert found == [head + b'"a":1}', head + b'"a":2}']


def test_first_contact_at_the_end_or_at_a_time(topic: Topic, client: str) -> None:
    topic.send([b"old"], timestamp_ms=1_600_000_000_000)
    topic.send([b"new"], timestamp_ms=1_700_000_000_000)
    assert records_of(blocks_of(opened(topic.uri, client=client, start="1650000000000"))) == [b"new"]
    assert records_of(blocks_of(opened(topic.uri, client=client, start="2023-01-01T00:00:00Z"))) == [b"new"]
    source = opened(topic.uri, follow=True, client=client, start="latest")
    topic.send([b"newest"])
    blocks = [source.poll(0.2) for _ in range(15)]
    source.close()
    kept = [block for block in blocks if block is not None]
    # The first block has no rows: it brings the position, which cannot be found out again, to the checkpoint.
    assert len(kept[0]) == 0
    assert kept[0].next == position_of(2)
    assert records_of(kept) == [b"newest"]
    later = opened(topic.uri, {kept[0].partition: kept[0].next}, client=client, start="latest")
    assert records_of(blocks_of(later)) == [b"newest"], "a saved position is not overruled by --start"


def test_new_partitions_are_noticed_and_read_from_their_beginning(
    topic: Topic, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    topic.send(named(10))
    source = opened(topic.uri, follow=True, client=client, start="latest", refresh="200ms")
    topic.grow(3)
    topic.send(named(10, "new"), partition=2)
    topic.send(named(5, "more"))
    found = take(source, 15)
    assert sorted(found) == sorted(named(10, "new") + named(5, "more"))
    positions = source.positions()
    source.close()
    assert "new partitions are read as well: 1, 2" in caplog.text
    # Known from the start or not, a partition that appears between two runs is read from its first event.
    topic.grow(4)
    topic.send(named(3, "fourth"), partition=3)
    again = opened(topic.uri, positions, client=client, start="latest")
    assert records_of(blocks_of(again)) == named(3, "fourth")


def test_the_group_is_told_what_was_acknowledged(topic: Topic, client: str) -> None:
    topic.send(named(100))
    source = opened(topic.uri, client=client, group=f"g-{topic.name}")
    (block,) = [b for b in blocks_of_open(source) if len(b)]
    source.acknowledge({block.partition: int(block.positions[49])})
    source.close()
    assert topic.committed(f"g-{topic.name}") == {0: 50}


def blocks_of_open(source: Source) -> list[Any]:
    found = []
    for _ in range(400):
        block = source.poll(0.05)
        if block is not None:
            found.append(block)
        if source.finished:
            break
    return found


def test_lag_and_age_are_known(topic: Topic, client: str) -> None:
    topic.send(named(100))
    source = opened(topic.uri, follow=True, client=client)
    take(source, 100)
    deadline = time.monotonic() + 10
    while source.status().get("lag") != 0 and time.monotonic() < deadline:
        source.poll(0.05)
    status = source.status()
    source.close()
    assert status["lag"] == 0
    assert status["client"] == client
    assert 0 <= float(status["last_event_age"]) < 60


def test_a_missing_topic_is_an_error_and_is_not_made(topic: Topic, client: str) -> None:
    uri = topic.uri + "-missing"
    with pytest.raises(SourceError, match=r"has no topic test-.*-missing; check the name"):
        opened(uri, client=client)
    with pytest.raises(SourceError, match="has no topic"):
        opened(uri, client=client)


def test_a_follower_waits_for_a_topic_that_is_made_a_little_later(
    kafka_servers: str, client: str, caplog: pytest.LogCaptureFixture
) -> None:
    name = f"late-{time.monotonic_ns()}"
    made: list[Topic] = []

    class Making(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if not made and "has no topic" in record.getMessage():
                made.append(Topic(kafka_servers, name=name))

    handler = Making()
    logging.getLogger("streams.kafka_patience").addHandler(handler)
    try:
        source = opened(f"kafka://{kafka_servers}/{name}", follow=True, client=client)
        made[0].send([b"first"])
        assert take(source, 1) == [b"first"]
        source.close()
    finally:
        logging.getLogger("streams.kafka_patience").removeHandler(handler)
    assert "trying again for" in caplog.text


def test_an_address_without_a_broker_needs_properties(topic: Topic) -> None:
    with pytest.raises(ConfigError, match=r"bootstrap\.servers"):
        opened(f"kafka:///{topic.name}")
    topic.send([b"x"])
    extra = {"property.bootstrap.servers": topic.servers}
    source = open_source(f"kafka:///{topic.name}", {}, SourceOptions(extra=extra))
    assert records_of(blocks_of(source)) == [b"x"]
