"""orjson: decodes JSON lines into objects and does nothing with them, so it only parses."""

from __future__ import annotations

import importlib
import time
from pathlib import Path

from bench.contenders.base import Job, Measures

NEEDS = "orjson"


def parse_jsonl(job: Job) -> Measures:
    """Every line of a file in memory to a dict."""
    loads = importlib.import_module("orjson").loads
    lines = Path(job["file"]).read_bytes().splitlines()
    started = time.perf_counter()
    for line in lines:
        loads(line)
    return {"rows": len(lines), "rows_per_second": len(lines) / (time.perf_counter() - started)}
