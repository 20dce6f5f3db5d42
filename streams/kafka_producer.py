"""Sending messages with either client library: idempotent, acknowledged by all replicas.

Both keep at most ``BUFFER_BYTES`` waiting and then make the sender wait; what cannot be
delivered is remembered and raised by the next call.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from ftrl_engine.errors import SourceError, SourceUnavailableError
from streams.kafka_properties import KafkaProperties

BUFFER_BYTES = 64 << 20
MAX_MESSAGE_BYTES = 16 << 20
LINGER_MS = 20
BATCH_BYTES = 256 << 10


class KafkaProducer(ABC):
    """A sender to one topic. Every method raises SourceError for what was not delivered."""

    @abstractmethod
    def send(self, values: Sequence[bytes], partition: int | None) -> None:
        """Queue messages; waits while too much is queued."""

    @abstractmethod
    def flush(self) -> None:
        """Return when everything queued is acknowledged."""

    @abstractmethod
    def close(self) -> None:
        """Leave without waiting; a second call does nothing."""


class PythonProducer(KafkaProducer):
    """kafka-python's KafkaProducer."""

    def __init__(
        self, servers: Sequence[str], topic: str, properties: KafkaProperties, timeout: float
    ) -> None:
        import kafka

        from streams.kafka_python import common_settings, make

        compression = properties.get("compression.type")
        settings = common_settings(servers, properties) | {
            "acks": "all",
            "enable_idempotence": True,
            "compression_type": None if compression == "none" else compression,
            "linger_ms": properties.number("linger.ms", LINGER_MS),
            "batch_size": properties.number("batch.size", BATCH_BYTES),
            "max_request_size": properties.number("max.request.size", MAX_MESSAGE_BYTES),
            "max_block_ms": int(1000 * timeout),
            "delivery_timeout_ms": max(int(1000 * timeout), 6000),
            "metrics_enabled": False,
        }
        self._topic, self._timeout, self._hide = topic, timeout, properties.hide
        self._producer: Any = make(kafka.KafkaProducer, settings, servers, properties.hide)
        self._failed: Exception | None = None
        self._queued = 0
        self._closed = False

    def send(self, values: Sequence[bytes], partition: int | None) -> None:
        self._check()
        try:
            for value in values:
                self._queued += len(value) + 100
                if self._queued > BUFFER_BYTES:
                    self.flush()
                self._producer.send(self._topic, value, partition=partition).add_errback(self._note)
        except Exception as error:
            self._raise(error)

    def flush(self) -> None:
        try:
            self._producer.flush(self._timeout)
        except Exception as error:
            self._raise(error)
        self._queued = 0
        self._check()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._producer.close(timeout=0)

    def _note(self, error: Exception) -> None:
        self._failed = self._failed or error

    def _check(self) -> None:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            self._raise(failed)

    def _raise(self, error: Exception) -> None:
        from kafka.errors import KafkaError

        if isinstance(error, SourceError) or not isinstance(error, KafkaError | ValueError):
            raise error
        text = self._hide(str(error))
        kind = SourceUnavailableError if getattr(error, "retriable", False) else SourceError
        raise kind(f"topic {self._topic}: not delivered: {text}") from None


class ConfluentProducer(KafkaProducer):
    """confluent-kafka's Producer."""

    def __init__(
        self, servers: Sequence[str], topic: str, properties: KafkaProperties, timeout: float
    ) -> None:
        import confluent_kafka

        from streams.kafka_confluent import common_settings

        self._topic, self._timeout, self._hide = topic, timeout, properties.hide
        self._failed: Any = None
        self._producer: Any = confluent_kafka.Producer(
            common_settings(servers, properties)
            | {
                "acks": "all",
                "enable.idempotence": True,
                "compression.type": properties.get("compression.type") or "none",
                "linger.ms": properties.number("linger.ms", LINGER_MS),
                "batch.size": properties.number("batch.size", BATCH_BYTES),
                "message.max.bytes": properties.number("max.request.size", MAX_MESSAGE_BYTES),
                "queue.buffering.max.kbytes": BUFFER_BYTES >> 10,
                "queue.buffering.max.messages": 0,
                "message.timeout.ms": max(int(1000 * timeout), 6000),
                "delivery.report.only.error": True,
                "on_delivery": self._note,
                "error_cb": self._note_error,
            }
        )
        self._closed = False

    def send(self, values: Sequence[bytes], partition: int | None) -> None:
        self._producer.poll(0)
        self._check()
        more = {} if partition is None else {"partition": partition}
        for value in values:
            deadline: float | None = None
            while True:
                try:
                    self._producer.produce(self._topic, value, **more)
                    break
                except BufferError:
                    deadline = deadline or time.monotonic() + self._timeout
                    self._producer.poll(0.05)
                    self._check()
                    if time.monotonic() > deadline:
                        raise self._late() from None
                except Exception as error:
                    self._raise(error.args[0] if error.args else error)

    def flush(self) -> None:
        left = self._producer.flush(self._timeout)
        self._check()
        if left:
            raise self._late()

    def close(self) -> None:
        if not self._closed:
            self._closed = True
            self._producer.purge()
            self._producer.flush(1.0)

    def _late(self) -> SourceError:
        return SourceUnavailableError(f"topic {self._topic}: no acknowledgement for {self._timeout:g} s")

    def _note(self, error: Any, message: object) -> None:
        if error is not None and not self._closed:
            self._failed = self._failed or error

    def _note_error(self, error: Any) -> None:
        import confluent_kafka

        if error.fatal() or error.code() == confluent_kafka.KafkaError._AUTHENTICATION:
            self._failed = self._failed or error

    def _check(self) -> None:
        if self._failed is not None:
            failed, self._failed = self._failed, None
            self._raise(failed)

    def _raise(self, error: Any) -> None:
        text = self._hide(error.str() if hasattr(error, "str") else str(error))
        again = hasattr(error, "retriable") and error.retriable()
        kind = SourceUnavailableError if again else SourceError
        raise kind(f"topic {self._topic}: not delivered: {text}") from None
