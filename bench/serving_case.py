"""What the measurements of serving share: the events, the model, the requests and a server on one core."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

FIELDS, CONTEXT_FIELDS = 30, 15
EVENTS = 50_000
CONNECTIONS = 8
START_SECONDS = 300


def events(count: int, seed: int = 1) -> Iterator[dict[str, Any]]:
    """Events of 30 fields whose values are drawn by Zipf's law."""
    draw = random.Random(seed)
    for _ in range(count):
        values = {f"f{field}": f"v{min(int(draw.paretovariate(0.9)), 50_000)}" for field in range(FIELDS)}
        yield {"click": int(draw.random() < 0.1), **values}


def write_events(path: Path, count: int) -> None:
    """The events as JSON lines."""
    with open(path, "w", encoding="ascii") as file:
        file.writelines(json.dumps(event) + "\n" for event in events(count))


def learn_model(folder: Path) -> None:
    """Learn the events in the folder."""
    words = [
        "learn",
        str(folder / "events.jsonl"),
        "--model",
        str(folder / "model"),
        "--quiet",
        "--l1",
        "0.1",
    ]
    subprocess.run([sys.executable, "-m", "ftrl_engine", *words], check=True, timeout=START_SECONDS)


def request_body(candidates: int) -> bytes:
    """A request with so many candidates."""
    drawn = list(events(candidates, seed=2))
    names = [f"f{field}" for field in range(FIELDS)]
    request = {
        "context": {name: drawn[0][name] for name in names[:CONTEXT_FIELDS]},
        "candidates": [{name: event[name] for name in names[CONTEXT_FIELDS:]} for event in drawn],
    }
    return json.dumps(request, separators=(",", ":")).encode()


def pin(place: int) -> None:
    """Keep this process on one of its cores, which are counted like the items of a list."""
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[place]})


@contextmanager
def server_of(contender: str, folder: Path, *flags: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(address, process) of a server on the first core; ``flags`` are of `ftrl serve`."""
    words = [sys.executable, "-m", "bench.serving_apps", contender, str(folder / "events.jsonl")]
    if contender == "ftrl-engine":
        words = [sys.executable, "-m", "ftrl_engine", "serve", "--model", str(folder / "model")]
        words += ["--port", "0", "--json", "--quiet", *flags]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=partial(pin, 0))
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"], process
    finally:
        process.terminate()
        process.wait(60)
