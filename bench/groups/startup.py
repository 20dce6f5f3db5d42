"""Starting: seconds of whole commands whose kernels are compiled already.

The floor is the interpreter that starts and ends.
"""

from __future__ import annotations

import sys

from bench.contenders.base import OURS, missing, new_path
from bench.result import Outcome, Result, results
from bench.speed import Bench, Command, worker_command

BASELINE = "floor"
BITS = 22
_ROWS = 10


def measure(bench: Bench) -> list[Result]:
    """Help, ten rows into a new model, ten rows into a model that has learned before."""
    ftrl = [sys.executable, "-m", "ftrl_engine"]
    floor: dict[str, Command] = {"floor": lambda: [sys.executable, "-c", "pass"]}
    job = bench.file_job(_ROWS, BITS)
    new = [*ftrl, "learn", job["criteo"], "--schema", "criteo", "--json", "--quiet", "--model"]
    model = new_path(job, "model")
    again = [*new, model]

    helps = bench.race_commands({OURS: lambda: [*ftrl, "--help"], **floor}, "ftrl --help")
    learns: dict[str, Command] = {OURS: lambda: [*new, new_path(job, "model")], **floor}
    if missing("vw") is None:
        learns["vw"] = lambda: worker_command("vw", "learn_file", job)
    bench.race_commands({OURS: learns[OURS]}, "ftrl learn, ten rows, warm-up", runs=1)
    tens = bench.race_commands(learns, "ftrl learn, ten rows")
    bench.race_commands({OURS: lambda: again}, "ftrl learn, first", runs=1)
    resumed = bench.race_commands({OURS: lambda: again, **floor}, "ftrl learn, again")
    return [
        *results(helps, "startup", "ftrl --help", "s", _seconds),
        *results(tens, "startup", "ftrl learn, ten rows", "s", _seconds),
        *results(resumed, "startup", "ftrl learn, nothing new", "s", _seconds),
    ]


def _seconds(outcome: Outcome) -> float:
    return outcome.seconds
