"""The results as a table for people."""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from bench.result import Result

# Units of which less is better; of the others, more is.
LESS_IS_BETTER = ("ns/cell", "ns/feature", "us", "us/row", "ms", "ms p99", "s", "MB")
# Those of a figure that says nothing of the contender.
NEITHER_IS_BETTER = ("% stolen",)


def print_results(machine: dict[str, Any], results: Sequence[Result], console: Console) -> None:
    """One table a group, with the factor by which each contender is better than the baseline."""
    console.print(
        f"{machine['processor']}, {machine['usable_cores']} cores, {machine['memory_gb']} GB, "
        f"load before {machine['load_before']}; Python {machine['python']}",
        style="dim",
    )
    for group in dict.fromkeys(result.group for result in results):
        found = [result for result in results if result.group == group]
        console.print(_table(group, found))
        for contender, reason in dict.fromkeys((r.contender, r.skipped) for r in found if r.skipped):
            console.print(Text(f"{contender} skipped: {reason}", "yellow"))


def _table(group: str, results: list[Result]) -> Table:
    baseline = importlib.import_module(f"bench.groups.{group}").BASELINE
    table = Table(title=group, title_justify="left", title_style="bold")
    table.add_column("what")
    table.add_column("contender")
    for name in ("median", "min", "max"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    if baseline is not None:
        table.add_column(f"x {baseline}", justify="right")
    last = ""
    for result in results:
        what = "" if result.name == last else result.name
        last = result.name
        if result.skipped is not None:
            table.add_row(what, result.contender, Text("skipped", "yellow"))  # the reason follows the table
            continue
        numbers = [quantity(value) for value in (result.median, result.min, result.max)]
        factor = [] if baseline is None else [_factor(result, baseline, results)]
        table.add_row(what, result.contender, *numbers, result.unit, *factor)
    return table


def _factor(result: Result, baseline: str | None, results: list[Result]) -> str:
    factor = factor_of(result, baseline, results)
    return "" if factor is None else f"{factor:.2f}"


def factor_of(result: Result, baseline: str | None, results: Sequence[Result]) -> float | None:
    """How many times better than the baseline's figure of the same name; None without one.

    "vw or isal": vw, and isal where vw does not take part.
    """
    if baseline is None or result.unit in NEITHER_IS_BETTER:
        return None
    found = {r.contender: r for r in results if (r.group, r.name) == (result.group, result.name)}
    for other in [found[name] for name in baseline.split(" or ") if name in found]:
        if other.median > 0 and result.median > 0:
            factor = result.median / other.median
            return 1.0 / factor if result.unit in LESS_IS_BETTER else factor
    return None


def quantity(value: float) -> str:
    """Three digits that matter, thousands separated."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.2f}" if abs(value) >= 1 else f"{value:.3f}"
