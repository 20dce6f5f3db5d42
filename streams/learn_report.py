"""What `ftrl learn` says: the live line, the warnings and the summary, for people and as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ftrl_engine.plan import cross_name
from streams.progress import quantity

if TYPE_CHECKING:
    from ftrl_engine.schema import Schema
    from streams.progress import ProgressLine
    from streams.trainer import Trainer


def warnings_of(schema: Schema, unmet: set[str], rows: int) -> list[str]:
    """What the schema promises and the events of this run did not hold."""
    never = [(cross, [name for name in cross if name in unmet]) for cross in schema.crosses]
    return [
        f"cross {cross_name(cross)} had no value in any event: {' and '.join(map(repr, names))} occurred in "
        f"none of {rows:,}; check the name in the schema"
        for cross, names in never
        if names and rows
    ]


def damage_warnings(damage: Mapping[str, str], done: str) -> list[str]:
    """What files that were cut or damaged have cost; ``done`` is what happened to their events."""
    return [
        f"{partition}: {reason}; the whole events before that are {done}, mend the file to have the rest"
        for partition, reason in damage.items()
    ]


def report(trainer: Trainer, progress: ProgressLine) -> None:
    """Show how far learning is and how well it does."""
    metrics = trainer.run_metrics
    seconds = max(trainer.options.clock() - trainer.started, 1e-9)
    fraction = trainer.source.fraction() if trainer.source else None
    if not trainer.rows and not trainer.rejected:
        return  # nothing has come yet, or the first kernels are being compiled
    refused = f"  refused {trainer.rejected:,}" if trainer.rejected else ""
    # With the bar it fits on a terminal of 80 columns.
    progress.show(
        f"{trainer.rows:,} rows  {trainer.rows / seconds:,.0f}/s  "
        f"loss {quantity(metrics.log_loss)}  calib. {quantity(metrics.calibration, 3)}  "
        f"weights {trainer.nonzero_weights:,}{refused}{_live(trainer)}",
        fraction,
    )


def _live(trainer: Trainer) -> str:
    """How far learning is behind a live source."""
    status = trainer.source.status() if trainer.source else {}
    text = ""
    if "lag" in status:
        text += f"  lag {status['lag']:,}"
    if "lag_bytes" in status:
        text += f"  behind {status['lag_bytes']:,} bytes"
    if status.get("lost"):
        text += f"  lost {status['lost']:,}"
    if "last_event_age" in status:
        text += f"  last event {status['last_event_age']:.1f} s ago"
    return text


def summary(trainer: Trainer, seconds: float) -> dict[str, Any]:
    """The JSON of the contract, and the history of the model as ``total``."""
    settings = trainer.model.settings
    run = trainer.run_metrics.summary()
    return run | {
        "rows": trainer.rows,
        "rejected": trainer.rejected,
        "nonzero_weights": trainer.nonzero_weights,
        "slots_touched": trainer.slots_touched(),
        "seconds": round(seconds, 6),
        "rows_per_second": round(trainer.rows / seconds, 1) if seconds > 0 else None,
        "positions": dict(sorted(trainer.positions.items())),
        "source": dict(trainer.source.status()) if trainer.source else {},
        "model": str(trainer.model.path),
        "learner": {"name": settings.learner, "bits": settings.bits, **settings.parameters},
        "total": trainer.metrics.summary()
        | {"rows": trainer.totals.rows, "rejected": trainer.totals.rejected},
    }


def table(result: dict[str, Any]) -> str:
    """The summary for people."""
    if not result["rows"] and not result["rejected"]:
        return f"nothing new to learn; the model has learned {result['total']['rows']:,} events"
    names = ("rows", "rejected", "log_loss", "normalized_entropy", "auc", "calibration", "label_mean")
    lines = ["of this run, each event predicted before it was learned from:"]
    lines += [f"{name.replace('_', ' '):<20}{quantity(result[name]):>14}" for name in names]
    lines.append(f"{'non-zero weights':<20}{quantity(result['nonzero_weights']):>14}")
    lines.append(f"{'rows/s':<20}{quantity(int(result['rows_per_second'] or 0)):>14}")
    if result["source"].get("lost"):
        lines.append(f"{'lost events':<20}{quantity(result['source']['lost']):>14}")
    if result["total"]["rows"] > result["rows"]:
        lines.append(f"{'rows of all runs':<20}{quantity(result['total']['rows']):>14}")
    if result["rejected"]:
        lines.append(f"refused events: {result['model']}/rejected.jsonl")
    lines.append(f"model: {result['model']}   (ftrl inspect --model {result['model']})")
    return "\n".join(lines)
