"""The Kafka source's client on kafka-python 3: pure Python, the default."""

from __future__ import annotations

import base64
import logging
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from operator import attrgetter
from typing import Any, NoReturn, TypeVar

import kafka
import numpy as np
from kafka import KafkaAdminClient, KafkaConsumer, OffsetAndMetadata, TopicPartition
from kafka import errors as kafka_errors
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
    check_reachable,
)
from streams.kafka_properties import KafkaProperties

# kafka-python logs every failed attempt; this source says what matters itself.
logging.getLogger(kafka.__name__).addHandler(logging.NullHandler())

MAX_POLL_RECORDS = 4000
# Of a partition at once. With 1 MB, packed messages wait for the next answer a third of the time.
FETCH_BYTES = 4 << 20
_REQUEST_MS = int(1000 * REQUEST_SECONDS)
_UNKNOWN_TOPIC = 3
_values = attrgetter("value")
_offsets = attrgetter("offset")

Made = TypeVar("Made")


class PythonClient(KafkaClient):
    """KafkaConsumer for the messages, KafkaAdminClient for what the topic is."""

    name = "kafka-python"

    def __init__(
        self, servers: Sequence[str], topic: str, group: str | None, properties: KafkaProperties
    ) -> None:
        self._topic = topic
        self._group = group
        self._hide = properties.hide
        # A group is joined by nobody here: it only receives commits.
        consumer = common_settings(servers, properties) | {
            "group_id": group,
            "enable_auto_commit": False,
            "auto_offset_reset": "none",
            "isolation_level": "read_committed",
            "allow_auto_create_topics": False,
            "check_crcs": True,
            "max_poll_records": MAX_POLL_RECORDS,
            "fetch_max_wait_ms": 200,
            "fetch_min_bytes": 1,
            "fetch_max_bytes": properties.number("fetch.max.bytes", 16 << 20),
            "max_partition_fetch_bytes": properties.number("max.partition.fetch.bytes", FETCH_BYTES),
            "metadata_max_age_ms": 60_000,
            "metrics_enabled": False,
            "client_rack": properties.get("client.rack") or "",
        }
        self._admin = make(KafkaAdminClient, common_settings(servers, properties), servers, self._hide)
        try:
            self._consumer = make(KafkaConsumer, consumer, servers, self._hide)
        except BaseException:
            self._admin.close()
            raise
        self._closed = False

    def topic(self) -> Topic | None:
        try:
            (found,) = self._admin.describe_topics([self._topic])
        except kafka_errors.KafkaError as error:
            raise_for(error, self._hide)
        if found["error_code"] == _UNKNOWN_TOPIC:
            return None
        if found["error_code"]:
            raise_for(kafka_errors.for_code(found["error_code"])(), self._hide)
        numbers = frozenset(each["partition_index"] for each in found["partitions"])
        return Topic(_topic_id(found["topic_id"]), numbers)

    def offsets(self, partitions: Sequence[int], when: int) -> dict[int, int]:
        asked = [TopicPartition(self._topic, number) for number in partitions]
        try:
            if when == EARLIEST:
                found = self._consumer.beginning_offsets(asked, timeout_ms=_REQUEST_MS)
            else:
                found = self._consumer.end_offsets(asked, timeout_ms=_REQUEST_MS)
            if when >= 0:
                times = self._consumer.offsets_for_times(dict.fromkeys(asked, when), timeout_ms=_REQUEST_MS)
                found |= {each: at.offset for each, at in times.items() if at is not None and at.offset >= 0}
        except kafka_errors.KafkaError as error:
            raise_for(error, self._hide)
        return {each.partition: int(offset) for each, offset in found.items()}

    def assign(self, offsets: Mapping[int, int]) -> None:
        self._consumer.assign([TopicPartition(self._topic, number) for number in offsets])
        for number, offset in offsets.items():
            self._consumer.seek(TopicPartition(self._topic, number), offset)

    def poll(self, timeout: float) -> list[Fetched]:
        try:
            polled = self._consumer.poll(timeout_ms=int(1000 * timeout))
        except kafka_errors.OffsetOutOfRangeError as error:
            for each, offset in error.args[0].items():
                raise OffsetOutOfRange(each.partition, offset) from None
            raise
        except kafka_errors.KafkaError as error:
            raise_for(error, self._hide)
        return [
            Fetched(
                each.partition,
                list(map(_values, records)),
                rising(records[0].offset, records[-1].offset, records, _offsets),
                records[-1].timestamp,
                records,
            )
            for each, records in polled.items()
        ]

    def position(self, partition: int) -> int:
        return int(self._consumer.position(TopicPartition(self._topic, partition), timeout_ms=0))

    def end(self, partition: int) -> int | None:
        found: int | None = self._consumer.highwater(TopicPartition(self._topic, partition))
        return found

    def details(self, fetched: Fetched) -> Iterator[Details]:
        for each in fetched.messages:
            yield Details(each.key, each.timestamp, each.headers or ())

    def commit(self, offsets: Mapping[int, int], wait: bool) -> None:
        if self._group is None or not offsets:
            return
        told = {TopicPartition(self._topic, n): OffsetAndMetadata(at, "", -1) for n, at in offsets.items()}
        try:
            if wait:
                self._consumer.commit(told, timeout_ms=2000)
            else:
                self._consumer.commit_async(told)
        except kafka_errors.KafkaError as error:
            logging.getLogger(__name__).info("group %s: not committed: %s", self._group, error)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        self._consumer.close(autocommit=False, timeout_ms=1000)
        self._admin.close()


def common_settings(servers: Sequence[str], properties: KafkaProperties) -> dict[str, Any]:
    """What every kind of kafka-python client here is made with."""
    return {
        "bootstrap_servers": list(servers),
        "request_timeout_ms": _REQUEST_MS,
        "bootstrap_timeout_ms": _REQUEST_MS,
        "reconnect_backoff_ms": 50,
        "reconnect_backoff_max_ms": 1000,
        "retry_backoff_ms": 100,
    } | properties.for_kafka_python()


def make(
    kind: Callable[..., Made], settings: dict[str, Any], servers: Sequence[str], hide: Callable[[str], str]
) -> Made:
    """Construct a client; a failed attempt leaves no thread behind, which would go on trying."""
    made: list[Any] = []
    network: Callable[..., Any] = KafkaConsumer.DEFAULT_CONFIG["kafka_client"]

    def remember(**config: Any) -> Any:
        made.append(network(**config))
        return made[-1]

    try:
        return kind(kafka_client=remember, **settings)
    except (kafka_errors.KafkaError, OSError) as error:
        for each in made:
            each.close()
        if isinstance(error, OSError):
            raise SourceError(f"the connection cannot be set up: {error.strerror or error}") from None
        if isinstance(error, kafka_errors.KafkaTimeoutError):
            check_reachable(servers)
            raise SourceUnavailableError(
                "something listens there, but it does not complete Kafka's handshake: check "
                "security.protocol and the sasl.* and ssl.* properties"
            ) from None
        raise_for(error, hide)


def raise_for(error: Exception, hide: Callable[[str], str]) -> NoReturn:
    """Our error for one of kafka-python's; whether it is worth another try is kafka-python's word."""
    text = hide(str(error))
    if getattr(error, "retriable", False):
        raise SourceUnavailableError(text) from None
    raise SourceError(text) from None


def rising(first: int, last: int, records: Sequence[Any], offset: Callable[[Any], int]) -> NDArray[np.int64]:
    """The offsets of consecutive messages, without a look at each where none is missing."""
    if last - first == len(records) - 1:
        return np.arange(first, last + 1, dtype=np.int64)
    return np.fromiter(map(offset, records), np.int64, len(records))


def _topic_id(text: str | uuid.UUID | None) -> str:
    """The identity of a topic as Kafka's own tools write it: 22 characters."""
    if not text or not (number := uuid.UUID(str(text))).int:
        return ""
    return base64.urlsafe_b64encode(number.bytes).rstrip(b"=").decode()
