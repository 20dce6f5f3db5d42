"""The summary on the terminal: one line a contender."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.comparison.method import REFERENCE
from bench.comparison.results import AT_LOSS

_COLUMNS = ("contender", "log loss", "AUC", "calibration", "weights", "at FTRL's log loss", "rows/s")


def print_summary(found: dict[str, Any], console: Console) -> None:
    """Table of all contenders, those that were skipped below it, and how to use what was found.

    ``console`` takes text as it is, without markup: reasons and paths may hold square brackets.
    """
    data = found["data"]
    console.print(
        f"{data['rows']:,} events, {data['features']:,} features, {100 * data['label_mean']:.3g} % positive; "
        f"{found['about']['budget']} settings tried for each"
    )
    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name == "contender" else "right")
    for name, facts in found["contenders"].items():
        if "skipped" not in facts:
            limited = "" if facts["rows"] == data["rows"] else f" (first {facts['rows']:,})"
            table.add_row(
                name + limited, f"{facts['log_loss']:.5f}", _number(facts["auc"], 4),
                _number(facts["calibration"], 3), f"{facts['nonzero_weights']:,}",
                ratio_text(found[AT_LOSS].get(name)), f"{facts['rows_per_second'] or 0:,.0f}",
            )  # fmt: skip
    console.print(table)
    console.print(caption(found), style="dim")
    for name, facts in found["contenders"].items():
        if "skipped" in facts:
            console.print(f"{name} skipped: {facts['skipped']}")
    command = found["learn"].get(REFERENCE)
    if command is not None:
        # Not broken into lines, so that it can be copied.
        console.print(Text(f"to learn with FTRL-Proximal's settings:\n  {command}"), soft_wrap=True)
    if found.get("report"):
        console.print(f"report: {found['report']}", soft_wrap=True)


def caption(found: dict[str, Any]) -> str:
    """How the table is read: which of its columns can be compared from row to row."""
    share = f"{100 * found['about']['tolerance']:.3g} %"
    text = (
        f"Each row shows that contender's sparsest settings within {share} of its own lowest log loss, so "
        "log losses differ and weights (those that are not zero) are not to be compared from row to row."
    )
    ratios = found[AT_LOSS].values()
    if not ratios:
        return text
    text += (
        ' "At FTRL\'s log loss" is to be compared: the weights it takes for the log loss of FTRL-Proximal, '
        "as a multiple of FTRL-Proximal's, with a 95 % interval."
    )
    if any(ratio["ratio"] is None for ratio in ratios):
        text += ' "Not reached, +0.001": with no settings tried; its lowest log loss is 0.001 higher.'
    return text


def ratio_text(ratio: dict[str, Any] | None) -> str:
    """``1.4 x [1.2, 1.7]``, or by how much the level was missed."""
    if ratio is None:
        return "1 x"
    if ratio["ratio"] is None:
        gap = ratio.get("gap")
        return "not reached" if gap is None else f"not reached, +{gap:.4f}"
    low, high = ratio["interval"]
    return f"{factor(ratio['ratio'])} x [{factor(low)}, {factor(high)}]"


def factor(value: float | None) -> str:
    """Two digits; the sign for infinity where there is no value."""
    if value is None:
        return "∞"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _number(value: float | None, digits: int) -> str:
    return "-" if value is None else f"{value:.{digits}f}"
