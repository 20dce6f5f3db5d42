"""What the Kafka source needs of a client library; one file an implementation."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ftrl_engine.errors import SourceError, SourceUnavailableError

# In place of a time in milliseconds.
EARLIEST, LATEST = -2, -1
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
