"""A learner under fire: events at a steady rate while learners and the broker are killed at random.

    python -m bench.kafka_soak --seconds 1800 --rate 20000

At the end every event must have been learned exactly once: the rows learned are the events sent,
and each sampled id stands in the learned state as one single update. Memory and lag are sampled.
"""

from __future__ import annotations

import argparse
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
from confluent_kafka import Producer
from safetensors import safe_open

from bench.kafka_broker import Broker
from bench.kafka_speed import make_topic
from ftrl_engine.hashing import hash_bytes, salt

PARTITIONS = 4
SAMPLED = 50  # every so many events carry an id of their own
BITS = 22
STEP = 0.02


class Sender:
    """Sends events at a rate from a thread of its own, through every restart of the broker."""

    def __init__(self, servers: str, topic: str, rate: int) -> None:
        self.sent = 0
        self.failed: list[str] = []
        self._topic, self._rate = topic, rate
        self._stop = threading.Event()
        self._producer = Producer(
            {
                "bootstrap.servers": servers,
                "enable.idempotence": True,
                "linger.ms": 5,
                "message.timeout.ms": 600_000,
                "queue.buffering.max.messages": 5_000_000,
                "queue.buffering.max.kbytes": 2 << 20,
                "reconnect.backoff.max.ms": 1000,
                "delivery.report.only.error": True,
                "on_delivery": lambda error, message: self.failed.append(str(error)),
                "log_level": 0,
            }
        )
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        started = time.monotonic()
        while not self._stop.wait(STEP):
            due = int((time.monotonic() - started) * self._rate)
            for number in range(self.sent, due):
                self._producer.produce(self._topic, event(number), partition=number % PARTITIONS)
            self.sent = max(self.sent, due)
            self._producer.poll(0)

    def close(self) -> None:
        """Stop and wait until everything is acknowledged."""
        self._stop.set()
        self._thread.join()
        if self._producer.flush(120) or self.failed:
            raise RuntimeError(f"not everything could be sent: {self.failed[:1]}")


def event(number: int) -> bytes:
    """Event ``number``; every SAMPLED-th has an id that no other has."""
    own = b'"id":"e%d",' % number if number % SAMPLED == 0 else b""
    return b'{%s"user":"u%d","item":"i%d","label":%d}' % (
        own, number * 7919 % 5003, number * 104_729 % 1009, number % 11 == 0,
    )  # fmt: skip


def soak(seconds: float, rate: int, learner_every: float, broker_every: float, client: str) -> dict[str, Any]:
    """Run it; ``learner_every`` and ``broker_every`` are mean seconds between two kills."""
    with tempfile.TemporaryDirectory(prefix="ftrl-soak-") as name:
        broker = Broker(Path(name) / "broker")
        broker.start()
        try:
            topic = make_topic(broker.address, PARTITIONS)
            sender = Sender(broker.address, topic, rate)
            learner = Learner(f"kafka://{broker.address}/{topic}?client={client}", Path(name))
            result = _under_fire(broker, learner, sender, seconds, learner_every, broker_every)
            sender.close()
            result["sent"] = sender.sent
            result["drained_in"] = learner.drain(sender.sent)
            result["learned"] = learner.rows()
            result["audit"] = audit(learner.model, sender.sent)
        finally:
            broker.kill()
    result["clean"] = (
        result["learned"] == result["sent"] and result["audit"]["never"] == 0 and result["audit"]["more"] == 0
    )
    return {"seconds": seconds, "rate": rate, "client": client} | result


def _under_fire(
    broker: Broker,
    learner: Learner,
    sender: Sender,
    seconds: float,
    learner_every: float,
    broker_every: float,
) -> dict[str, Any]:
    chance = random.Random(3)
    started = time.monotonic()
    next_learner = started + chance.uniform(0.5, 1.5) * learner_every
    next_broker = started + chance.uniform(0.5, 1.5) * broker_every
    kills, restarts = 0, 0
    samples: list[tuple[float, float, int]] = []  # seconds, MB, events behind
    while time.monotonic() < started + seconds:
        time.sleep(1.0)
        now = time.monotonic()
        samples.append((now - started, learner.megabytes(), sender.sent - learner.rows()))
        if now >= next_learner:
            learner.kill()
            kills += 1
            learner.start()
            next_learner = now + chance.uniform(0.5, 1.5) * learner_every
        if now >= next_broker:
            broker.kill()
            restarts += 1
            broker.start()
            next_broker = time.monotonic() + chance.uniform(0.5, 1.5) * broker_every
    return {"learner_kills": kills, "broker_kills": restarts, "quarters": _quarters(samples)}


def _quarters(samples: list[tuple[float, float, int]]) -> list[dict[str, float]]:
    """The peak memory and the median of what was not in a checkpoint yet, a quarter of the time each."""
    parts = np.array_split(np.array(samples), 4)
    return [
        {"peak_mb": round(float(part[:, 1].max()), 1), "median_behind": int(np.median(part[:, 2]))}
        for part in parts
        if len(part)
    ]


class Learner:
    """`ftrl learn --follow` as a process that can be killed and started again."""

    def __init__(self, uri: str, folder: Path) -> None:
        self.model = folder / "model"
        self._uri = uri
        self._output = folder / "learner.txt"
        self.start()

    def start(self) -> None:
        words = ["learn", self._uri, "--model", str(self.model), "--follow", "--bits", str(BITS), "--quiet"]
        words += ["--checkpoint-every", "5s"]
        with self._output.open("ab") as file:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ftrl_engine", *words], stdout=file, stderr=file
            )

    def kill(self) -> None:
        if self._process.poll() is not None:
            raise RuntimeError(f"the learner ended by itself: {self._output.read_text()[-2000:]}")
        self._process.kill()
        self._process.wait()

    def rows(self) -> int:
        """The rows of the newest checkpoint."""
        folder = self.model / "checkpoints"
        found = folder.glob("*.safetensors") if folder.is_dir() else ()
        return max((int(path.stem) for path in found), default=0)

    def megabytes(self) -> float:
        """Resident memory now."""
        try:
            text = Path(f"/proc/{self._process.pid}/status").read_text()
        except OSError:
            return 0.0
        lines = [line for line in text.splitlines() if line.startswith("VmRSS")]
        return int(lines[0].split()[1]) / 1024 if lines else 0.0

    def drain(self, rows: int, seconds: float = 300.0) -> float:
        """Wait until everything is learned and end cleanly; how long the waiting took."""
        started = time.monotonic()
        while self.rows() < rows and time.monotonic() < started + seconds:
            if self._process.poll() is not None:
                raise RuntimeError(f"the learner ended by itself: {self._output.read_text()[-2000:]}")
            time.sleep(0.1)
        took = time.monotonic() - started
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(60)
        return round(took, 1)


def audit(model: Path, sent: int) -> dict[str, int]:
    """How many sampled ids were learned once, never, more often.

    FTRL-Proximal's state of a feature seen once, from zero, is z = g and n = g * g; a second time
    adds a square to n and, the weight being 0 still, another g to z. Ids whose slot another feature
    has too say nothing and are left out.
    """
    newest = max((model / "checkpoints").glob("*.safetensors"), key=lambda path: int(path.stem))
    with safe_open(newest, "numpy") as file:
        slots, state = file.get_tensor("slots"), file.get_tensor("state")
    own = _slots("id", [f"e{number}" for number in range(0, sent, SAMPLED)])
    others = np.concatenate(
        [_slots("user", [f"u{n}" for n in range(5003)]), _slots("item", [f"i{n}" for n in range(1009)])]
    )
    found, counts = np.unique(own, return_counts=True)
    alone = np.setdiff1d(found[counts == 1], others)
    at = np.minimum(np.searchsorted(slots, alone), len(slots) - 1)
    held = slots[at] == alone
    z, n = state[at[held], 0], state[at[held], 1]
    once = int((z * z == n).sum())
    return {"ids": len(alone), "once": once, "never": int((~held).sum()), "more": int(held.sum()) - once}


def _slots(field: str, texts: list[str]) -> np.ndarray[Any, np.dtype[np.uint32]]:
    key = salt(field)
    return np.array([hash_bytes(text.encode(), key) >> (64 - BITS) for text in texts], np.uint32)


def main() -> None:
    """Print the result as one JSON line; status 1 where the audit is not clean."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=1800)
    parser.add_argument("--rate", type=int, default=20_000)
    parser.add_argument("--learner-every", type=float, default=45, help="mean seconds between kills")
    parser.add_argument("--broker-every", type=float, default=240)
    parser.add_argument("--client", choices=("kafka-python", "confluent"), default="kafka-python")
    args = parser.parse_args()
    result = soak(args.seconds, args.rate, args.learner_every, args.broker_every, args.client)
    print(json.dumps(result))
    sys.exit(0 if result["clean"] else 1)


if __name__ == "__main__":
    main()
