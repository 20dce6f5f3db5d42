"""The charts as PNG by matplotlib, for slides and papers; without matplotlib there are none."""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from bench.report.chart import Axis, Chart, Forest, tick_label
from bench.report.charts import charts, forest

NEEDS = "matplotlib"
_DOTS_PER_INCH = 160
_COLORS = (
    "#c2300b", "#b56a00", "#1f6fb2", "#3b86c4", "#1f7a4c", "#5b8a3f", "#8a5fb0", "#b8860b",
    "#d1608f", "#6b7a8f", "#0f8b8d", "#7a5230", "#4059ad", "#2a9d84", "#7a2e8c", "#777777",
)  # fmt: skip
_MARKERS = ("o", "s", "^", "D", "v")
_JOINS = {"solid": "-", "dashed": "--", "none": ""}


def write_plots(found: Mapping[str, Any], directory: Path) -> bool:
    """Whether there is a matplotlib to write them with."""
    if importlib.util.find_spec(NEEDS) is None:
        return False
    # Figures of their own, without the global state of pyplot.
    figures: Any = importlib.import_module("matplotlib.figure")
    for chart in charts(found):
        _save(_chart(figures, chart), directory / f"{chart.name}.png")
    ratios = forest(found)
    if ratios is not None:
        _save(_forest(figures, ratios), directory / f"{ratios.name}.png")
    return True


def _save(figure: Any, path: Path) -> None:
    # Without the version of the library: equal results give equal files.
    figure.savefig(path, dpi=_DOTS_PER_INCH, metadata={"Software": None})


def _chart(figures: Any, chart: Chart) -> Any:
    figure = figures.Figure(figsize=(9.6, 5.2), layout="constrained")
    axes = figure.subplots()
    for series in reversed(chart.series):
        color = _COLORS[series.place % len(_COLORS)]
        marker = _MARKERS[series.place % len(_MARKERS)] if series.markers or chart.diagonal else None
        xs, ys = zip(*series.points, strict=True)
        width = 2.6 if series.place == 0 else 1.4
        style = _JOINS[series.join]
        axes.plot(
            xs, ys, style, color=color, marker=marker, markersize=4, linewidth=width, label=series.title
        )
        if series.band:
            at, low, high = zip(*series.band, strict=True)
            axes.fill_between(at, low, high, color=color, alpha=0.13, linewidth=0)
    for level, words in chart.levels:
        axes.axhline(level, color="#586474", linestyle="--", linewidth=1)
        axes.text(chart.x.least, level, f" {words}", va="bottom", fontsize=8, color="#586474")
    if chart.diagonal:
        axes.plot(*[(chart.x.least, chart.x.most)] * 2, color="#586474", linestyle="--", linewidth=1)
    _set_axis(axes, "x", chart.x)
    _set_axis(axes, "y", chart.y)
    if chart.right is not None:
        label, factor = chart.right
        other = axes.secondary_yaxis("right", functions=(lambda v: v * factor, lambda v: v / factor))
        other.set_ylabel(label)
    axes.grid(color="#d9dcd8", linewidth=0.6)
    axes.set_title(chart.title, fontsize=11)
    handles, labels = axes.get_legend_handles_labels()
    figure.legend(handles[::-1], labels[::-1], fontsize=8, loc="outside right upper", frameon=False)
    return figure


def _set_axis(axes: Any, which: str, axis: Axis) -> None:
    getattr(axes, f"set_{which}scale")("log" if axis.log else "linear")
    getattr(axes, f"set_{which}lim")(axis.least, axis.most)
    getattr(axes, f"set_{which}label")(axis.label)
    ticks = axis.ticks()
    getattr(axes, f"set_{which}ticks")(ticks, [tick_label(tick) for tick in ticks])
    getattr(axes, f"{which}axis").minorticks_off()


def _forest(figures: Any, chart: Forest) -> Any:
    figure = figures.Figure(figsize=(8.8, 1.2 + 0.46 * len(chart.bars)), layout="constrained")
    axes = figure.subplots()
    for row, bar in enumerate(chart.bars):
        color = _COLORS[bar.place % len(_COLORS)]
        for values, face, shift in ((bar.filled, color, -0.13), (bar.hollow, "white", 0.18)):
            if values is not None:
                value, low, high = values
                ends = (value if low is None else low, chart.x.most if high is None else high)
                axes.plot(
                    ends, [row + shift] * 2, color=color, linewidth=1.8, alpha=1 if face == color else 0.5
                )
                axes.plot(value, row + shift, "o", color=color, markerfacecolor=face, markersize=6)
    _set_axis(axes, "x", chart.x)
    axes.axvline(1.0, color="#586474", linewidth=1)
    # Words stand with the names, where no marker can run into them.
    names = [bar.title if bar.filled else f"{bar.title}\n{bar.words}" for bar in chart.bars]
    axes.set_yticks(range(len(chart.bars)), names)
    axes.set_ylim(-0.6, len(chart.bars) - 0.4)
    axes.invert_yaxis()
    axes.grid(axis="x", color="#d9dcd8", linewidth=0.6)
    axes.set_title(chart.title, fontsize=11)
    return figure
