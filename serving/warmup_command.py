"""Compile ahead, for an image or a machine that shall start fast.

A few simulated events of every format are learned and scored, and a request is, in as many processes as
there are cores; what is compiled is kept in FTRL_CACHE_DIR (or ~/.cache/ftrl_engine) for this version and
this kind of processor.

examples:
  ftrl warmup
  ftrl warmup --formats tsv --learners ftrl_proximal
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Sequence

from streams import flags

FIRST_LEARNER = "ftrl_proximal"
SHARE_SECONDS = 900
MOST_JOBS = 64
# What compiling takes, roughly and relative to each other; tsv and csv are one kernel.
_COSTS = {"serve": 7, "tsv": 5, "csv": 5, "jsonl": 3, "vw": 2, "libsvm": 1}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--formats", metavar="NAME,...", help="formats to read (every one)")
    add("--learners", metavar="NAME,...", help=f"learners ({FIRST_LEARNER}; all: every one)")
    add("--jobs", type=int, metavar="N", help="processes at a time (the cores)")
    flags.add_unused_seed(parser)
    flags.add_output(parser)


def run(args: argparse.Namespace) -> int:
    import sys
    import tempfile
    import time
    from concurrent.futures import ThreadPoolExecutor, as_completed

    from ftrl_engine import jit
    from ftrl_engine.errors import ConfigError, ModelError
    from ftrl_engine.learners.base import learner_names
    from streams.codecs.base import format_names
    from streams.progress import ProgressLine

    formats = _chosen("--formats", args.formats, format_names())
    every = sorted(learner_names(), key=lambda name: name != FIRST_LEARNER)
    learners = (
        every if args.learners == "all" else _chosen("--learners", args.learners or FIRST_LEARNER, every)
    )
    jobs = (os.cpu_count() or 1) if args.jobs is None else args.jobs
    if not 1 <= jobs <= MOST_JOBS:
        raise ConfigError(f"--jobs must be between 1 and {MOST_JOBS}, got {jobs}")
    if jit.CACHE is None:
        raise ModelError("the cache cannot be written; set FTRL_CACHE_DIR to a directory that can be")
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="ftrl-warmup-") as folder, ProgressLine(args.quiet) as progress:
        progress.show("compiling", 0.0)
        shares = _shares(formats, learners, jobs)
        with ThreadPoolExecutor(len(shares)) as pool:
            running = [pool.submit(_compile, folder, share) for share in shares]
            for done, share in enumerate(as_completed(running)):
                share.result()
                progress.show("compiling", (done + 1) / len(running))
    seconds = time.monotonic() - started
    if args.json:
        print(json.dumps({"cache": str(jit.CACHE), "seconds": round(seconds, 3)}))
    elif not args.quiet:
        print(f"compiled in {seconds:.1f} s into {jit.CACHE}", file=sys.stderr)
    return 0


def _chosen(flag: str, given: str | None, known: Sequence[str]) -> Sequence[str]:
    from ftrl_engine.errors import ConfigError

    names = known if given is None else [name.strip() for name in given.split(",") if name.strip()]
    unknown = next((name for name in names if name not in known), None)
    if unknown is not None or not names:
        raise ConfigError(f"{flag}: unknown {unknown or given!r}; known are {', '.join(known)}")
    return names


def _shares(formats: Sequence[str], learners: Sequence[str], jobs: int) -> list[list[str]]:
    """Steps for each of at most ``jobs`` processes, the dearest first, so that they end together."""
    first, *others = learners
    columns = [kind for kind in formats if kind in ("tsv", "csv")]
    steps = [[f"{kind}:{first}" for kind in columns]] if columns else []
    steps += [[f"{kind}:{first}"] for kind in formats if kind not in columns]
    steps += [["serve"], *([f"{formats[0]}:{learner}"] for learner in others)]
    shares: list[list[str]] = [[] for _ in range(min(jobs, len(steps)))]
    loads = [0] * len(shares)
    for step in sorted(steps, key=_cost, reverse=True):
        least = loads.index(min(loads))
        shares[least] += step
        loads[least] += _cost(step)
    return shares


def _cost(step: Sequence[str]) -> int:
    return _COSTS.get(step[0].partition(":")[0], 1)


def _compile(folder: str, steps: Sequence[str]) -> None:
    import subprocess
    import sys

    from ftrl_engine.errors import ModelError

    words = [sys.executable, "-m", "serving.warmup", folder, *steps]
    done = subprocess.run(words, capture_output=True, text=True, timeout=SHARE_SECONDS)
    if done.returncode:
        raise ModelError(f"{' '.join(steps)} failed: {done.stderr.strip()[-500:]}")
