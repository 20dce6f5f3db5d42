"""Scoring over HTTP: one server process on one core, wrk on the other, 30 fields an event.

Contenders take turns on the same requests. What holds for all of them, the cost of uvicorn and of
the protocol, is what the application with a constant reply shows. A p99 sees the moments in which a
virtual machine is not given its cores, so the share of time that was stolen stands beside it.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import statistics
import subprocess
import tempfile
import time
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

from bench.machine import stolen_seconds
from bench.serving_case import CONNECTIONS, EVENTS, learn_model, pin, request_body, server_of, write_events

RUNS, SECONDS, QUICK_SECONDS = 3, 5, 2
CANDIDATES = (1, 100, 1000)
_CONTENDERS = ("ftrl-engine", "constant", "vw", "sklearn")
_NEEDS = {"vw": "pylibvw", "sklearn": "sklearn"}
_MEASURES = ("requests/s", "ms p99", "% stolen")
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
        learn_model(folder)
        urls, skipped = {}, []
        for contender in _CONTENDERS:
            needed = _NEEDS.get(contender)
            if needed is not None and importlib.util.find_spec(needed) is None:
                row = _row("score over HTTP", contender, "requests/s")
                skipped.append(row | {"skipped": f"{needed} is not installed"})
            else:
                urls[contender], _ = servers.enter_context(server_of(contender, folder))
        return _race(urls, scripts, 1 if quick else RUNS, QUICK_SECONDS if quick else SECONDS) + skipped


def _race(urls: dict[str, str], scripts: dict[int, Path], runs: int, seconds: int) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for count, script in scripts.items():
        shots: dict[str, list[tuple[float, ...]]] = {contender: [] for contender in urls}
        for _ in range(runs):
            for contender, url in urls.items():
                # The constant reply costs the same whatever it is asked, but reading it does not.
                shots[contender].append(_shoot(url, script, seconds))
        for contender, pairs in shots.items():
            for unit, values in zip(_MEASURES, zip(*pairs, strict=True), strict=False):
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


def _shoot(url: str, script: Path, seconds: int) -> tuple[float, ...]:
    """What _MEASURES says of one wrk on the last core; every answer must be a 200.

    Without the last one where the system does not tell what is stolen.
    """
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
    stolen, began = stolen_seconds(), time.perf_counter()
    done = subprocess.run(
        words, capture_output=True, text=True, check=True, timeout=60 + seconds, preexec_fn=partial(pin, -1)
    )
    stolen_now, elapsed = stolen_seconds(), time.perf_counter() - began
    text = done.stdout
    if "Non-2xx" in text or "Socket errors" in text:
        raise AssertionError(f"wrk met errors:\n{text}")
    rate = re.search(r"Requests/sec:\s+([\d.]+)", text)
    late = re.search(r"99%\s+([\d.]+)(us|ms|s|m)", text)
    assert rate is not None, text
    assert late is not None, text
    found = (float(rate[1]), float(late[1]) * _UNITS[late[2]])
    if stolen is None or stolen_now is None:
        return found
    return (*found, 100 * (stolen_now - stolen) / (elapsed * (os.cpu_count() or 1)))


def _script(folder: Path, candidates: int) -> Path:
    """A script that has wrk send one request with so many candidates."""
    body = folder / f"{candidates}.json"
    body.write_bytes(request_body(candidates))
    script = folder / f"{candidates}.lua"
    script.write_text(_LUA.format(path=body))
    return script
