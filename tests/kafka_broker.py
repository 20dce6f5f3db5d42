"""The broker of the tests: the one that `make kafka` starts."""

from bench.kafka_broker import PASSWORD, USER, Broker, NoBrokerError

__all__ = ["PASSWORD", "USER", "Broker", "NoBrokerError"]
