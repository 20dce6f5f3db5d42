"""Show what a model is: settings, rows learned, positions, metrics, non-zeros, largest weights.

Weights are shown by the names of their features where the learner has written them down; a slot
with several names is shared by them, and their weight is one.

examples:
  ftrl inspect --model m
  ftrl inspect --model m --top 50
  ftrl inspect --model m --json
"""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from streams import flags

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

    from streams.model_directory import ModelDirectory
    from streams.names import Names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--model", required=True, metavar="DIR", help="the model directory")
    parser.add_argument(
        "--top", type=int, default=10, metavar="N", help="how many of the largest weights, of each sign (10)"
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

    import numpy as np

    from streams.model_directory import ModelDirectory
    from streams.newest import read_newest
    from streams.progress import ProgressLine

    progress = ProgressLine(quiet)
    directory = ModelDirectory.open(Path(model), progress.say)
    learner, metrics, totals = read_newest(directory)
    slots, weights = learner.weights()
    names = _names(directory, progress.say)

    def listed(sizes: NDArray[np.float64]) -> list[dict[str, Any]]:
        """The entries of the largest positive sizes."""
        order = (-sizes).argsort(kind="stable")[:top]
        return [
            {"slot": int(slots[i]), "weight": float(weights[i]), "names": list(names[int(slots[i])])}
            for i in order[sizes[order] > 0]
        ]

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
        "named_weights": int(np.isin(slots, names.slots).sum()),
        "largest_weights": listed(abs(weights)),
        "largest_positive": listed(weights),
        "largest_negative": listed(-weights),
        "checkpoints": [path.name for path in directory.checkpoints()],
        "snapshots": [path.name for path in snapshots],
        "snapshot_bytes": snapshots[0].stat().st_size if snapshots else None,
    }


def _names(model: ModelDirectory, warn: Callable[[str], None]) -> Names:
    """The names of the model's features; none where they cannot be read."""
    from ftrl_engine.errors import CorruptFileError
    from streams.names import Names

    settings = model.settings
    try:
        return Names.load(model.names_path, settings.schema, settings.bits)
    except FileNotFoundError:
        pass
    except CorruptFileError as error:
        warn(f"{error}; weights are shown by their slots")
    return Names.of({})


def _print(facts: dict[str, Any]) -> None:
    from rich.console import Console
    from rich.table import Table

    from streams.progress import quantity

    console = Console(highlight=False, markup=False)
    table = Table(title=f"model {facts['model']}", show_header=False, title_justify="left")
    learner = dict(facts["learner"])
    table.add_row("learner", f"{learner.pop('name')}  " + "  ".join(f"{k}={v}" for k, v in learner.items()))
    table.add_row("schema", facts["schema"]["name"])
    table.add_row("rows learned", f"{facts['rows']:,}   refused {facts['rejected']:,}")
    for name in ("log_loss", "normalized_entropy", "auc", "calibration", "label_mean"):
        table.add_row(name.replace("_", " "), quantity(facts["metrics"][name]))
    table.add_row("intercept", quantity(facts["intercept"]))
    named = f"   ({facts['named_weights']:,} of them have a name)" if facts["named_weights"] else ""
    table.add_row("non-zero weights", f"{facts['nonzero_weights']:,}{named}")
    if facts["snapshot_bytes"] is not None:
        table.add_row("snapshot", f"{facts['snapshots'][0]}   {facts['snapshot_bytes']:,} bytes")
    for partition, position in facts["positions"].items():
        table.add_row("position", f"{partition} @ {position:,}")
    console.print(table)
    for sign, where in (("positive", "above"), ("negative", "below")):
        entries = facts[f"largest_{sign}"]
        if entries:
            title = f"largest weights {where} 0"
            weights = Table("feature", "weight", title=title, title_justify="left")
            for entry in entries:
                weights.add_row(_feature(entry), f"{entry['weight']:+.4f}")
            console.print(weights)


def _feature(entry: dict[str, Any]) -> str:
    """The names of a slot, or its number; what a terminal would obey is spelled out."""
    text = "  |  ".join(entry["names"]) or f"slot {entry['slot']}"
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
