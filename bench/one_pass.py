"""What it saves to try many settings in one pass: beside as many runs of their own.

    python -m bench.one_pass events.tsv.gz --schema criteo --settings 20

A run of its own reads, hashes and learns; one pass reads and hashes once and learns with all of them, on as
many threads. Both happen in one process that has compiled everything, so no run pays for its start.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
import time
from pathlib import Path

from bench import compare_command
from bench.comparison.method import Configuration
from bench.comparison.trial import Trial
from streams.progress import ProgressLine

RATES = (0.03, 0.06, 0.1, 0.2, 0.4)
PENALTIES = (0.3, 1.0, 3.0, 10.0)
_NAME = "ftrl_proximal"


def main() -> None:
    """Print one JSON line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    compare_command.add_arguments(parser)
    parser.add_argument("--settings", type=int, default=20, help="how many (20)")
    parser.add_argument("--runs", type=int, default=3, help="of each kind, in turns (3)")
    args = parser.parse_args()
    threads = args.threads or compare_command.cores()
    pairs = [(rate, penalty) for rate in RATES for penalty in PENALTIES][: args.settings]
    tried = [Configuration(_NAME, {"alpha": rate, "l1": penalty}, rate, penalty) for rate, penalty in pairs]
    together: list[float] = []
    apart: list[float] = []
    _learn(args, tried[:1], threads)
    for _ in range(args.runs):
        together.append(_learn(args, tried, threads))
        apart.append(sum(_learn(args, [each], threads) for each in tried))
    one, many = statistics.median(together), statistics.median(apart)
    result = {"settings": len(tried), "threads": threads, "one_pass_seconds": round(one, 3)}
    print(json.dumps(result | {"own_runs_seconds": round(many, 3), "ratio": round(one / many, 3)}))


def _learn(args: argparse.Namespace, tried: list[Configuration], threads: int) -> float:
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="ftrl-one-pass-") as name, ProgressLine(quiet=True) as progress:
        events = compare_command.read_events(args, Path(name), progress)
        list(Trial(events, {_NAME: _NAME}, threads=threads).run(tried))
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
