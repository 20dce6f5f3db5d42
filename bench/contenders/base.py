"""What takes part in a measurement: one file in this folder each.

Adding a contender is one file; nothing else is edited. The file's name, with dashes for
underscores, is the contender's name, and it takes part wherever it defines the function of a
measurement: ``function(job) -> Measures``. The functions, and what their jobs hold beside bits:

- ``limit_cells``, ``learn_rows``, ``score_rows``: hashed (a directory of
  :class:`bench.hashed_rows.HashedRows`); ``limit_scan``: text (a file)
- ``parse_tsv`` and so on, one for each format: file, rows (how many), schema
- ``learn_file``, ``score_file``: criteo and vw (files of the same rows), rows, directory (for new
  files), model (a path to use); ``learn_file_started``: the same and short (a file of a few rows)
- ``learn_format``, ``from_gzip``: file, schema, rows, directory; from a file of one form, compressed or not;
  hashed as well for ``from_gzip``
- ``learn_one``, ``score_one``: criteo, vw, events (how many)

Each runs in a fresh process, does its own warm-up before it starts its clock, and returns
numbers. ``NEEDS`` names the module without which it is skipped; :class:`Skipped` is raised
for any other reason. Heavy imports belong inside the functions.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil
import tempfile
import time
from collections.abc import Callable, Mapping
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any

Job = Mapping[str, Any]
Measures = dict[str, float]

OURS = "ftrl-engine"
# The settings all FTRL contenders learn with: those of `ftrl learn`.
ALPHA, BETA, L1, L2 = 0.1, 1.0, 1.0, 1.0
_READ_BYTES = 1 << 20
# The columns of the Criteo form.
CRITEO_FIELDS = ("label", *(f"I{i}" for i in range(1, 14)), *(f"C{i}" for i in range(1, 27)))


class Skipped(Exception):
    """A contender cannot take part; the text says why."""


def contender_names() -> list[str]:
    """The contenders there are: one a file in this folder."""
    import bench.contenders as package

    return sorted(
        m.name.replace("_", "-") for m in pkgutil.iter_modules(package.__path__) if m.name != "base"
    )


def find_contender(name: str) -> ModuleType:
    """The module of a contender."""
    return importlib.import_module(f"bench.contenders.{name.replace('-', '_')}")


def contenders_for(function: str) -> list[str]:
    """The contenders that define ``function``, our own first."""
    names = [name for name in contender_names() if hasattr(find_contender(name), function)]
    return sorted(names, key=lambda name: (name != OURS, name))


def missing(name: str) -> str | None:
    """Why a contender cannot run here, as far as that is known without running it."""
    needs = getattr(find_contender(name), "NEEDS", None)
    if needs is None or importlib.util.find_spec(needs) is not None:
        return None
    return f"{needs} is not installed; pip install 'ftrl-engine[bench]'"


def new_path(job: Job, name: str) -> str:
    """A path that does not exist yet, in the directory of the job."""
    return str(Path(tempfile.mkdtemp(dir=job["directory"])) / name)


def read_through(job: Job, open_file: Callable[[str], Any]) -> Measures:
    """Read a file to its end and do nothing with it."""
    started = time.perf_counter()
    with open_file(job["file"]) as file:
        while file.read(_READ_BYTES):
            pass
    return {"rows": job["rows"], "seconds": time.perf_counter() - started}


def criteo_events(job: Job) -> list[dict[str, str | int]]:
    """The first ``job["events"]`` rows of the Criteo file as mappings without missing values."""
    events = []
    with open(job["criteo"], encoding="ascii") as lines:
        for line in islice(lines, job["events"]):
            values = line.rstrip("\n").split("\t")
            events.append(
                {
                    name: int(value) if at < 14 else value
                    for at, (name, value) in enumerate(zip(CRITEO_FIELDS, values, strict=True))
                    if value
                }
            )
    return events


def call_times(name: str, function: Callable[[int], object], count: int) -> Measures:
    """Microseconds of ``function(i)`` for every i below ``count``, after a tenth of the calls as warm-up."""
    for i in range(max(1, count // 10)):
        function(i)
    times = []
    clock = time.perf_counter_ns
    for i in range(count):
        started = clock()
        function(i)
        times.append(clock() - started)
    times.sort()
    return {
        f"{name}_p50": times[count // 2] / 1e3,
        f"{name}_p99": times[min(count - 1, count * 99 // 100)] / 1e3,
    }
