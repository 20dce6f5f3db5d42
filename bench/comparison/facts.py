"""Facts about a comparison: the events, the settings, the machine, and the command that does it again."""

from __future__ import annotations

import argparse
import math
import shlex
from pathlib import Path
from typing import Any

import numpy as np

from bench import machine
from bench.comparison.contest import Contest
from bench.comparison.defaults import BITS, BUDGET, QUICK_BUDGET
from bench.comparison.events import Events
from bench.comparison.judge import Judge


def data_facts(args: argparse.Namespace, events: Events) -> dict[str, Any]:
    """The events and how they were hashed."""
    rate = events.label_mean
    entropy = -rate * math.log(rate) - (1 - rate) * math.log1p(-rate) if 0 < rate < 1 else None
    return {
        "source": [Path(name).name if ":" not in name else name for name in args.source],
        "schema": args.schema or "auto",
        "rows": len(events),
        "rejected": events.rejected,
        "label_mean": rate,
        "features": events.slots,
        "features_seen_once": int((np.bincount(events.batch.slots) == 1).sum()),
        "features_per_row": round(len(events.batch.slots) / len(events), 2),
        "bits": events.bits,
        "digest": events.digest,
        "shuffles": args.shuffles,
        "constant_log_loss": entropy,
    }


def about(args: argparse.Namespace, contest: Contest, judge: Judge) -> dict[str, Any]:
    """What is needed to do it again."""
    return {
        "command": command(args),
        "budget": args.budget,
        "tolerance": judge.tolerance,
        "replicates": judge.replicates,
        "blocks": contest.trial().block_count,
        "seed": args.seed,
        "machine": machine.facts(),
    }


def command(args: argparse.Namespace) -> str:
    """The command line that gives these results again; secrets are in files, never in it."""
    words = ["ftrl", "compare", *args.source]
    names = ("schema", "format", "kafka", "only", "outside_rows", "limit", "tolerance", "report")
    for name in names:
        value = getattr(args, name)
        if value is not None and not (args.quick and name == "outside_rows"):
            words += [f"--{name.replace('_', '-')}", str(value)]
    words += ["--quick"] if args.quick else []
    words += ["--no-programs"] if args.no_programs else []
    for name, default in (
        ("budget", QUICK_BUDGET if args.quick else BUDGET),
        ("shuffles", 0),
        ("bits", BITS),
        ("seed", 0),
    ):
        if getattr(args, name) != default:
            words += [f"--{name}", str(getattr(args, name))]
    return shlex.join(words)
