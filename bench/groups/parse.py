"""Parsing and hashing: from bytes in memory to slots, lines found, on one core.

"criteo" are rows of 40 fields (as JSON: of up to 40 keys), "clicks" those of the simulated stream.
"""

from __future__ import annotations

from pathlib import Path

from bench.result import Result, results
from bench.speed import Bench

BASELINE = "orjson"
BITS = 22


def measure(bench: Bench) -> list[Result]:
    """rows/s for each format."""
    inputs, rows = bench.inputs, bench.parse_rows
    cases: list[tuple[str, Path, str]] = [
        ("criteo tsv", inputs.criteo("tsv", rows), "criteo"),
        ("criteo jsonl", inputs.criteo("jsonl", rows), "criteo"),
        ("clicks csv", inputs.clicks("csv", rows), "auto"),
        ("clicks jsonl", inputs.clicks("jsonl", rows), "auto"),
    ]
    if not bench.quick:
        cases += [(f"criteo {form}", inputs.criteo(form, rows), form) for form in ("libsvm", "vw")]
    found: list[Result] = []
    for name, path, schema in cases:
        job = {"file": str(path), "rows": rows, "schema": schema, "bits": BITS}
        lanes = bench.race(f"parse_{name.split()[1]}", job)
        found += results(lanes, "parse", name, "rows/s", "rows_per_second")
    return found
