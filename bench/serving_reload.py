"""Scores while the model is replaced: the latency with reloads beside that without, at the same rate.

    python -m bench.serving_reload --rate 4000 --every 0.5 --seconds 10

Vegeta (https://github.com/tsenart/vegeta) asks at a fixed rate from one core, `ftrl serve` answers on another
one. Phases with and without reloads take turns; each prints its latency, and every answer must be a 200.
"""

from __future__ import annotations

import argparse
import base64
import itertools
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from bench.serving_case import CONNECTIONS, EVENTS, learn_model, pin, request_body, server_of, write_events
from ftrl_engine.snapshot import Snapshot
from streams.model_directory import newest_snapshots

KEPT = 3
SETTLE_SECONDS = 1.0


def main() -> None:
    """Print one JSON line for each phase and one with the ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rate", type=int, default=4000, help="requests a second (4000)")
    parser.add_argument("--every", type=float, default=0.5, help="seconds between two snapshots (0.5)")
    parser.add_argument("--seconds", type=int, default=10, help="of each phase (10)")
    parser.add_argument("--runs", type=int, default=3, help="phases of each kind (3)")
    parser.add_argument("--candidates", type=int, default=1, help="of each request (1)")
    parser.add_argument("--events", type=int, default=EVENTS, help=f"that the model learned ({EVENTS})")
    parser.add_argument("--workers", type=int, default=1, help="of the server (1)")
    args = parser.parse_args()
    if shutil.which("vegeta") is None:
        parser.error("there is no vegeta; go install github.com/tsenart/vegeta/v12@latest")
    with tempfile.TemporaryDirectory(prefix="ftrl-reload-") as name:
        folder = Path(name)
        write_events(folder / "events.jsonl", args.events)
        learn_model(folder)
        versions = Versions(folder / "model", folder / "to come")
        with server_of("ftrl-engine", folder, "--workers", str(args.workers)) as (url, process):
            print(json.dumps(_measure(args, url, process, versions)))


class Versions:
    """Snapshots of one model with ever more rows; published by renaming, so that it costs nothing."""

    def __init__(self, model: Path, aside: Path) -> None:
        (path, *_) = newest_snapshots(model)
        self.bytes = path.stat().st_size
        self._snapshot, self._folder, self._aside = Snapshot.load(path), path.parent, aside
        self._rows = itertools.count(self._snapshot.rows + 1)
        aside.mkdir()

    def prepare(self, count: int) -> list[Path]:
        """Files to publish, in order."""
        made = []
        for rows in itertools.islice(self._rows, count):
            # Another version must have other weights, or it would be the same model.
            changed = replace(
                self._snapshot,
                intercept=self._snapshot.intercept + 1e-6 * rows,
                provenance={**self._snapshot.provenance, "rows": rows, "published_at": time.time()},
            )
            made.append(self._aside / f"{rows}.safetensors")
            changed.save(made[-1])
        return made

    def publish(self, path: Path) -> None:
        """Make it the newest snapshot, and remove what is old."""
        path.rename(self._folder / path.name)
        for old in list(newest_snapshots(self._folder.parent))[KEPT:]:
            old.unlink()


def _measure(
    args: argparse.Namespace, url: str, process: subprocess.Popen[str], versions: Versions
) -> dict[str, Any]:
    target = _target(url, args.candidates)
    _attack(target, args.rate, 2)
    p99: dict[bool, list[float]] = {False: [], True: []}
    memory = []
    for _ in range(args.runs):
        for reloads in (False, True):
            paths = versions.prepare(int(args.seconds / args.every)) if reloads else []
            before = _loads(url)
            with _publishing(versions, paths, args.every):
                found = _attack(target, args.rate, args.seconds)
            time.sleep(SETTLE_SECONDS)
            phase = {
                "reloads": _loads(url) - before,
                "p50_ms": round(found["latencies"]["50th"] / 1e6, 3),
                "p99_ms": round(found["latencies"]["99th"] / 1e6, 3),
                "max_ms": round(found["latencies"]["max"] / 1e6, 3),
                "requests": found["requests"],
                "failed": found["requests"] - found["status_codes"].get("200", 0),
                "server_mb": _megabytes(process.pid),
            }
            print(json.dumps(phase), flush=True)
            p99[reloads].append(phase["p99_ms"])
            memory.append(phase["server_mb"])
            if phase["failed"] or (reloads and phase["reloads"] < len(paths) - 1):
                sys.exit("a request failed, or a snapshot was not taken into service")
    still, moving = statistics.median(p99[False]), statistics.median(p99[True])
    return {
        "rate": args.rate, "every": args.every, "candidates": args.candidates, "workers": args.workers,
        "snapshot_bytes": versions.bytes, "p99_ms": still, "p99_ms_with_reloads": moving,
        "ratio": round(moving / still, 3), "server_mb": [min(memory), max(memory)],
    }  # fmt: skip


class _publishing:  # noqa: N801 - read as a verb
    """Publishes the files beside what happens inside, one every so many seconds."""

    def __init__(self, versions: Versions, paths: list[Path], every: float) -> None:
        self._thread = threading.Thread(target=self._run, args=(versions, paths, every), daemon=True)

    def _run(self, versions: Versions, paths: list[Path], every: float) -> None:
        began = time.monotonic()
        for number, path in enumerate(paths):
            time.sleep(max(0.0, began + number * every - time.monotonic()))
            versions.publish(path)

    def __enter__(self) -> None:
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._thread.join()


def _target(url: str, candidates: int) -> bytes:
    return (
        json.dumps(
            {
                "method": "POST",
                "url": f"{url}/score",
                "body": base64.b64encode(request_body(candidates)).decode(),
                "header": {"Content-Type": ["application/json"]},
            }
        ).encode()
        + b"\n"
    )


def _attack(target: bytes, rate: int, seconds: int) -> dict[str, Any]:
    """What vegeta reports; latencies in nanoseconds, from the moment a request should have been sent."""
    flags = ["-format=json", "-targets=stdin", f"-rate={rate}", f"-duration={seconds}s", "-timeout=10s"]
    flags += [f"-workers={CONNECTIONS}", f"-max-connections={CONNECTIONS}", f"-connections={CONNECTIONS}"]
    attack = subprocess.run(
        ["vegeta", "attack", *flags],
        input=target, stdout=subprocess.PIPE, check=True, timeout=60 + seconds, preexec_fn=partial(pin, -1),
    )  # fmt: skip
    report = subprocess.run(
        ["vegeta", "report", "-type=json"],
        input=attack.stdout,
        stdout=subprocess.PIPE,
        check=True,
        timeout=60,
    )
    found: dict[str, Any] = json.loads(report.stdout)
    return found


def _loads(url: str) -> int:
    with urlopen(f"{url}/metrics", timeout=10) as answer:
        lines = answer.read().decode().splitlines()
    (value,) = (line.split()[1] for line in lines if line.startswith("ftrl_reloads_total "))
    return int(float(value))


def _megabytes(process: int) -> float:
    """Resident memory of the process and of those it has started."""
    return round(sum(_resident(each) for each in (process, *_children(process))) / 1024, 1)


def _resident(process: int) -> int:
    lines = Path(f"/proc/{process}/status").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("VmRSS")), 0)


def _children(process: int) -> Iterator[int]:
    for task in Path(f"/proc/{process}/task").iterdir():
        yield from map(int, (task / "children").read_text().split())


if __name__ == "__main__":
    main()
