"""Which client library reads a topic, and opening it."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence

from ftrl_engine.errors import ConfigError
from streams.kafka_client import KafkaClient, check_reachable
from streams.kafka_properties import KafkaProperties

CLIENTS = ("kafka-python", "confluent")


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
