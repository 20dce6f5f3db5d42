"""The summary on the terminal: one line a contender."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table

from bench.comparison.results import AT_LOSS


def print_summary(found: dict[str, Any], console: Console) -> None:
    """Table of all contenders, those that were skipped below it."""
    data = found["data"]
    console.print(
        f"{data['rows']:,} events, {data['features']:,} features, {100 * data['label_mean']:.3g} % positive; "
        f"{found['about']['budget']} settings tried for each"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in (
        "contender",
        "log loss",
        "AUC",
        "calibration",
        "non-zeros",
        "x FTRL's at its log loss",
        "rows/s",
    ):
        table.add_column(name, justify="left" if name == "contender" else "right")
    for name, facts in found["contenders"].items():
        if "skipped" not in facts:
            ratio = ratio_text(found[AT_LOSS].get(name))
            limited = "" if facts["rows"] == data["rows"] else f" (first {facts['rows']:,})"
            table.add_row(
                name + limited, f"{facts['log_loss']:.5f}", _number(facts["auc"], 4),
                _number(facts["calibration"], 3), f"{facts['nonzero_weights']:,}", ratio,
                f"{facts['rows_per_second'] or 0:,.0f}",
            )  # fmt: skip
    console.print(table)
    for name, facts in found["contenders"].items():
        if "skipped" in facts:
            console.print(f"{name} skipped: {facts['skipped']}")
    if found.get("report"):
        console.print(f"report: {found['report']}")


def ratio_text(ratio: dict[str, Any] | None) -> str:
    """``1.4 [1.2, 1.7]``, or by how much the level was missed."""
    if ratio is None:
        return "1"
    if ratio["ratio"] is None:
        gap = ratio.get("gap")
        return "never" if gap is None else f"never: {gap:.4f} short"
    low, high = ratio["interval"]
    return f"{factor(ratio['ratio'])} [{factor(low)}, {factor(high)}]"


def factor(value: float | None) -> str:
    """Two digits; the sign for infinity where there is no value."""
    if value is None:
        return "∞"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
