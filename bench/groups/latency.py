"""One event at a time from Python: microseconds of a call, the middle one and the 99th of 100.

"event" starts from what a program holds (a mapping of fields; for Vowpal Wabbit its line of
text; for River a dict that is one-hot already), "row" from a row that is hashed already.
"""

from __future__ import annotations

from bench.result import Result, results
from bench.speed import Bench

BASELINE = "vw"
BITS = 22
_EVENTS, _QUICK_EVENTS = 5000, 1000


def measure(bench: Bench) -> list[Result]:
    """p50 and p99 of learning and of scoring."""
    events = min(bench.rows, _QUICK_EVENTS if bench.quick else _EVENTS)
    job = bench.file_job(bench.rows, BITS) | {"events": events}
    found: list[Result] = []
    for verb in ("learn", "score"):
        lanes = bench.race(f"{verb}_one", job)
        for what in ("event", "row"):
            for share in ("p50", "p99"):
                found += results(lanes, "latency", f"{verb} one {what}, {share}", "us", f"{what}_{share}")
    return found
