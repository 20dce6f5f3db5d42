"""Scoring in batches: hashed rows alone, and from a file to a file of probabilities."""

from __future__ import annotations

from pathlib import Path

from bench.hashed_rows import FEATURES
from bench.result import Outcome, Result, results
from bench.speed import Bench

BASELINE = "vw"
BITS = 22


def measure(bench: Bench) -> list[Result]:
    """rows/s with a model that has learned the same rows."""
    lanes = bench.race("score_rows", {"hashed": str(bench.inputs.hashed(bench.rows, BITS)), "bits": BITS})
    found = results(lanes, "score", f"{FEATURES} features, 2^{BITS} slots", "rows/s", "rows_per_second")
    model = Path(bench.inputs.directory) / "scored"
    job = bench.file_job(bench.rows, BITS) | {"model": str(model)}
    bench.race("learn_file", job, runs=1, only=("ftrl-engine", "vw"))
    lanes = bench.race("score_file", job)
    return found + results(lanes, "score", "criteo, whole process", "rows/s", _whole)


def _whole(outcome: Outcome) -> float:
    return outcome.measures["rows"] / outcome.seconds
