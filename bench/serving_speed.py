"""Scoring over HTTP: one server process on one core, wrk on the other, 30 fields an event.

Contenders take turns on the same requests. What holds for all of them, the cost of uvicorn and of
the protocol, is what the application with a constant reply shows.
"""

from __future__ import annotations

import importlib.util
import json
import os
import random
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

FIELDS, CONTEXT_FIELDS = 30, 15
EVENTS = 50_000
CONNECTIONS = 8
RUNS, SECONDS, QUICK_SECONDS = 3, 5, 2
CANDIDATES = (1, 100, 1000)
START_SECONDS = 300
_CONTENDERS = ("ftrl-engine", "constant", "vw", "sklearn")
_NEEDS = {"vw": "pylibvw", "sklearn": "sklearn"}
_UNITS = {"us": 1e-3, "ms": 1.0, "s": 1e3, "m": 6e4}
_LUA = """
wrk.method = "POST"
wrk.headers["Content-Type"] = "application/json"
local file = io.open("{path}", "rb")
wrk.body = file:read("*a")
"""


def run(quick: bool) -> list[dict[str, Any]]:
    """The rows of group ``serving``; with a reason to skip where something is missing."""
    if shutil.which("wrk") is None:
        return [_row("score over HTTP", "ftrl-engine", "requests/s") | {"skipped": "there is no wrk"}]
    with tempfile.TemporaryDirectory(prefix="ftrl-serving-") as name, ExitStack() as servers:
        folder = Path(name)
        scripts = {count: _script(folder, count) for count in CANDIDATES}
        write_events(folder / "events.jsonl", EVENTS)
        _learn(folder)
        urls, skipped = {}, []
        for contender in _CONTENDERS:
            needed = _NEEDS.get(contender)
            if needed is not None and importlib.util.find_spec(needed) is None:
                row = _row("score over HTTP", contender, "requests/s")
                skipped.append(row | {"skipped": f"{needed} is not installed"})
            else:
                urls[contender] = servers.enter_context(_server(contender, folder))
        return _race(urls, scripts, 1 if quick else RUNS, QUICK_SECONDS if quick else SECONDS) + skipped


def _race(urls: dict[str, str], scripts: dict[int, Path], runs: int, seconds: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for count, script in scripts.items():
        shots: dict[str, list[tuple[float, float]]] = {contender: [] for contender in urls}
        for _ in range(runs):
            for contender, url in urls.items():
                # The constant reply costs the same whatever it is asked, but reading it does not.
                shots[contender].append(_shoot(url, script, seconds))
        for contender, pairs in shots.items():
            for unit, values in zip(("requests/s", "ms p99"), zip(*pairs, strict=True), strict=True):
                found.append(
                    _row(f"{count} candidate{'s' * (count > 1)}, {unit.split()[-1]}", contender, unit)
                    | {
                        "median": round(statistics.median(values), 3),
                        "min": round(min(values), 3),
                        "max": round(max(values), 3),
                        "runs": len(values),
                    }
                )
    return found


def _row(name: str, contender: str, unit: str) -> dict[str, Any]:
    return {"group": "serving", "name": name, "contender": contender, "unit": unit}


def _shoot(url: str, script: Path, seconds: int) -> tuple[float, float]:
    """(requests/s, p99 in milliseconds) of one wrk on the last core; every answer must be a 200."""
    words = [
        "wrk",
        "-t1",
        f"-c{CONNECTIONS}",
        f"-d{seconds}s",
        "--latency",
        "-s",
        str(script),
        f"{url}/score",
    ]
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=60 + seconds, preexec_fn=partial(_pin, -1)
    )
    text = done.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise AssertionError(f"wrk met errors:\n{text}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
    assert rate is not None, text
    assert late is not None, text
    return float(rate[1]), float(late[1]) * _UNITS[late[2]]


def _pin(place: int) -> None:
    cores = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {cores[place]})


@contextmanager
def _server(contender: str, folder: Path) -> Iterator[str]:
    """The address of a server on the first core."""
    words = [sys.executable, "-m", "bench.serving_apps", contender, str(folder / "events.jsonl")]
    if contender == "ftrl-engine":
        words = [sys.executable, "-m", "ftrl_engine", "serve", "--model", str(folder / "model")]
        words += ["--port", "0", "--json", "--quiet"]
    process = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, preexec_fn=partial(_pin, 0))
    try:
        assert process.stdout is not None
        yield json.loads(process.stdout.readline())["url"]
    finally:
        process.terminate()
        process.wait(60)


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


def _learn(folder: Path) -> None:
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


def _script(folder: Path, candidates: int) -> Path:
    """A script that has wrk send one request with so many candidates."""
    drawn = list(events(candidates, seed=2))
    names = [f"f{field}" for field in range(FIELDS)]
    request = {
        "context": {name: drawn[0][name] for name in names[:CONTEXT_FIELDS]},
        "candidates": [{name: event[name] for name in names[CONTEXT_FIELDS:]} for event in drawn],
    }
    body = folder / f"{candidates}.json"
    body.write_text(json.dumps(request, separators=(",", ":")))
    script = folder / f"{candidates}.lua"
    script.write_text(_LUA.format(path=body))
    return script
