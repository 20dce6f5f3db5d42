"""``kafka://HOST:PORT/TOPIC``: send events to a topic of Apache Kafka.

The producer is idempotent: what it sends again after a lost acknowledgement is stored once.
"""

from __future__ import annotations

import time
from collections.abc import Mapping

from ftrl_engine.errors import ConfigError, SourceError, SourceUnavailableError
from streams.cadence import parse_duration
from streams.kafka_address import KafkaAddress, parse_address
from streams.kafka_client import check_reachable
from streams.kafka_connection import choose_client
from streams.kafka_options import read_extra_properties
from streams.kafka_patience import Patience
from streams.kafka_producer import ConfluentProducer, KafkaProducer, PythonProducer
from streams.kafka_properties import COMPRESSION, KafkaProperties
from streams.sink import Sink

_OPTIONS = ("client", "compression", "give_up_after", "pack", "partition")
MAX_PACK = 1_000_000


def open(uri: str, options: Mapping[str, str]) -> KafkaSink:
    """The topic; ``?pack=500`` puts up to 500 events into a message, ``?compression=zstd`` packs them."""
    address = parse_address(uri)
    given = address.options
    for name in given:
        if name not in _OPTIONS:
            raise ConfigError(
                f"kafka:// option {name!r} is not known for a destination; known are {', '.join(_OPTIONS)}"
            )
    compression = given.get("compression")
    if compression is not None and compression not in COMPRESSION:
        raise ConfigError(f"compression must be one of {', '.join(COMPRESSION)}, got {compression!r}")
    properties = read_extra_properties(
        dict(options) | ({"property.compression.type": compression} if compression else {})
    )
    servers = address.servers or tuple(filter(None, (properties.get("bootstrap.servers") or "").split(",")))
    if not servers:
        raise ConfigError(f"{address.uri}: no broker is named; write kafka://HOST:PORT/TOPIC")
    partition = given.get("partition")
    if partition is not None and not partition.isdecimal():
        raise ConfigError(f"partition must be a number, got {partition!r}")
    return KafkaSink(
        KafkaAddress(servers, address.topic),
        choose_client(given.get("client")),
        properties,
        parse_duration(given.get("give_up_after", "60s"), "give_up_after"),
        _pack(given.get("pack", "1")),
        None if partition is None else int(partition),
    )


def _pack(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= MAX_PACK:
        raise ConfigError(f"pack must be a number of events from 1 to {MAX_PACK}, got {text!r}")
    return int(text)


class KafkaSink(Sink):
    """Events as messages, ``pack`` of them in each, in order within a partition.

    give_up_after  seconds that a broker may stay silent
    partition      of the topic; None lets the client spread the messages
    """

    def __init__(
        self,
        address: KafkaAddress,
        client: str,
        properties: KafkaProperties,
        give_up_after: float = 60.0,
        pack: int = 1,
        partition: int | None = None,
    ) -> None:
        self.uri = address.uri
        self._pack, self._partition = pack, partition
        self._closed = False
        kind = ConfluentProducer if client == "confluent" else PythonProducer
        patience = Patience(self.uri, give_up_after, time.monotonic, time.sleep)
        while True:
            try:
                check_reachable(address.servers)
                self._producer: KafkaProducer = kind(
                    address.servers, address.topic, properties, give_up_after
                )
                return
            except SourceUnavailableError as error:
                patience.wait(error)

    def append(self, lines: bytes) -> None:
        # A blank line is no event, and an empty message would be none either.
        events = [line for line in lines.split(b"\n") if line]
        if self._pack > 1:
            events = [b"\n".join(events[at : at + self._pack]) for at in range(0, len(events), self._pack)]
        try:
            self._producer.send(events, self._partition)
        except SourceError as error:
            raise self._error(error) from None

    def flush(self) -> None:
        try:
            self._producer.flush()
        except SourceError as error:
            raise self._error(error) from None

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        try:
            self.flush()
        finally:
            self._producer.close()

    def _error(self, error: SourceError) -> SourceError:
        return type(error)(f"{self.uri}: {error}; check the topic and the broker")
