"""From a file to a model: whole processes that read, parse, hash and learn, with a warm cache.

Each contender reads its own format of the same rows. The headline divides the rows by the wall
time of the whole process, start and end of the interpreter included; the second figure leaves
out the start, by the contender's own clock.

From gzip, isal and zlib only decompress, on one core, and do nothing with what comes out. The C reference
splits and learns in a thread beside isal, without hashing: each of two cores has its own work.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from bench.contenders.base import Job
from bench.result import Lane, Outcome, Result, results
from bench.speed import Bench

BASELINE = "vw or isal"
BITS = 22
# So many that the histogram of scores is halved, whose kernel a short run does not need.
_WARM_ROWS = 60_000


def measure(bench: Bench) -> list[Result]:
    """rows/s of all that take part."""
    # One run that does not count loads programs and kernels into the caches.
    bench.race("learn_file", bench.file_job(_WARM_ROWS, BITS), runs=1)
    found = _both(bench, "learn_file", "criteo", bench.file_job(bench.rows, BITS))
    found += _from_gzip(bench)
    if not bench.quick:
        for form in ("jsonl", "libsvm", "vw"):
            schema = "criteo" if form == "jsonl" else form
            job = _job(bench, bench.inputs.criteo(form, bench.rows), schema)
            found += _both(bench, "learn_format", f"criteo {form}", job)
    return found


def _job(bench: Bench, path: Path, schema: str = "criteo") -> Job:
    where = {"file": str(path), "directory": str(bench.inputs.directory)}
    return {**where, "rows": bench.rows, "bits": BITS, "schema": schema}


def _from_gzip(bench: Bench) -> list[Result]:
    """Beside decompressing alone; whole processes but for the C reference, which loads hashed rows first."""
    hashed = str(bench.inputs.hashed(bench.rows, BITS))
    lanes = bench.race("from_gzip", {**_job(bench, bench.inputs.criteo_gzip(bench.rows)), "hashed": hashed})
    whole = [lane for lane in lanes if lane.contender != "c-reference"]
    return _of(whole, "criteo tsv.gz", _WHOLE) + _of(lanes, "criteo tsv.gz", _INSIDE)


def _both(bench: Bench, function: str, what: str, job: Job) -> list[Result]:
    lanes = bench.race(function, job)
    return _of(lanes, what, _WHOLE) + _of(lanes, what, _INSIDE)


def _of(lanes: list[Lane], what: str, part: tuple[str, Callable[[Outcome], float]]) -> list[Result]:
    name, figure = part
    return results(lanes, "file_to_model", f"{what}, {name}", "rows/s", figure)


def _whole(outcome: Outcome) -> float:
    return outcome.measures["rows"] / outcome.seconds


def _inside(outcome: Outcome) -> float:
    return outcome.measures["rows"] / outcome.measures["seconds"]


_WHOLE, _INSIDE = ("whole process", _whole), ("without start-up", _inside)
