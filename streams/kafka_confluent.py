"""The Kafka source's client on confluent-kafka (librdkafka): several times faster."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, NoReturn

import confluent_kafka
import confluent_kafka.admin
import numpy as np
from confluent_kafka import (
    Consumer,
    IsolationLevel,
    KafkaError,
    KafkaException,
    Message,
    TopicCollection,
    TopicPartition,
)
from numpy.typing import NDArray

from ftrl_engine.errors import SourceError, SourceUnavailableError
from streams.kafka_client import (
    EARLIEST,
    REQUEST_SECONDS,
    Details,
    Fetched,
    KafkaClient,
    OffsetOutOfRange,
    Topic,
)
from streams.kafka_properties import KafkaProperties

MAX_MESSAGES = 10_000
# The annotations of this module leave half of what it documents out; it counts as untyped.
_admin: Any = confluent_kafka.admin
# librdkafka insists on a group even where nothing is committed.
_NO_GROUP = "ftrl-engine"

# librdkafka logs every failed attempt; this source says what matters itself.
_log = logging.getLogger(confluent_kafka.__name__)
_log.addHandler(logging.NullHandler())


class ConfluentClient(KafkaClient):
    """Consumer for the messages, AdminClient for what the topic is and holds."""

    name = "confluent"

    def __init__(
        self, servers: Sequence[str], topic: str, group: str | None, properties: KafkaProperties
    ) -> None:
        self._topic = topic
        self._group = group
        self._hide = properties.hide
        self._fatal: KafkaError | None = None
        self._refused = ""  # why a broker would not talk to us, which no request is told
        self._failed: Message | None = None  # met behind messages; raised by the next poll
        self._positions: dict[int, int] = {}
        common = common_settings(servers, properties) | {"error_cb": self._note}
        try:
            self._admin = _admin.AdminClient(common)
            self._consumer = Consumer(
                common
                | {
                    "group.id": group or _NO_GROUP,
                    "enable.auto.commit": False,
                    "enable.auto.offset.store": False,
                    "auto.offset.reset": "error",
                    "isolation.level": "read_committed",
                    "allow.auto.create.topics": False,
                    "check.crcs": True,
                    "enable.partition.eof": True,
                    "fetch.wait.max.ms": 200,
                    "fetch.queue.backoff.ms": 5,
                    "fetch.message.max.bytes": properties.number("max.partition.fetch.bytes", 1 << 20),
                    "fetch.max.bytes": properties.number("fetch.max.bytes", 16 << 20),
                    "queued.max.messages.kbytes": 32 << 10,
                    "client.rack": properties.get("client.rack") or "",
                }
            )
        except KafkaException as error:
            raise SourceError(self._hide(error.args[0].str())) from None
        self._closed = False
        try:
            self.topic()
        except BaseException:
            self.close()
            raise

    def topic(self) -> Topic | None:
        asked = self._admin.describe_topics(TopicCollection([self._topic]), request_timeout=REQUEST_SECONDS)[
            self._topic
        ]
        try:
            found = asked.result(2 * REQUEST_SECONDS)
        except KafkaException as error:
            if error.args[0].code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
                return None
            self._raise_for(error.args[0])
        except TimeoutError:
            raise SourceUnavailableError("no answer to a request for metadata") from None
        topic_id = str(found.topic_id).rstrip("=").replace("+", "-").replace("/", "_")
        known = topic_id if topic_id.strip("A") else ""
        return Topic(known, frozenset(each.id for each in found.partitions))

    def offsets(self, partitions: Sequence[int], when: int) -> dict[int, int]:
        spec = _admin.OffsetSpec.earliest() if when == EARLIEST else _admin.OffsetSpec.latest()
        found = self._list_offsets(partitions, spec)
        if when >= 0:
            times = self._list_offsets(partitions, _admin.OffsetSpec.for_timestamp(when))
            found |= {number: offset for number, offset in times.items() if offset >= 0}
        return found

    def _list_offsets(self, partitions: Sequence[int], spec: Any) -> dict[int, int]:
        asked = self._admin.list_offsets(
            {TopicPartition(self._topic, number): spec for number in partitions},
            isolation_level=IsolationLevel.READ_COMMITTED,
            request_timeout=REQUEST_SECONDS,
        )
        try:
            return {each.partition: int(f.result(2 * REQUEST_SECONDS).offset) for each, f in asked.items()}
        except KafkaException as error:
            self._raise_for(error.args[0])
        except TimeoutError:
            raise SourceUnavailableError("no answer to a request for offsets") from None

    def assign(self, offsets: Mapping[int, int]) -> None:
        self._positions = dict(offsets)
        self._consumer.assign([TopicPartition(self._topic, n, at) for n, at in offsets.items()])

    def poll(self, timeout: float) -> list[Fetched]:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            self._raise_event(failed)
        try:
            messages = self._consumer.consume(MAX_MESSAGES, timeout)
        except KafkaException as error:
            self._raise_for(error.args[0])
        if self._fatal is not None:
            fatal, self._fatal = self._fatal, None
            self._raise_for(fatal)
        if any(map(Message.error, messages)):
            messages = self._without_events(messages)
        if not messages:
            return []
        return [self._fetched(number, part) for number, part in _by_partition(messages)]

    def _fetched(self, number: int, messages: list[Message]) -> Fetched:
        first, last = messages[0].offset(), messages[-1].offset()
        assert first is not None
        assert last is not None
        self._positions[number] = last + 1
        if last - first == len(messages) - 1:
            offsets = np.arange(first, last + 1, dtype=np.int64)
        else:
            offsets = np.fromiter(map(Message.offset, messages), np.int64, len(messages))
        values: list[bytes | None] = list(map(Message.value, messages))
        return Fetched(number, values, offsets, messages[-1].timestamp()[1], messages)

    def _without_events(self, messages: list[Message]) -> list[Message]:
        """The messages proper. Of the rest, ends of partitions are noted and errors raised."""
        kept: list[Message] = []
        for message in messages:
            error, number, offset = message.error(), message.partition(), message.offset()
            if error is None:
                kept.append(message)
            elif error.code() == KafkaError._PARTITION_EOF:
                if number is not None and offset is not None and offset > self._positions.get(number, -1):
                    self._positions[number] = offset
            else:
                self._failed = self._failed or message
        if self._failed is not None and not kept:
            failed, self._failed = self._failed, None
            self._raise_event(failed)
        return kept

    def _raise_event(self, message: Message) -> NoReturn:
        error = message.error()
        assert error is not None
        if error.code() in (KafkaError._AUTO_OFFSET_RESET, KafkaError.OFFSET_OUT_OF_RANGE):
            number = message.partition()
            assert number is not None
            raise OffsetOutOfRange(number, self._positions.get(number, -1))
        self._raise_for(error)

    def position(self, partition: int) -> int:
        return self._positions[partition]

    def end(self, partition: int) -> int | None:
        _, high = self._consumer.get_watermark_offsets(TopicPartition(self._topic, partition), cached=True)
        return high if high >= 0 else None

    def details(self, fetched: Fetched) -> Iterator[Details]:
        for each in fetched.messages:
            headers = [
                (name, value.encode() if isinstance(value, str) else value)
                for name, value in each.headers() or ()
            ]
            yield Details(each.key(), each.timestamp()[1], headers)

    def commit(self, offsets: Mapping[int, int], wait: bool) -> None:
        if self._group is None or not offsets:
            return
        told = [TopicPartition(self._topic, number, at) for number, at in offsets.items()]
        try:
            if wait:
                self._consumer.commit(offsets=told, asynchronous=False)
            else:
                self._consumer.commit(offsets=told, asynchronous=True)
        except KafkaException as error:
            _log.info("group %s: not committed: %s", self._group, error.args[0].str())

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._consumer.close()

    def _note(self, error: KafkaError) -> None:
        """Called by librdkafka for errors that no request waits for."""
        if error.fatal():
            self._fatal = error
        elif error.code() in (KafkaError._AUTHENTICATION, KafkaError._SSL):
            self._refused = self._hide(error.str())

    def _raise_for(self, error: KafkaError) -> NoReturn:
        self._admin.poll(0)
        if self._fatal is not None:
            error, self._fatal = self._fatal, None
        if self._refused:
            # It may be a broker that is just starting, so it is worth other tries.
            refused, self._refused = self._refused, ""
            raise SourceUnavailableError(
                f"{refused}: check security.protocol and the sasl.* and ssl.* properties"
            ) from None
        raise_for(error, self._hide)


def common_settings(servers: Sequence[str], properties: KafkaProperties) -> dict[str, Any]:
    """What every kind of librdkafka client here is made with."""
    return {
        "bootstrap.servers": ",".join(servers),
        "socket.timeout.ms": int(1000 * REQUEST_SECONDS),
        "reconnect.backoff.ms": 50,
        "reconnect.backoff.max.ms": 1000,
        "retry.backoff.ms": 100,
        "logger": _log,
        "log_level": 2,  # critical: a broker that stays away is reported once, by us
    } | properties.for_librdkafka()


def raise_for(error: KafkaError, hide: Callable[[str], str]) -> NoReturn:
    """Our error for one of librdkafka's."""
    text = hide(error.str())
    again = (
        KafkaError._TRANSPORT,
        KafkaError._TIMED_OUT,
        KafkaError._ALL_BROKERS_DOWN,
        KafkaError._RESOLVE,
        KafkaError._WAIT_COORD,
        KafkaError._UNKNOWN_PARTITION,
        KafkaError._UNKNOWN_TOPIC,
        KafkaError.UNKNOWN_TOPIC_OR_PART,
        KafkaError.LEADER_NOT_AVAILABLE,
        KafkaError.NOT_LEADER_FOR_PARTITION,
    )
    if error.retriable() or error.code() in again:
        raise SourceUnavailableError(text) from None
    raise SourceError(text) from None


def _by_partition(messages: list[Message]) -> list[tuple[int, list[Message]]]:
    """The messages of each partition, in order."""
    count = len(messages)
    numbers: NDArray[np.int64] = np.fromiter(map(Message.partition, messages), np.int64, count)
    if (numbers == numbers[0]).all():
        return [(int(numbers[0]), messages)]
    return [
        (int(number), [messages[at] for at in np.flatnonzero(numbers == number)])
        for number in np.unique(numbers)
    ]
