"""Learning alone: rows that are hashed already, 39 features each.

All contenders with the same update must reach the same log loss, or they are not compared.
"""

from __future__ import annotations

from bench.hashed_rows import FEATURES
from bench.result import Result, require_equal, results
from bench.speed import Bench

BASELINE = "plain-loop"
_BITS, _QUICK_BITS = (22, 24), (22,)
# Sums in another order differ in the last digits of a margin.
_TOLERANCE = 1e-9


def measure(bench: Bench) -> list[Result]:
    """rows/s of one pass over all rows, from zeros."""
    found: list[Result] = []
    for bits in _QUICK_BITS if bench.quick else _BITS:
        lanes = bench.race("learn_rows", {"hashed": str(bench.inputs.hashed(bench.rows, bits)), "bits": bits})
        require_equal(lanes, "log_loss", BASELINE, _TOLERANCE)
        name = f"learn {FEATURES} features, 2^{bits} slots"
        found += results(lanes, "kernel", name, "rows/s", "rows_per_second")
    return found
