"""Learning from Apache Kafka, beside what the broker and its clients can deliver."""

from __future__ import annotations

from bench.result import Result, results_of_module
from bench.speed import Bench

BASELINE = None


def measure(bench: Bench) -> list[Result]:
    """What ``bench.kafka_speed.run(rows, quick)`` finds."""
    return results_of_module("bench.kafka_speed", "kafka", "learn from a topic", bench.rows, bench.quick)
