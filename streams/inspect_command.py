"""Show what a model is: settings, rows learned, positions, metrics, non-zeros, largest weights.

examples:
  ftrl inspect --model m
  ftrl inspect --model m --json
"""

from __future__ import annotations

import argparse
import json
from typing import Any

from streams import flags


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="the model directory")
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="how many of the largest weights (10)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="accepted by every command; nothing is drawn")
    flags.add_output(parser)


def run(args: argparse.Namespace) -> int:
    from ftrl_engine.errors import ConfigError

    if args.top < 0:
        raise ConfigError(f"--top must be at least 0, got {args.top}")
    facts = describe(args.model, args.top, args.quiet)
    if args.json:
        print(json.dumps(facts))
    else:
        _print(facts)
    return 0


def describe(model: str, top: int, quiet: bool) -> dict[str, Any]:
    """Plain data about the newest checkpoint and snapshot."""
    from pathlib import Path

    from streams.model_directory import ModelDirectory
    from streams.progress import ProgressLine
    from streams.trainer import read_newest

    progress = ProgressLine(quiet)
    directory = ModelDirectory.open(Path(model), progress.say)
    learner, metrics, totals = read_newest(directory)
    slots, weights = learner.weights()
    order = abs(weights).argsort(kind="stable")[::-1][:top]
    settings = directory.settings
    snapshots = directory.snapshots()
    return {
        "model": model,
        "learner": {"name": settings.learner, "bits": settings.bits, **settings.parameters},
        "schema": settings.schema.to_dict(),
        "passes": settings.passes,
        "format": settings.format,
        "rows": totals.rows,
        "rejected": totals.rejected,
        "positions": dict(totals.positions),
        "metrics": metrics.summary(),
        "intercept": learner.intercept,
        "nonzero_weights": len(slots),
        "largest_weights": [{"slot": int(slots[i]), "weight": float(weights[i])} for i in order],
        "checkpoints": [path.name for path in directory.checkpoints()],
        "snapshots": [path.name for path in snapshots],
        "snapshot_bytes": snapshots[0].stat().st_size if snapshots else None,
    }


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from streams.progress import quantity

    console = Console(highlight=False)
    table = Table(title=f"model {facts['model']}", show_header=False, title_justify="left")
    learner = dict(facts["learner"])
    table.add_row("learner", f"{learner.pop('name')}  " + "  ".join(f"{k}={v}" for k, v in learner.items()))
    table.add_row("schema", facts["schema"]["name"])
    table.add_row("rows learned", f"{facts['rows']:,}   refused {facts['rejected']:,}")
    for name in ("log_loss", "normalized_entropy", "auc", "calibration", "label_mean"):
        table.add_row(name.replace("_", " "), quantity(facts["metrics"][name]))
    table.add_row("intercept", quantity(facts["intercept"]))
    table.add_row("non-zero weights", f"{facts['nonzero_weights']:,}")
    if facts["snapshot_bytes"] is not None:
        table.add_row("snapshot", f"{facts['snapshots'][0]}   {facts['snapshot_bytes']:,} bytes")
    for partition, position in facts["positions"].items():
        table.add_row("position", f"{partition} @ {position:,}")
    console.print(table)
    if facts["largest_weights"]:
        weights = Table("slot", "weight", title="largest weights", title_justify="left")
        for entry in facts["largest_weights"]:
            weights.add_row(str(entry["slot"]), f"{entry['weight']:+.4f}")
        console.print(weights)
