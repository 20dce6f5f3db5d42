"""Rates from a topic of a real broker on this machine: the bare clients, and learning end to end.

The broker runs on the same cores, so all rows of one call share them with it alike. Events are
JSON of about 325 bytes, one a message or 500 a message.
"""

from __future__ import annotations

import importlib.util
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from bench.kafka_broker import Broker, NoBrokerError
from ftrl_engine.schema import Schema
from streams.codecs.base import open_codec
from streams.model_directory import ModelDirectory, ModelSettings
from streams.sink import open_sink
from streams.source import SourceOptions, open_source
from streams.train_options import TrainOptions
from streams.trainer import train

PACK = 500
RUNS = 3
QUICK_ROWS = 100_000
BITS = 22
_AGENT = b'"agent":"Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 Chrome/130 Safari/537.36",'
_numbers = itertools.count()


def run(rows: int, quick: bool) -> list[dict[str, Any]]:
    """The rows of group ``kafka``; with a reason to skip where there is no broker."""
    count, runs = (min(rows, QUICK_ROWS), 1) if quick else (rows, RUNS)
    try:
        with broker_address() as servers:
            return _measure(servers, count, runs)
    except NoBrokerError as error:
        return [_row("learn, one event a message", "ftrl-engine") | {"skipped": str(error)}]


@contextmanager
def broker_address() -> Iterator[str]:
    """KAFKA_BOOTSTRAP_SERVERS, or a broker of our own for as long as it is needed."""
    named = os.environ.get("KAFKA_BOOTSTRAP_SERVERS")
    if named:
        yield named
        return
    with tempfile.TemporaryDirectory(prefix="ftrl-kafka-") as name:
        broker = Broker(Path(name) / "broker")
        broker.start()
        try:
            yield broker.address
        finally:
            broker.kill()


def _measure(servers: str, rows: int, runs: int) -> list[dict[str, Any]]:
    single, packed = make_topic(servers), make_topic(servers)
    fill(f"kafka://{servers}/{single}", rows)
    fill(f"kafka://{servers}/{packed}?pack={PACK}", rows)
    work: dict[tuple[str, str], Callable[[], float]] = {}
    for client in ("kafka-python", "confluent"):
        if importlib.util.find_spec("kafka" if client == "kafka-python" else "confluent_kafka") is None:
            continue
        bare = poll_kafka_python if client == "kafka-python" else poll_confluent
        engine = f"ftrl-engine on {client}"
        work["poll alone, one event a message", client] = partial(bare, servers, single, rows)
        work["learn, one event a message", engine] = partial(learn, servers, single, client, rows)
        work[f"learn, {PACK} events a message", engine] = partial(learn, servers, packed, client, rows)
    for measure in work.values():
        measure()  # compiles, connects, fills the page cache
    found: dict[tuple[str, str], list[float]] = {key: [] for key in work}
    for _ in range(runs):
        for key, measure in work.items():
            found[key].append(rows / measure())
    return [
        _row(name, contender)
        | {
            "median": round(statistics.median(rates), 1),
            "min": round(min(rates), 1),
            "max": round(max(rates), 1),
            "runs": len(rates),
        }
        for (name, contender), rates in found.items()
    ]


def _row(name: str, contender: str) -> dict[str, Any]:
    return {"group": "kafka", "name": name, "contender": contender, "unit": "events/s"}


def make_topic(servers: str, partitions: int = 1) -> str:
    """A new topic; returns its name."""
    from kafka import KafkaAdminClient

    name = f"bench-{os.getpid()}-{next(_numbers)}"
    with KafkaAdminClient(bootstrap_servers=servers) as admin:
        admin.create_topics(
            {name: {"num_partitions": partitions, "replication_factor": 1}}, wait_for_metadata=True
        )
    return name


def fill(uri: str, rows: int, block: int = 16_384) -> None:
    """Send simulated clicks of about 325 bytes."""
    from streams import simulate

    stream = simulate.ClickStream(7)
    with open_sink(uri) as sink:
        for number, first in enumerate(range(0, rows, block)):
            events = stream.block(number, block).part(0, min(block, rows - first))
            sink.append(simulate.to_jsonl(events, False).replace(b"{", b"{" + _AGENT))


def poll_kafka_python(servers: str, topic: str, rows: int) -> float:
    """Seconds of kafka-python's own loop over the messages, with the settings of our source."""
    from kafka import KafkaConsumer, TopicPartition

    from streams.kafka_python import FETCH_BYTES, MAX_POLL_RECORDS

    consumer = KafkaConsumer(
        bootstrap_servers=servers,
        group_id=None,
        enable_auto_commit=False,
        auto_offset_reset="none",
        isolation_level="read_committed",
        max_poll_records=MAX_POLL_RECORDS,
        max_partition_fetch_bytes=FETCH_BYTES,
        metrics_enabled=False,
    )
    consumer.assign([TopicPartition(topic, 0)])
    consumer.seek(TopicPartition(topic, 0), 0)
    started, seen = time.perf_counter(), 0
    while seen < rows:
        for records in consumer.poll(timeout_ms=100).values():
            seen += len(records)
    seconds = time.perf_counter() - started
    consumer.close(autocommit=False)
    return seconds


def poll_confluent(servers: str, topic: str, rows: int) -> float:
    """Seconds of confluent-kafka's own loop, with the one setting that matters."""
    from confluent_kafka import Consumer, TopicPartition

    consumer = Consumer(
        {
            "bootstrap.servers": servers,
            "group.id": "bench",
            "enable.auto.commit": False,
            "isolation.level": "read_committed",
            "fetch.queue.backoff.ms": 5,
        }
    )
    consumer.assign([TopicPartition(topic, 0, 0)])
    started, seen = time.perf_counter(), 0
    while seen < rows:
        seen += len(consumer.consume(10_000, 0.1))
    seconds = time.perf_counter() - started
    consumer.close()
    return seconds


def learn(servers: str, topic: str, client: str, rows: int) -> float:
    """Seconds from an open source to the saved model: all that `ftrl learn` does after its start."""
    schema = Schema.load("clicks")
    options = SourceOptions(extra={"client": client})
    with tempfile.TemporaryDirectory(prefix="ftrl-kafka-") as name:
        settings = ModelSettings("ftrl_proximal", {}, BITS, schema)
        model = ModelDirectory.create(Path(name) / "model", settings)
        source = open_source(f"kafka://{servers}/{topic}", {}, options)
        codec = open_codec("jsonl", schema, BITS)
        started = time.perf_counter()
        result = train(source, codec, model, TrainOptions())
        seconds = time.perf_counter() - started
        source.close()
    if result["rows"] != rows:
        raise AssertionError(f"learned {result['rows']} of {rows} events")
    return seconds
