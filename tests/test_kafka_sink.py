"""Sending events to a real broker: all of them, in order, and what cannot be delivered is an error."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from ftrl_engine import cli
from ftrl_engine.errors import SourceError
from streams.kafka_positions import PartitionName
from streams.sink import Sink, open_sink
from tests.kafka_topic import CLIENTS, Topic, blocks_of, opened, records_of

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
    pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning"),
]


@pytest.fixture
def topic(kafka_servers: str) -> Iterator[Topic]:
    with Topic(kafka_servers, partitions=2) as topic:
        yield topic


@pytest.fixture(params=CLIENTS)
def client(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def test_everything_appended_arrives_in_order(topic: Topic, client: str) -> None:
    lines = [b"e%d" % number for number in range(3000)]
    with open_sink(f"{topic.uri}?client={client}&partition=1") as sink:
        for at in range(0, 3000, 700):
            sink.append(b"\n".join(lines[at : at + 700]) + b"\n")
        sink.flush()
        blocks = blocks_of(opened(topic.uri))
        assert records_of(blocks) == lines
    assert {PartitionName.parse(block.partition).number for block in blocks} == {1}  # type: ignore[union-attr]


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_packed_and_compressed(topic: Topic, client: str, compression: str) -> None:
    lines = [b"e%d" % number for number in range(1000)]
    with open_sink(f"{topic.uri}?client={client}&partition=0&pack=300&compression={compression}") as sink:
        sink.append(b"\n".join(lines) + b"\n\n")
    blocks = blocks_of(opened(topic.uri))
    assert records_of(blocks) == lines
    assert blocks[-1].next == 4_000_000, "300 + 300 + 300 + 100 events in four messages"


def test_simulated_clicks_spread_over_all_partitions(
    topic: Topic, client: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["simulate", "--to", f"{topic.uri}?client={client}", "--rows", "20000", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["rows"] == 20_000
    ids = [json.loads(record)["id"] for record in records_of(blocks_of(opened(topic.uri)))]
    assert sorted(ids) == sorted(f"e{number}" for number in range(20_000))


def test_what_cannot_be_delivered_is_an_error(topic: Topic, client: str) -> None:
    uri = f"{topic.uri}?client={client}&partition=7&give_up_after=3s"
    sink = open_sink(uri)
    with pytest.raises(SourceError, match=r"not delivered|no acknowledgement"):
        send_one(sink)
    sink.close()
    started = time.monotonic()
    with pytest.raises(SourceError, match="no broker answers"):
        open_sink(f"kafka://127.0.0.1:1/t?client={client}&give_up_after=1s")
    assert time.monotonic() - started < 10


def send_one(sink: Sink) -> None:
    sink.append(b"e\n")
    sink.flush()
