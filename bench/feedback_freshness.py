"""How soon feedback changes what is served: from POST /feedback to a score by a model that knows it.

    python -m bench.feedback_freshness --probes 300

`ftrl serve --learn --feedback` runs at its defaults on a log; events are posted at a steady rate, and the
time of one ends when an answer of POST /score comes from a model that has learned as many events.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import numpy as np

STEP = 0.002
START_SECONDS, WAIT_SECONDS = 300.0, 60.0


class Client:
    """One connection to a server."""

    def __init__(self, address: dict[str, Any]) -> None:
        self._connection = HTTPConnection(address["host"], address["port"], timeout=60)

    def post(self, path: str, data: Any) -> tuple[int, dict[str, Any]]:
        """(status, answer)."""
        self._connection.request("POST", path, json.dumps(data))
        answer = self._connection.getresponse()
        return answer.status, json.loads(answer.read())

    def rows(self) -> int:
        """How many events the model that answers has learned."""
        status, answer = self.post("/score", {"context": {"user": "u1"}})
        return int(answer["model"]["rows"]) if status == 200 else 0


def measure(probes: int, rate: float, flags: list[str]) -> dict[str, Any]:
    """Percentiles in milliseconds, of the answer to the feedback and of the score that knows it."""
    with tempfile.TemporaryDirectory(prefix="ftrl-feedback-") as name:
        stream = f"log:{Path(name) / 'events'}"
        words = ["serve", "--model", str(Path(name) / "model"), "--port", "0", "--json", "--quiet"]
        server = subprocess.Popen(
            [sys.executable, "-m", "ftrl_engine", *words, "--learn", stream, "--feedback", stream, *flags],
            stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        try:
            assert server.stdout is not None
            address = json.loads(server.stdout.readline())
            client = Client(address)
            _wait_for(lambda: client.post("/feedback", {"click": 1, "user": "u0"})[0] == 200, START_SECONDS)
            _wait_for(lambda: client.rows() == 1, START_SECONDS)
            return _probe(address, client, probes, rate)
        finally:
            server.terminate()
            server.wait(60)


def _probe(address: dict[str, Any], client: Client, probes: int, rate: float) -> dict[str, Any]:
    sent: list[float] = []
    acknowledged: list[float] = []

    def feed() -> None:
        feeder = Client(address)
        began = time.monotonic()
        for number in range(probes):
            time.sleep(max(0.0, began + number / rate - time.monotonic()))
            sent.append(time.monotonic())
            feeder.post("/feedback", {"click": number % 9 == 0, "user": f"u{number}", "id": number})
            acknowledged.append(time.monotonic())

    feeding = threading.Thread(target=feed)
    feeding.start()
    served: list[float] = []
    end = time.monotonic() + probes / rate + WAIT_SECONDS
    while len(served) < probes and time.monotonic() < end:
        # The first event was learned before the probes.
        known = client.rows() - 1
        served += [time.monotonic()] * (known - len(served))
        time.sleep(STEP)
    feeding.join()
    stored = _percentiles(np.array(acknowledged) - np.array(sent))
    return {
        "probes": probes,
        "rate": rate,
        "stored": stored,
        "served": _percentiles(np.array(served) - np.array(sent)),
    }


def _percentiles(seconds: Any) -> dict[str, float]:
    found = np.percentile(1000 * seconds, [50, 90, 99, 100])
    return {
        name: round(float(value), 1) for name, value in zip(("p50", "p90", "p99", "max"), found, strict=True)
    }


def _wait_for(condition: Any, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"nothing came for {seconds:g} s")
        time.sleep(0.05)


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--probes", type=int, default=300)
    parser.add_argument("--rate", type=float, default=10.0, help="events a second (10)")
    parser.add_argument("flags", nargs="*", help="further flags of ftrl serve, after --")
    args = parser.parse_args()
    print(json.dumps(measure(args.probes, args.rate, args.flags)), flush=True)


if __name__ == "__main__":
    main()
