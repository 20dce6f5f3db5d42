"""The limits of this machine: changing random cells, and scanning bytes."""

from __future__ import annotations

from bench.result import Result, results
from bench.speed import Bench

BASELINE = None
_BITS, _QUICK_BITS = (20, 22, 24, 26), (22,)


def measure(bench: Bench) -> list[Result]:
    """ns a cell for several table sizes, GB/s of text."""
    found: list[Result] = []
    for bits in _QUICK_BITS if bench.quick else _BITS:
        lanes = bench.race(
            "limit_cells", {"hashed": str(bench.inputs.hashed(bench.rows, bits)), "bits": bits}
        )
        found += results(lanes, "limit", f"change 16-byte cells, 2^{bits} slots", "ns/cell", "ns_per_cell")
    lanes = bench.race("limit_scan", {"text": str(bench.inputs.criteo("tsv", bench.parse_rows))})
    return found + results(lanes, "limit", "scan text for newlines", "GB/s", "gb_per_second")
