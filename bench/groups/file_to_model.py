"""From a file to a model: whole processes that read, parse, hash and learn, with a warm cache.

Each contender reads its own format of the same rows. The headline divides the rows by the wall
time of the whole process, start and end of the interpreter included; the second figure leaves
out the start, by the contender's own clock.

From gzip, those beside ours only decompress, on one core, and do nothing with what comes out.
"""

from __future__ import annotations

from pathlib import Path

from bench.contenders.base import Job
from bench.result import Outcome, Result, results
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
    found += _both(bench, "from_gzip", "criteo tsv.gz", _job(bench, bench.inputs.criteo_gzip(bench.rows)))
    if not bench.quick:
        for form in ("jsonl", "libsvm", "vw"):
            schema = "criteo" if form == "jsonl" else form
            job = _job(bench, bench.inputs.criteo(form, bench.rows), schema)
            found += _both(bench, "learn_format", f"criteo {form}", job)
    return found


def _job(bench: Bench, path: Path, schema: str = "criteo") -> Job:
    where = {"file": str(path), "directory": str(bench.inputs.directory)}
    return {**where, "rows": bench.rows, "bits": BITS, "schema": schema}


def _both(bench: Bench, function: str, what: str, job: Job) -> list[Result]:
    lanes = bench.race(function, job)
    found = results(lanes, "file_to_model", f"{what}, whole process", "rows/s", _whole)
    return found + results(lanes, "file_to_model", f"{what}, without start-up", "rows/s", _inside)


def _whole(outcome: Outcome) -> float:
    return outcome.measures["rows"] / outcome.seconds


def _inside(outcome: Outcome) -> float:
    return outcome.measures["rows"] / outcome.measures["seconds"]
