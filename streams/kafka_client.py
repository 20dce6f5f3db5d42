"""What the Kafka source needs of a client library; one file an implementation."""

from __future__ import annotations

import importlib.util
import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import ConfigError, SourceError, SourceUnavailableError
from streams.kafka_properties import KafkaProperties

# In place of a time in milliseconds.
EARLIEST, LATEST = -2, -1
CLIENTS = ("kafka-python", "confluent")
# How long one request to a broker may take, in seconds.
REQUEST_SECONDS = 5.0
# How long one connection attempt may take, in seconds.
REACH_SECONDS = 2.0


class Topic(NamedTuple):
    """``topic_id`` is empty where the broker does not tell."""

    topic_id: str
    partitions: frozenset[int]


class Fetched(NamedTuple):
    """Consecutive messages of one partition (offsets rise, not always by one).

    values     None for a tombstone
    offsets    int64[n]
    timestamp  of the last one, milliseconds since 1970
    messages   the client's own objects, for :meth:`KafkaClient.details`
    """

    partition: int
    values: list[bytes | None]
    offsets: NDArray[np.int64]
    timestamp: int
    messages: Sequence[Any]


class Details(NamedTuple):
    """What a message carries beside its value; timestamp in milliseconds since 1970."""

    key: bytes | None
    timestamp: int
    headers: Sequence[tuple[str, bytes | None]]


class OffsetOutOfRange(SourceError):
    """The broker does not hold the offset that was asked for."""

    def __init__(self, partition: int, offset: int) -> None:
        super().__init__(f"partition {partition} has no offset {offset}")
        self.partition = partition
        self.offset = offset


class KafkaClient(ABC):
    """A consumer of one topic, used by one thread at a time.

    Every method raises SourceUnavailableError where a broker does not answer now, and
    SourceError where it refuses.
    """

    name: str

    @abstractmethod
    def topic(self) -> Topic | None:
        """What the broker says of the topic now; None where there is none."""

    @abstractmethod
    def offsets(self, partitions: Sequence[int], when: int) -> dict[int, int]:
        """The first offset held (EARLIEST), the one after the last committed message (LATEST), or
        the first one at or after a time, LATEST where there is none."""

    @abstractmethod
    def assign(self, offsets: Mapping[int, int]) -> None:
        """Read exactly these partitions from these offsets on."""

    @abstractmethod
    def poll(self, timeout: float) -> list[Fetched]:
        """What has arrived, waiting up to ``timeout`` seconds; raises OffsetOutOfRange."""

    @abstractmethod
    def position(self, partition: int) -> int:
        """The next offset to be fetched: past aborted transactions and markers as well."""

    @abstractmethod
    def end(self, partition: int) -> int | None:
        """The end of the partition as far as is known without asking."""

    @abstractmethod
    def details(self, fetched: Fetched) -> Iterator[Details]:
        """What each message carries beside its value."""

    @abstractmethod
    def commit(self, offsets: Mapping[int, int], wait: bool) -> None:
        """Tell the group how far it is; may fail silently."""

    @abstractmethod
    def close(self) -> None:
        """Leave; a second call does nothing."""


def choose_client(wanted: str | None) -> str:
    """The client library to use: the fast one where it is installed, unless one is named."""
    modules = {"kafka-python": "kafka", "confluent": "confluent_kafka"}
    if wanted is not None and wanted not in CLIENTS:
        raise ConfigError(f"client must be one of {', '.join(CLIENTS)}, got {wanted!r}")
    for name in (wanted,) if wanted else ("confluent", "kafka-python"):
        if importlib.util.find_spec(modules[name]) is not None:
            return name
    extra = "confluent" if wanted == "confluent" else "kafka"
    raise ConfigError(f"no Kafka client is installed: pip install 'ftrl-engine[{extra}]'")


def check_reachable(servers: Sequence[str]) -> None:
    """SourceUnavailableError at once where nothing listens; the clients try for seconds in silence."""
    problem = "no broker is named"
    for server in servers:
        host, _, port = server.rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), timeout=REACH_SECONDS).close()
            return
        except OSError as error:
            problem = f"{server}: {error.strerror or error}"
    raise SourceUnavailableError(f"no broker answers ({problem})")


def connect(
    name: str, servers: Sequence[str], topic: str, group: str | None, properties: KafkaProperties
) -> KafkaClient:
    """Open a client by its name; imports the library only here."""
    check_reachable(servers)
    if name == "confluent":
        from streams.kafka_confluent import ConfluentClient

        return ConfluentClient(servers, topic, group, properties)
    from streams.kafka_python import PythonClient

    return PythonClient(servers, topic, group, properties)
