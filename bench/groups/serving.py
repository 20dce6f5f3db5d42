"""Scoring over HTTP."""

from __future__ import annotations

from bench.result import Result, results_of_module
from bench.speed import Bench

BASELINE = "constant"


def measure(bench: Bench) -> list[Result]:
    """What ``bench.serving_speed.run(quick)`` finds."""
    return results_of_module("bench.serving_speed", "serving", "score over HTTP", bench.quick)
