"""Peak memory of learning from files of two sizes: what grows with the file, and what does not."""

from __future__ import annotations

from bench.contenders.base import OURS
from bench.result import Outcome, Result, results
from bench.speed import Bench

BASELINE = "vw"
BITS = 22
_CELL_BYTES = 16


def measure(bench: Bench) -> list[Result]:
    """MB (10^6 bytes) of resident memory; for ours also without the state table."""
    found: list[Result] = []
    for rows in (max(1, bench.rows // 4), bench.rows):
        lanes = bench.race("learn_file", bench.file_job(rows, BITS))
        found += results(lanes, "memory", f"criteo, {rows:,} rows", "MB", _peak)
        ours = [lane for lane in lanes if lane.contender == OURS]
        found += results(ours, "memory", f"criteo, {rows:,} rows, without the state", "MB", _without_state)
    return found


def _peak(outcome: Outcome) -> float:
    return outcome.peak_mb


def _without_state(outcome: Outcome) -> float:
    return outcome.peak_mb - (_CELL_BYTES << BITS) / 1e6
