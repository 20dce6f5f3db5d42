"""How soon an event changes what is served: from ``produce`` to a published snapshot that knows it.

    python -m bench.kafka_freshness --publish-every 100ms

A learner follows a topic under a background load while probes are sent at random moments. The
time of a probe ends when a snapshot is published whose positions lie behind the probe's offset.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer

from bench.kafka_speed import broker_address, make_topic
from ftrl_engine import container
from streams.kafka_positions import offset_of

STEP = 0.02


class Load:
    """A producer that keeps a steady rate of events from a thread of its own."""

    def __init__(self, servers: str, topic: str, rate: int) -> None:
        self._topic, self._rate = topic, rate
        self._stop = threading.Event()
        self._producer = Producer({"bootstrap.servers": servers, "linger.ms": 0, "acks": "all"})
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started, sent = time.monotonic(), 0
        while not self._stop.is_set():
            due = int((time.monotonic() - started) * self._rate)
            for number in range(sent, due):
                value = b'{"user":"u%d","item":"i%d","label":%d}' % (
                    number * 7919 % 100_003, number * 104_729 % 10_007, number % 17 == 0,
                )  # fmt: skip
                self._producer.produce(self._topic, value)
            sent = max(sent, due)
            self._producer.poll(0)
            self._stop.wait(STEP)

    def close(self) -> None:
        self._stop.set()
        self._thread.join()
        self._producer.flush(10)


class Watch:
    """Notes when the position of each snapshot appeared."""

    def __init__(self, model: Path) -> None:
        self._folder = model / "snapshots"
        self._stop = threading.Event()
        self.seen: list[tuple[int, float]] = []  # (offset, time)
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        known: set[Path] = set()
        while not self._stop.wait(0.002):
            if not self._folder.is_dir():
                continue
            for path in set(self._folder.glob("*.safetensors")) - known:
                now = time.monotonic()
                known.add(path)
                try:
                    metadata = container.read_metadata(path, "snapshot")
                except FileNotFoundError:
                    continue
                positions = json.loads(metadata["provenance"])["positions"]
                self.seen.append((offset_of(max(positions.values(), default=0)), now))

    def close(self) -> None:
        self._stop.set()
        self._thread.join()


def measure(
    servers: str, publish_every: str, probes: int, rate: int, client: str | None = None
) -> dict[str, Any]:
    """Percentiles in milliseconds over ``probes`` probes."""
    topic = make_topic(servers)
    chance = random.Random(1)
    sent: list[tuple[int, float]] = []
    with tempfile.TemporaryDirectory(prefix="ftrl-kafka-") as name:
        model = Path(name) / "model"
        uri = f"kafka://{servers}/{topic}" + (f"?client={client}" if client else "")
        words = ["learn", uri, "--model", str(model), "--follow", "--quiet", "--publish-every", publish_every]
        load = Load(servers, topic, rate)
        learner = subprocess.Popen([sys.executable, "-m", "ftrl_engine", *words])
        watch = Watch(model)
        try:
            _wait_for(lambda: len(watch.seen) >= 5, 120)
            prober = Producer({"bootstrap.servers": servers, "linger.ms": 0, "acks": "all"})
            for number in range(probes):
                started = time.monotonic()
                value = b'{"probe":"p%d","label":1}' % number
                prober.produce(topic, value, on_delivery=partial(_note, sent, started))
                prober.flush(10)
                time.sleep(chance.random() * 0.2)
            last = max(offset for offset, _ in sent)
            _wait_for(lambda: watch.seen[-1][0] > last, 60)
        finally:
            learner.terminate()
            learner.wait(60)
            watch.close()
            load.close()
    return _percentiles(sent, watch.seen) | {"publish_every": publish_every, "background": rate}


def _note(sent: list[tuple[int, float]], started: float, error: object, message: Any) -> None:
    sent.append((message.offset(), started))


def _percentiles(sent: list[tuple[int, float]], seen: list[tuple[int, float]]) -> dict[str, Any]:
    offsets, times = np.array([o for o, _ in seen]), np.array([t for _, t in seen])
    ages = [1000 * (times[int(np.searchsorted(offsets, offset, side="right"))] - at) for offset, at in sent]
    found = np.percentile(ages, [50, 90, 99, 100])
    return {"probes": len(ages)} | {
        name: round(float(value), 1) for name, value in zip(("p50", "p90", "p99", "max"), found, strict=True)
    }


def _wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came for {seconds:g} s")
        time.sleep(0.01)


def main() -> None:
    """Print one JSON line a cadence."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--publish-every", action="append", help="default: 1s and 100ms")
    parser.add_argument("--probes", type=int, default=300)
    parser.add_argument("--rate", type=int, default=5000)
    parser.add_argument("--client", choices=("kafka-python", "confluent"))
    args = parser.parse_args()
    with broker_address() as servers:
        for cadence in args.publish_every or ["1s", "100ms"]:
            print(json.dumps(measure(servers, cadence, args.probes, args.rate, args.client)), flush=True)


if __name__ == "__main__":
    main()
