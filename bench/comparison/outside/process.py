"""One program in a process of its own: ``python -m bench.comparison.outside.process NAME DIRECTORY N_SLOTS``.

Reads one JSON line a configuration, ``{"settings": {...}, "order": 0}``, and answers each with one:
``{"margins": FILE, "nonzeros": ..., "seconds": ..., "curve": [...], "peak_mb": ...}``,
``{"failed": reason}`` or ``{"skipped": reason}``. ``DIRECTORY/order-K`` holds the rows.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from bench.comparison.outside.base import Rows, Runner, Skipped, find_program
from bench.worker import peak_mb


def main() -> int:
    """Answer every line of stdin."""
    name, directory, n_slots = sys.argv[1:]
    # Programs may print what they like; the answers have the real stdout to themselves.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    runners: dict[int, Runner] = {}
    for number, line in enumerate(sys.stdin):
        try:
            reply = _answer(name, Path(directory), int(n_slots), number, json.loads(line), runners)
        except Skipped as reason:
            reply = {"skipped": str(reason)}
        except ImportError as error:
            reply = {"skipped": f"{name} cannot be imported: {error}"}
        answers.write(json.dumps(reply | {"peak_mb": peak_mb()}) + "\n")
        answers.flush()
    return 0


def _answer(
    name: str, directory: Path, n_slots: int, number: int, job: dict[str, Any], runners: dict[int, Runner]
) -> dict[str, Any]:
    order = int(job["order"])
    rows_of_order = directory / f"order-{order}"
    if order not in runners:
        own = directory / f"own-{order}"
        own.mkdir()
        runners[order] = find_program(name).open_rows(Rows.load(rows_of_order, n_slots), own)
    started = time.process_time()
    try:
        run = runners[order](job["settings"])
    except (ArithmeticError, ValueError, RuntimeError) as error:
        return {"failed": f"{type(error).__name__}: {error}"[:200]}
    seconds = time.process_time() - started
    path = directory / f"margins-{number}.npy"
    np.save(path, run.margins)
    return {"margins": str(path), "nonzeros": run.nonzeros, "seconds": seconds, "curve": run.curve}


if __name__ == "__main__":
    sys.exit(main())
