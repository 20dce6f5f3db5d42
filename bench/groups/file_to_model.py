"""From a file to a model: whole processes that read, parse, hash and learn, with a warm cache.

Each contender reads its own format of the same rows. The headline divides the rows by the wall
time of the whole process, start and end of the interpreter included; the second figure leaves
out the start, by the contender's own clock.
"""

from __future__ import annotations

from bench.result import Outcome, Result, results
from bench.speed import Bench

BASELINE = "vw"
BITS = 22
_WARM_ROWS = 1000


def measure(bench: Bench) -> list[Result]:
    """rows/s of all that take part."""
    # One run that does not count loads programs and kernels into the caches.
    bench.race("learn_file", bench.file_job(_WARM_ROWS, BITS), runs=1)
    lanes = bench.race("learn_file", bench.file_job(bench.rows, BITS))
    found = results(lanes, "file_to_model", "criteo, whole process", "rows/s", _whole)
    return found + results(lanes, "file_to_model", "criteo, without start-up", "rows/s", _inside)


def _whole(outcome: Outcome) -> float:
    return outcome.measures["rows"] / outcome.seconds


def _inside(outcome: Outcome) -> float:
    return outcome.measures["rows"] / outcome.measures["seconds"]
