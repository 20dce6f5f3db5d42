"""A topic of its own for every test, filled and changed by the clients' own means."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self

from confluent_kafka import Producer
from kafka import KafkaAdminClient

from streams.source import Block, Source, SourceOptions, open_source

CLIENTS = ["kafka-python", "confluent"]
_numbers = itertools.count()


class Topic:
    """Made when it is constructed; ``configs`` are the broker's settings of the topic."""

    def __init__(
        self, servers: str, partitions: int = 1, configs: Mapping[str, str] | None = None, name: str = ""
    ) -> None:
        self.servers = servers
        self.name = name or f"test-{os.getpid()}-{next(_numbers)}"
        self._admin: Any = KafkaAdminClient(bootstrap_servers=servers)
        self._producers: dict[str, Any] = {}
        self.make(partitions, configs)

    @property
    def uri(self) -> str:
        return f"kafka://{self.servers}/{self.name}"

    def make(self, partitions: int = 1, configs: Mapping[str, str] | None = None) -> None:
        self._admin.create_topics(
            {
                self.name: {
                    "num_partitions": partitions,
                    "replication_factor": 1,
                    "configs": {"max.message.bytes": "33554432", "retention.ms": "-1"} | dict(configs or {}),
                }
            },
            wait_for_metadata=True,
        )

    def delete(self) -> None:
        self._admin.delete_topics([self.name])
        self._forget()

    def grow(self, partitions: int) -> None:
        self._admin.create_partitions({self.name: partitions})
        self._admin.wait_for_topics([self.name])
        self._forget()

    def _forget(self) -> None:
        """Producers learn of a change of the topic minutes later, new ones at once."""
        self._producers.clear()

    def remove_before(self, partition: int, offset: int) -> None:
        """What retention does, at once."""
        from kafka import TopicPartition

        self._admin.delete_records({TopicPartition(self.name, partition): offset})

    def committed(self, group: str) -> dict[int, int]:
        """The offsets a group has committed in this topic."""
        found = self._admin.list_group_offsets({group: None})[group]
        return {each.partition: at.offset for each, at in found.items() if each.topic == self.name}

    def send(
        self,
        values: Iterable[bytes | None],
        partition: int = 0,
        compression: str = "none",
        headers: Sequence[tuple[str, bytes]] = (),
        timestamp_ms: int = 0,
        key: bytes | None = None,
    ) -> None:
        """Send messages in order and wait until the broker has them."""
        failed: list[Any] = []
        if compression not in self._producers:
            self._producers[compression] = Producer(
                {
                    "bootstrap.servers": self.servers,
                    "compression.type": compression,
                    "linger.ms": 2,
                    "batch.size": 1 << 18,
                    "message.max.bytes": 32 << 20,
                    "enable.idempotence": True,
                    "delivery.report.only.error": True,
                    "on_delivery": lambda error, message: failed.append(error),
                }
            )
        producer = self._producers[compression]
        more: dict[str, Any] = {"headers": list(headers)} if headers else {}
        for value in values:
            while True:
                try:
                    producer.produce(
                        self.name, value, key, partition=partition, timestamp=timestamp_ms, **more
                    )
                    break
                except BufferError:
                    producer.poll(0.05)
        assert producer.flush(60) == 0
        assert not failed, failed[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._forget()
        self._admin.close()


def opened(
    uri: str, positions: Mapping[str, int] | None = None, follow: bool = False, **extra: str
) -> Source:
    """The source of ``uri``; ``extra`` are options of the command line."""
    return open_source(uri, positions, SourceOptions(follow=follow, extra=extra))


def blocks_of(source: Source, polls: int = 400) -> list[Block]:
    """Every block until the source is finished; it is closed then."""
    found = []
    try:
        for _ in range(polls):
            block = source.poll(0.05)
            if block is not None:
                found.append(block)
            if source.finished:
                return found
        raise AssertionError(f"not finished after {polls} polls; read {sum(map(len, found))} records")
    finally:
        source.close()


def records_of(blocks: Sequence[Block]) -> list[bytes]:
    return [block.record(row) for block in blocks for row in range(len(block))]


def take(source: Source, count: int, polls: int = 400) -> list[bytes]:
    """At least ``count`` records of a source that is followed."""
    found: list[bytes] = []
    for _ in range(polls):
        block = source.poll(0.05)
        if block is not None:
            found += records_of([block])
        if len(found) >= count:
            return found
    raise AssertionError(f"{len(found)} of {count} records came in {polls} polls")
