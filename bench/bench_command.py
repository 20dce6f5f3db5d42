"""Measure speed on this machine: ours, installed rivals and the machine's own limit, on the same rows.

Every run is a fresh process; contenders take turns, and the figures are medians with the least
and the largest value. Without a group the quick ones run: limit, kernel, parse, file to model
and startup. A rival that is not installed is reported as skipped.

examples:
  ftrl bench --quick
  ftrl bench --kernel --file-to-model --rows 4000000
  ftrl bench --latency --memory --json
  ftrl bench --growth --plot growth.html
"""

from __future__ import annotations

import argparse
import json
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from bench.result import Result
    from bench.speed import Bench

# Group -> what it measures; the order of the report.
GROUPS = {
    "limit": "this machine: random cells, bytes scanned",
    "kernel": "learning alone, on hashed rows",
    "parse": "bytes to slots, for each format",
    "file_to_model": "from a file to a model, whole processes",
    "score": "scoring in batches",
    "latency": "one event at a time from Python",
    "startup": "ftrl --help, ftrl learn on ten rows",
    "memory": "peak memory of learning from two file sizes",
    "growth": "growth with features a row, slots, rows of a file",
    "kafka": "learning from Kafka (starts a broker)",
    "serving": "scoring over HTTP",
}
DEFAULT_GROUPS = ("limit", "kernel", "parse", "file_to_model", "startup")
ROWS, QUICK_ROWS = 1_000_000, 200_000
MAX_ROWS = 100_000_000
RUNS, MAX_RUNS = 3, 1000


def add_arguments(parser: argparse.ArgumentParser) -> None:
    groups = parser.add_argument_group("what to measure")
    for name, meaning in GROUPS.items():
        groups.add_argument(f"--{name.replace('_', '-')}", action="store_true", help=meaning)
    add = parser.add_argument
    add("--quick", action="store_true", help=f"fewer rows ({QUICK_ROWS:,}) and fewer cases")
    add("--rows", type=int, metavar="N", help=f"rows of the inputs (default {ROWS:,})")
    add("--runs", type=int, default=RUNS, metavar="N", help=f"runs of each, at least {RUNS} ({RUNS})")
    add("--seed", type=int, default=0, metavar="N", help="the same seed simulates the same rows (0)")
    add("--plot", metavar="FILE.html", help="draw what --growth finds, as a page that needs nothing else")
    add("--json", action="store_true", help="print one JSON object on stdout, nothing else")
    add("--quiet", action="store_true", help="no progress on stderr")


def run(args: argparse.Namespace) -> int:
    import tempfile
    from pathlib import Path

    from bench import machine
    from bench.inputs import Inputs
    from bench.speed import Bench
    from ftrl_engine import jit
    from streams.progress import ProgressLine

    _check(args)
    rows = args.rows if args.rows is not None else QUICK_ROWS if args.quick else ROWS
    groups = [name for name in GROUPS if getattr(args, name)] or list(DEFAULT_GROUPS)
    facts = machine.facts()
    # A signal ends the run like Ctrl-C, so that gigabytes of inputs do not stay behind.
    signal.signal(signal.SIGTERM, _interrupt)
    with ProgressLine(args.quiet) as progress, tempfile.TemporaryDirectory(prefix="ftrl-bench-") as directory:
        if jit.cache_is_cold():
            progress.say(
                "the first runs compile (once for this version on this machine); that is not counted"
            )
        inputs = Inputs(Path(directory), args.seed, progress.say)
        bench = Bench(inputs, rows, args.runs, args.quick, progress.show, most_rows=args.rows)
        results = measure(groups, bench)
    if args.json:
        print(json.dumps({"machine": facts, "results": [result.to_dict() for result in results]}))
    else:
        _print(facts, results)
    if args.plot is not None:
        _plot(facts, results, Path(args.plot), args.quiet)
    return _complain(results)


def _check(args: argparse.Namespace) -> None:
    """ConfigError for what would be found out only after minutes of measuring."""
    from pathlib import Path

    from bench.groups.growth import LEAST_ROWS
    from ftrl_engine.errors import ConfigError

    if args.rows is not None and not 1 <= args.rows <= MAX_ROWS:
        raise ConfigError(f"--rows must be between 1 and {MAX_ROWS:,}, got {args.rows}")
    if args.growth and args.rows is not None and args.rows < LEAST_ROWS:
        raise ConfigError(
            f"--rows must be at least {LEAST_ROWS:,} with --growth, got {args.rows}; a curve over rows needs "
            "more than one size: leave --rows out or take more"
        )
    if not RUNS <= args.runs <= MAX_RUNS:
        raise ConfigError(f"--runs must be between {RUNS} and {MAX_RUNS}, got {args.runs}")
    if not 0 <= args.seed < 1 << 63:
        raise ConfigError(f"--seed must be between 0 and 2**63 - 1, got {args.seed}")
    if args.plot is None:
        return
    if not args.growth:
        raise ConfigError(
            f"--plot draws what --growth finds, got --plot {args.plot} without it; add --growth"
        )
    if not args.plot.endswith(".html"):
        raise ConfigError(f"--plot must end in .html, got {args.plot}; it writes a page of HTML")
    if not Path(args.plot).parent.is_dir():
        raise ConfigError(f"--plot must lie in a directory that exists, got {args.plot}; make the directory")


def _interrupt(number: int, frame: object) -> None:
    raise KeyboardInterrupt


def measure(groups: list[str], bench: Bench) -> list[Result]:
    """All results of the groups, in order."""
    import importlib

    results: list[Result] = []
    for group in groups:
        results += importlib.import_module(f"bench.groups.{group}").measure(bench)
    return results


def _print(facts: dict[str, object], results: list[Result]) -> None:
    from rich.console import Console

    from bench.table import print_results

    console = Console(highlight=False, markup=False)
    if not console.is_terminal:
        console.width = 120
    print_results(facts, results, console)


def _plot(facts: dict[str, object], results: list[Result], path: Path, quiet: bool) -> None:
    from bench.report.growth_page import write

    write(facts, results, path)
    if not quiet:
        print(f"plot: {path}", file=sys.stderr)


def _complain(results: list[Result]) -> int:
    """1 where a contender of the same update reached another result: the comparison is void."""
    wrong = [result for result in results if result.wrong]
    for result in wrong:
        print(f"ftrl bench: {result.name}: {result.contender}: {result.skipped}", file=sys.stderr)
    return 1 if wrong else 0
